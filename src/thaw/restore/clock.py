"""The clocks of a snapshot: on another machine, or after a reboot, they may stand earlier than when it was frozen.

No program is written for a monotonic clock that runs backwards: deadlines would lie days ahead. So clones of such a
snapshot live in a time namespace (time_namespaces(7)) in which both clocks go on from where the snapshot left them.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from thaw.errors import RestoreRefused

_CLONE_NEWTIME: Final = 0x80
_NS: Final = 1_000_000_000
# Names in timens_offsets, with their clocks.
_CLOCKS: Final = {"monotonic": time.CLOCK_MONOTONIC, "boottime": time.CLOCK_BOOTTIME}
# The namespace is made a moment before a clone reads its clocks, never after; still, no clock may stand still for it.
_MARGIN_NS: Final = 1_000_000


def lag(facts: Mapping[str, Any]) -> dict[str, int]:
    """By how many nanoseconds each clock of this machine is behind the snapshot's; empty where none is.

    Snapshots of earlier versions of Thaw do not say where their clocks stood.
    """
    frozen: Mapping[str, int] = facts.get("clocks", {})
    behind = {name: frozen.get(name, 0) - time.clock_gettime_ns(clock) for name, clock in _CLOCKS.items()}
    return {name: difference + _MARGIN_NS for name, difference in behind.items() if difference > 0}


def time_namespace(facts: Mapping[str, Any]) -> int | None:
    """A descriptor of a time namespace for clones of a snapshot; None where this machine's clocks are not behind.

    Raises:
        RestoreRefused: the clocks are behind, and the kernel permits no time namespace.
    """
    behind = lag(facts)
    if not behind:
        return None
    with ThreadPoolExecutor(1, "thaw-clock") as thread:  # a thread of its own, because it leaves for the namespace
        try:
            return thread.submit(_make, behind).result()
        except OSError as error:
            seconds = max(behind.values()) / _NS
            raise RestoreRefused(
                f"The clocks of this machine are {seconds:.0f} s behind those of the snapshot, and the kernel permits "
                f"no time namespace to put them forward ({error.strerror}): publish the version again here."
            ) from error


def _make(behind: Mapping[str, int]) -> int:
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWTIME) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    own = Path(f"/proc/{threading.get_native_id()}")
    # The offsets are those of the machine's clocks: a server in a time namespace of its own hands on what it has.
    inherited = {
        name: int(seconds) * _NS + int(nanoseconds)
        for name, seconds, nanoseconds in map(str.split, (own / "timens_offsets").read_text().splitlines())
    }
    wanted = {name: inherited.get(name, 0) + difference for name, difference in behind.items()}
    text = "".join(f"{name} {offset // _NS} {offset % _NS}\n" for name, offset in wanted.items())
    (own / "timens_offsets").write_text(text)
    return os.open(own / "ns" / "time_for_children", os.O_RDONLY | os.O_CLOEXEC)
