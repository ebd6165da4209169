"""A snapshot of another machine is refused with a sentence before anything of it is mapped."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import time
from pathlib import Path
from typing import Any

import pytest

from thaw.errors import RestoreRefused
from thaw.restore import clock
from thaw.restore.check import PLAN_VERSION, check, check_files, check_plan
from thaw.snapshot import plan
from thaw.snapshot.cpu import cpu_flags

HOUR_NS = 3600 * 10**9


def own_facts() -> dict[str, Any]:
    """What a snapshot that was taken here, now, says of this machine; found out by other means than the check's."""
    parts = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if (match := re.match(r"(\w+)-(\w+) .*\[(vvar|vdso)", line)) is not None:
            start = int(match[1], 16)
            parts.append((start, int(match[2], 16) - start))
    with open("/proc/self/mem", "rb") as memory:
        memory.seek(parts[-1][0])
        vdso = memory.read(parts[-1][1])
    return {
        "architecture": platform.machine(),
        "kernel": platform.release(),
        "cpu_flags": cpu_flags(),
        "special": [[start - parts[0][0], size] for start, size in parts],
        "vdso_sha256": hashlib.sha256(vdso).hexdigest(),
    }


def refusal(facts: dict[str, Any]) -> str:
    with pytest.raises(RestoreRefused) as caught:
        check(facts)
    return str(caught.value)


def test_a_snapshot_of_this_machine_is_accepted() -> None:
    check(own_facts())


def test_a_snapshot_of_a_lesser_processor_is_accepted() -> None:
    facts = own_facts()
    check(facts | {"cpu_flags": facts["cpu_flags"][1:]})


def test_another_architecture_is_refused() -> None:
    assert refusal(own_facts() | {"architecture": "aarch64"}) == (
        f"The snapshot was taken on aarch64 and this machine is {platform.machine()}: publish the version again here."
    )


def test_a_processor_that_lacks_features_is_refused() -> None:
    facts = own_facts()
    assert refusal(facts | {"cpu_flags": [*facts["cpu_flags"], "zz_first", "zz_second"]}) == (
        "The snapshot was taken on a processor with zz_first, zz_second, which this machine's lacks: "
        "publish the version again here."
    )


@pytest.mark.parametrize("changed", [{"vdso_sha256": "0" * 64}, {"special": [[0, 4096], [4096, 4096], [8192, 4096]]}])
def test_another_vdso_is_refused(changed: dict[str, Any]) -> None:
    assert refusal(own_facts() | {"kernel": "5.0.0-other"} | changed) == (
        f"The snapshot was taken under kernel 5.0.0-other and this machine runs {platform.release()}, "
        "whose vDSO differs: publish the version again here."
    )


def test_a_mapped_file_that_changed_or_went_is_refused(tmp_path: Path) -> None:
    library = tmp_path / "lib.so"
    library.write_bytes(b"code")
    facts = {"mapped_files": [["/lib.so", 4, library.stat().st_mtime_ns]]}
    check_files(facts, str(tmp_path))
    os.utime(library, (1, 1))
    with pytest.raises(RestoreRefused) as caught:
        check_files(facts, str(tmp_path))
    assert str(caught.value) == (
        "The file /lib.so, which the function had mapped, changed since the snapshot was taken: "
        "publish the version again."
    )
    library.unlink()
    with pytest.raises(RestoreRefused) as caught:
        check_files(facts, str(tmp_path))
    assert str(caught.value) == (
        "The file /lib.so, which the function had mapped, cannot be read any more (No such file or directory): "
        "publish the version again."
    )


def test_a_plan_of_another_version_is_refused() -> None:
    assert PLAN_VERSION == plan.VERSION
    check_plan(b"THAWPLAN" + PLAN_VERSION.to_bytes(4, "little"))
    with pytest.raises(RestoreRefused) as caught:
        check_plan(b"THAWPLAN" + (PLAN_VERSION - 1).to_bytes(4, "little"))
    assert str(caught.value) == (
        f"The snapshot has a restore plan of version {PLAN_VERSION - 1}, and this Thaw restores version "
        f"{PLAN_VERSION}: publish the version again."
    )


# --- clocks -----------------------------------------------------------------------------------------------------------


def clocks(ahead_ns: int) -> dict[str, Any]:
    return {
        "clocks": {
            "monotonic": time.clock_gettime_ns(time.CLOCK_MONOTONIC) + ahead_ns,
            "boottime": time.clock_gettime_ns(time.CLOCK_BOOTTIME) + ahead_ns,
        }
    }


def test_clocks_that_went_on_need_no_namespace() -> None:
    assert clock.lag(clocks(0)) == {}
    assert clock.lag({}) == {}
    assert clock.time_namespace(clocks(0)) is None


def test_clocks_that_stand_earlier_are_told_apart() -> None:
    behind = clock.lag(clocks(HOUR_NS))
    assert set(behind) == {"monotonic", "boottime"}
    assert all(abs(HOUR_NS - value) < 60 * 10**9 for value in behind.values())


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="a time namespace needs root")
@pytest.mark.skipif(not Path("/proc/self/ns/time").exists(), reason="this kernel has no time namespaces")
def test_the_namespace_has_the_snapshots_clocks_and_the_server_keeps_its_own() -> None:
    before = time.monotonic_ns()
    facts = clocks(HOUR_NS)
    namespace = clock.time_namespace(facts)
    assert namespace is not None
    try:
        assert 0 <= time.monotonic_ns() - before < HOUR_NS
        child = os.fork()
        if child == 0:
            os._exit(_child(namespace, facts))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        os.close(namespace)


def _child(namespace: int, facts: dict[str, Any]) -> int:
    """0 where both clocks in the namespace are at or after the snapshot's, and not by far."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).setns(namespace, 0x80) != 0:
        return 1
    for name, which in (("monotonic", time.CLOCK_MONOTONIC), ("boottime", time.CLOCK_BOOTTIME)):
        ahead = time.clock_gettime_ns(which) - facts["clocks"][name]
        if not 0 <= ahead < HOUR_NS:
            return 2
    return 0


def test_without_the_right_to_a_namespace_the_snapshot_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(behind: object) -> int:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(clock, "_make", refuse)
    with pytest.raises(RestoreRefused) as caught:
        clock.time_namespace(clocks(HOUR_NS))
    assert re.fullmatch(
        r"The clocks of this machine are 3[56]\d\d s behind those of the snapshot, and the kernel permits no time "
        r"namespace to put them forward \(Operation not permitted\): publish the version again here\.",
        str(caught.value),
    )
