"""A small process that outlives the server for a moment and puts everything back, also after kill -9.

Most of what Thaw makes belongs to a descriptor or a process of the server and goes with it: sandboxes, mounts, links,
the firewall's table. Control groups and the machine's forwarding switch are not like that. This process holds the
read end of a pipe whose only write end is the server's: end of file means that the server is gone.
"""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

from thaw.environment import cgroup
from thaw.environment.settings import FORWARDING_SWITCH

# The switch's former value; every server that relies on it holds a shared lock on this file.
_RECORD = Path("/run/thaw-forwarding")


class Reaper:
    """The server's side: start it first, close it last."""

    def __init__(self, name: str, *, forwarding: bool) -> None:
        """`name` is that of the server's control groups. With `forwarding` packets may pass through this machine for
        as long as the server lives."""
        read_end, self._write_end = os.pipe2(os.O_CLOEXEC)
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", "-c", _PROGRAM, name, str(int(forwarding))],
                {},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_DUP2, read_end, 0),
                ],
                setsid=True,
            )
        finally:
            os.close(read_end)

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._pid

    def close(self) -> None:
        """Let it clean up; returns when it has. For a thread."""
        if self._write_end >= 0:
            os.close(self._write_end)
            self._write_end = -1
            os.waitpid(self._pid, 0)


_PROGRAM = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from thaw.environment.reaper import main
main(sys.argv[1], sys.argv[2] == "1")
"""


def main(name: str, forwarding: bool) -> None:
    """The process itself: clean up after servers that died, wait for the end of this one, clean up after it."""
    layout = cgroup.find_layout()
    record = _hold_forwarding() if forwarding else None
    cgroup.remove_dead(layout)
    while os.read(0, 64):
        continue
    for root in layout.roots():
        cgroup.remove_tree(root / name)
    if record is not None:
        _release_forwarding(record)


def _hold_forwarding() -> int:
    """Set the switch where it is off, and remember that it was."""
    record = os.open(_RECORD, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(record, fcntl.LOCK_SH)
    if FORWARDING_SWITCH.read_text().strip() == "0":
        os.pwrite(record, b"0", 0)
        FORWARDING_SWITCH.write_text("1")
    return record


def _release_forwarding(record: int) -> None:
    """The last server puts it back."""
    try:
        fcntl.flock(record, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    if os.pread(record, 1, 0) == b"0":
        FORWARDING_SWITCH.write_text("0")
    _RECORD.unlink(missing_ok=True)
