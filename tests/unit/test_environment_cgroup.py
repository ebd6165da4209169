"""Control groups in the three forms in which kernels offer them."""

from __future__ import annotations

from pathlib import Path

import pytest

from thaw.environment.cgroup import Group, GroupFiles, find_layout

LINE = "30 25 0:26 / {place} rw,nosuid shared:9 - {kind} {source} {options}\n"


def mountinfo(*places: tuple[str, str, str]) -> str:
    return "".join(LINE.format(place=place, kind=kind, source=kind, options=options) for place, kind, options in places)


UNIFIED = mountinfo(("/sys/fs/cgroup", "cgroup2", "rw,nsdelegate"))
LEGACY = mountinfo(
    ("/c/memory", "cgroup", "rw,memory"),
    ("/c/cpu", "cgroup", "rw,cpu,cpuacct"),
    ("/c/pids", "cgroup", "rw,pids"),
    ("/c/freezer", "cgroup", "rw,freezer"),
)
HYBRID = LEGACY + mountinfo(("/c/unified", "cgroup2", "rw"))


def place(text: str, key: str) -> str | None:
    found = find_layout(text).file_of(key)
    return f"{found[0]}/{found[1]}" if found else None


@pytest.mark.parametrize(
    ("text", "memory", "cpu", "freeze", "kill"),
    [
        (UNIFIED, "memory.max", "cpu.max", "cgroup.freeze", "cgroup.kill"),
        (LEGACY, "memory.limit_in_bytes", "cpu.cfs_quota_us", "freezer.state", None),
        (HYBRID, "memory.limit_in_bytes", "cpu.cfs_quota_us", "cgroup.freeze", "cgroup.kill"),
    ],
    ids=["version 2", "version 1", "both"],
)
def test_each_limit_is_one_file(text: str, memory: str, cpu: str, freeze: str, kill: str | None) -> None:
    found = [place(text, key) for key in ("memory", "cpu", "freeze", "kill")]
    assert [name and Path(name).name for name in found] == [memory, cpu, freeze, kill]


def test_a_group_is_made_in_every_hierarchy_that_is_used() -> None:
    assert find_layout(UNIFIED).roots() == [Path("/sys/fs/cgroup")]
    assert find_layout(LEGACY).roots() == [Path("/c/memory"), Path("/c/cpu"), Path("/c/pids"), Path("/c/freezer")]
    assert find_layout(HYBRID).roots() == [Path("/c/memory"), Path("/c/cpu"), Path("/c/pids"), Path("/c/unified")]


def group(folder: Path, *, limits2: bool, freezer2: bool) -> Group:
    """A group whose files are plain ones."""
    names = ("memory", "swap", "cpu", "freeze", "oom")
    files = {name: (folder / name).open("w+b", buffering=0) for name in names}
    kept.extend(files.values())
    return Group("g", [folder], GroupFiles({n: f.fileno() for n, f in files.items()}, None, limits2, freezer2))


kept: list[object] = []


def test_what_is_written_for_version_1(tmp_path: Path) -> None:
    made = group(tmp_path, limits2=False, freezer2=False)
    made.limit_cpu(0.5)
    made.limit_memory(1 << 30)
    made.freeze()
    assert (tmp_path / "cpu").read_text() == "10000"
    assert (tmp_path / "memory").read_text() == (tmp_path / "swap").read_text() == str(1 << 30)
    assert (tmp_path / "freeze").read_text() == "FROZEN"
    made.thaw()
    assert (tmp_path / "freeze").read_text() == "THAWED"


def test_what_is_written_for_version_2(tmp_path: Path) -> None:
    made = group(tmp_path, limits2=True, freezer2=True)
    made.limit_cpu(None)
    made.limit_memory(1 << 30)
    made.freeze()
    assert (tmp_path / "cpu").read_text() == "max 20000"
    assert (tmp_path / "memory").read_text() == str(1 << 30)
    assert (tmp_path / "swap").read_text() == "0"
    assert (tmp_path / "freeze").read_text() == "1"


def test_a_very_small_function_gets_the_least_that_the_kernel_takes(tmp_path: Path) -> None:
    made = group(tmp_path, limits2=False, freezer2=False)
    made.limit_cpu(0.001)
    assert (tmp_path / "cpu").read_text() == "1000"


def test_out_of_memory_kills_are_counted(tmp_path: Path) -> None:
    made = group(tmp_path, limits2=False, freezer2=False)
    assert made.oom_kills() == 0
    (tmp_path / "oom").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
    assert made.oom_kills() == 3
