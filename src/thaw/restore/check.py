"""May this machine restore that snapshot? Asked before anything is mapped, so that a difference is a sentence."""

from __future__ import annotations

import hashlib
import os
import platform
import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from thaw.errors import RestoreRefused

PLAN_VERSION = 3
"""Of the restore plans that this Thaw understands; the same as in native/plan.h."""


@cache
def _own_special() -> tuple[list[list[int]], str]:
    """Layout of the kernel's mappings in a process of this machine ([offset, size] each), and the vDSO's digest."""
    found: list[tuple[int, int]] = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split()
        if len(fields) > 5 and fields[5].startswith(("[vvar", "[vdso")):
            start, end = (int(address, 16) for address in fields[0].split("-"))
            found.append((start, end - start))
    found.sort()
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        memory.seek(found[-1][0])
        image = memory.read(found[-1][1])
    return [[start - found[0][0], size] for start, size in found], hashlib.sha256(image).hexdigest()


@cache
def _own_cpu_flags() -> frozenset[str]:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return frozenset(line.split(":", 1)[1].split())
    return frozenset()


def check(facts: Mapping[str, Any]) -> None:
    """Compare processor and kernel with the facts of a snapshot.

    Raises:
        RestoreRefused: code in the snapshot could fail here.
    """
    if facts["architecture"] != platform.machine():
        raise RestoreRefused(
            f"The snapshot was taken on {facts['architecture']} and this machine is {platform.machine()}: "
            "publish the version again here."
        )
    missing = sorted(set(facts["cpu_flags"]) - _own_cpu_flags())
    if missing:
        raise RestoreRefused(
            f"The snapshot was taken on a processor with {', '.join(missing[:8])}, which this machine's lacks: "
            "publish the version again here."
        )
    special, digest = _own_special()
    if facts["special"] != special or facts["vdso_sha256"] != digest:
        raise RestoreRefused(
            f"The snapshot was taken under kernel {facts['kernel']} and this machine runs {platform.release()}, "
            "whose vDSO differs: publish the version again here."
        )


def check_plan(plan: bytes) -> None:
    """Look at the version of a restore plan: an earlier Thaw's is of no use, and the snapshot can be taken anew.

    Raises:
        RestoreRefused: it is another one.
    """
    if len(plan) < 12:
        return  # the template says what is wrong with it
    (version,) = struct.unpack_from("<I", plan, 8)
    if version != PLAN_VERSION:
        raise RestoreRefused(
            f"The snapshot has a restore plan of version {version}, and this Thaw restores version {PLAN_VERSION}: "
            "publish the version again."
        )


def check_files(facts: Mapping[str, Any], root: str) -> None:
    """Compare the files that the function had mapped with those below `root`, by size and time of change.

    Raises:
        RestoreRefused: one of them was changed since.
    """
    for path, size, changed in facts["mapped_files"]:
        try:
            status = os.stat(root + path)
        except OSError as error:
            raise RestoreRefused(
                f"The file {path}, which the function had mapped, cannot be read any more ({error.strerror}): "
                "publish the version again."
            ) from error
        if (status.st_size, status.st_mtime_ns) != (size, changed):
            raise RestoreRefused(
                f"The file {path}, which the function had mapped, changed since the snapshot was taken: "
                "publish the version again."
            )
