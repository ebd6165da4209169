"""Control groups of sandboxes: memory, CPU and process limits, freezing, and what was used.

The kernel offers them in three forms (version 1, version 2, and both side by side); here every limit is one file
that takes one number, wherever it lives. All files of a group are opened when the sandbox enters the pool, so that
giving a pooled sandbox its limits is a few plain writes.

Groups are called `thaw-<instance>/<environment>`. The server holds a lock on its own folder, so that another server
can tell the groups of a dead one from those of a living one, across process namespaces too.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from thaw.environment.scarcity import scarce
from thaw.errors import SandboxError

PREFIX = "thaw-"
# Lambda gives one vCPU at 1769 MB; the quota is dealt out in slices short enough for a small function to stay smooth.
MIB_PER_CPU = 1769
PERIOD_US = 20_000

_CONTROLLERS = ("memory", "cpu", "pids")
# Our file -> (version 1 controller and name, version 2 name)
_FILES = {
    "memory": ("memory", "memory.limit_in_bytes", "memory.max"),
    "swap": ("memory", "memory.memsw.limit_in_bytes", "memory.swap.max"),
    "oom": ("memory", "memory.oom_control", "memory.events"),
    "cpu": ("cpu", "cpu.cfs_quota_us", "cpu.max"),
    "pids": ("pids", "pids.max", "pids.max"),
    "freeze": ("freezer", "freezer.state", "cgroup.freeze"),
    "events": ("", "", "cgroup.events"),
    "procs": ("", "", "cgroup.procs"),
    "kill": ("", "", "cgroup.kill"),
}
_OPTIONAL = {"swap", "events", "kill", "procs"}

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Layout:
    """Which folder holds which controller: `version1` by controller name, `version2` or None.

    `limits2` says that memory, cpu and pids are controlled through version 2.
    """

    version1: dict[str, Path]
    version2: Path | None
    limits2: bool

    def roots(self) -> list[Path]:
        """Every folder in which a group has to exist, each once."""
        names = ("freezer",) if self.version2 is None else ()
        wanted = () if self.limits2 else _CONTROLLERS
        folders = [self.version1[name] for name in (*wanted, *names) if name in self.version1]
        folders += [self.version2] if self.version2 else []
        return list(dict.fromkeys(folders))

    def file_of(self, key: str) -> tuple[Path, str] | None:
        """The root folder and the file name for `key` of _FILES; None where this kernel has none."""
        controller, name1, name2 = _FILES[key]
        second = controller in ("", "freezer") or self.limits2
        if second and self.version2:
            return self.version2, name2
        root = self.version1.get(controller)
        return (root, name1) if root else None


NO_GROUPS = Layout({}, None, limits2=False)
"""For a server that may not make any: every limit is then left out."""


def find_layout(mountinfo: str | None = None) -> Layout:
    """Read where the control groups are mounted (`mountinfo` is for tests; default: this process's)."""
    text = mountinfo if mountinfo is not None else Path("/proc/self/mountinfo").read_text()
    version1: dict[str, Path] = {}
    version2: Path | None = None
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        where, (kind, _, options) = Path(left.split(" ")[4]), right.split(" ", 2)
        if kind == "cgroup2":
            version2 = version2 or where
        elif kind == "cgroup":
            version1 |= {name: where for name in options.split(",") if name in (*_CONTROLLERS, "freezer")}
    return Layout(version1, version2, limits2=version2 is not None and "memory" not in version1)


class GroupTree:
    """The groups of one server; `close` leaves nothing behind."""

    def __init__(self, instance: str, layout: Layout | None = None) -> None:
        """Make the server's own folder in every hierarchy. Raises SandboxError where that is not permitted."""
        self.layout = layout or find_layout()
        self.name = PREFIX + instance
        self._locks: list[int] = []
        try:
            for root in self.layout.roots():
                (root / self.name).mkdir()
                self._locks.append(_locked(root / self.name))
            if self.layout.limits2:
                self._delegate()
        except OSError as error:
            message = f"Control groups cannot be made ({error}); run Thaw as root with a writable /sys/fs/cgroup."
            raise SandboxError(message, step="cgroup") from error

    def folders(self) -> list[Path]:
        """The server's own folder in each hierarchy."""
        return [root / self.name for root in self.layout.roots()]

    def create(self, environment: str, process_limit: int) -> Group:
        """Make the group of one sandbox, for at most `process_limit` processes and threads. Raises SandboxError."""
        files = GroupFiles({}, None, self.layout.limits2, self.layout.version2 is not None)
        group = Group(environment, [folder / environment for folder in self.folders()], files)
        try:
            for folder in group.folders:
                folder.mkdir()
            self._open(environment, files)
            group.prepare(process_limit)
        except OSError as error:
            group.close()
            raise scarce("The control group of a sandbox", error, step="cgroup") from error
        return group

    def _open(self, environment: str, files: GroupFiles) -> None:
        for key in _FILES:
            place = self.layout.file_of(key)
            if place is None:
                continue
            path = place[0] / self.name / environment / place[1]
            flags = os.O_RDONLY if key in ("oom", "events") else os.O_WRONLY if key == "kill" else os.O_RDWR
            try:
                files.descriptors[key] = os.open(path, flags | os.O_CLOEXEC)
            except OSError as error:
                if key not in _OPTIONAL or error.errno in (errno.EMFILE, errno.ENFILE):
                    raise
        if self.layout.version2 is not None:
            files.folder = os.open(self.layout.version2 / self.name / environment, os.O_RDONLY | os.O_CLOEXEC)

    def _delegate(self) -> None:
        """Version 2 hands controllers down one level at a time."""
        assert self.layout.version2 is not None
        for folder in (self.layout.version2, self.layout.version2 / self.name):
            (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in _CONTROLLERS))

    def close(self) -> None:
        """Kill what is left in the groups and remove them; returns when they are gone."""
        for folder in self.folders():
            remove_tree(folder)
        for lock in self._locks:
            os.close(lock)
        self._locks.clear()


@dataclass(slots=True)
class GroupFiles:
    """Open descriptors of one group; a missing key means that this kernel has no such file."""

    descriptors: dict[str, int]
    folder: int | None
    limits2: bool
    freezer2: bool

    def close(self) -> None:
        for descriptor in self.descriptors.values():
            os.close(descriptor)
        self.descriptors.clear()
        if self.folder is not None:
            os.close(self.folder)
            self.folder = None


@dataclass(slots=True)
class Group:
    """The control group of one sandbox. Methods are single small reads and writes and may run on the event loop."""

    name: str
    folders: list[Path]
    files: GroupFiles
    frozen: bool = field(default=False)

    def prepare(self, process_limit: int) -> None:
        """What every sandbox gets before anybody knows which function it will run."""
        self._write("pids", b"%d" % process_limit)
        if not self.files.limits2 and "cpu" in self.files.descriptors:
            for folder in self.folders:
                if (period := folder / "cpu.cfs_period_us").exists():
                    period.write_text(str(PERIOD_US))

    @property
    def folder(self) -> int | None:
        """Descriptor of the version 2 folder, to be born in; None on a pure version 1 system."""
        return self.files.folder

    def add(self, pid: int) -> None:
        """Move a process in, in every hierarchy. Under version 1 this may wait for the kernel: keep it off the loop."""
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(pid))

    def limit_memory(self, limit_bytes: int) -> None:
        """Bound memory, and swap with it (a function does not swap)."""
        if not self.files.limits2:
            self._write("swap", b"-1")  # version 1 wants memory never to be above memory and swap together
        self._write("memory", b"%d" % limit_bytes)
        self._write("swap", b"0" if self.files.limits2 else b"%d" % limit_bytes)

    def limit_cpu(self, cpus: float | None) -> None:
        """Bound CPU time to `cpus` processors; None lifts the bound."""
        quota = -1 if cpus is None else max(1000, round(cpus * PERIOD_US))
        if self.files.limits2:
            self._write("cpu", b"max %d" % PERIOD_US if quota < 0 else b"%d %d" % (quota, PERIOD_US))
        else:
            self._write("cpu", b"%d" % quota)

    def freeze(self) -> None:
        """Stop every process where it is; returns before the last of them has stopped."""
        self.frozen = True
        self._write("freeze", b"1" if self.files.freezer2 else b"FROZEN")

    def thaw(self) -> None:
        """Let the processes go on."""
        self.frozen = False
        self._write("freeze", b"0" if self.files.freezer2 else b"THAWED")

    def is_stopped(self) -> bool:
        """Whether every process has stopped."""
        if "events" in self.files.descriptors:
            return b"frozen 1" in self._read("events")
        return self._read("freeze").startswith(b"FROZEN")

    def oom_kills(self) -> int:
        """How many processes the kernel has killed here because the memory limit was reached."""
        for line in self._read("oom").splitlines():
            if line.startswith(b"oom_kill "):
                return int(line[9:])
        return 0

    def processes(self) -> list[int]:
        """Process numbers, as this process sees them."""
        if "procs" in self.files.descriptors:
            return [int(word) for word in self._read_all("procs").split()]
        if not self.folders:
            return []  # there are no control groups
        # Version 1 answers an open file from a copy that may be a second old.
        try:
            return [int(word) for word in (self.folders[0] / "cgroup.procs").read_text().split()]
        except FileNotFoundError:
            return []  # the group is gone

    def kill(self) -> None:
        """Kill everything inside, frozen or not, where the kernel has a file for it."""
        if "kill" in self.files.descriptors:
            self._write("kill", b"1")
        elif not self.files.freezer2 and self.frozen:
            self.thaw()

    def close(self) -> None:
        """Close the descriptors and remove the group, whose processes are dead or dying. May wait: not on the loop."""
        self.files.close()
        for folder in self.folders:
            _remove(folder)

    def _write(self, key: str, value: bytes) -> None:
        descriptor = self.files.descriptors.get(key)
        if descriptor is None:
            return
        try:
            os.pwrite(descriptor, value, 0)
        except OSError as error:
            if error.errno != errno.ENODEV:  # the group was removed under us: its processes are gone with it
                raise

    def _read(self, key: str) -> bytes:
        descriptor = self.files.descriptors.get(key)
        return b"" if descriptor is None else os.pread(descriptor, 65536, 0)

    def _read_all(self, key: str) -> bytes:
        """A list of any length, of which the kernel gives one page at a time (seq_file)."""
        descriptor = self.files.descriptors[key]
        content = b""
        while piece := os.pread(descriptor, 65536, len(content)):
            content += piece
        return content


def remove_tree(folder: Path) -> None:
    """Kill what lives in `folder` and below, and remove the groups. Waits for at most a few seconds."""
    for group in sorted(_groups_under(folder), key=lambda path: -len(path.parts)):
        _kill(group)
        _remove(group)


def remove_dead(layout: Layout | None = None) -> list[Path]:
    """Remove the groups of servers that no longer run; returns their folders."""
    removed = []
    for root in (layout or find_layout()).roots():
        for folder in root.glob(f"{PREFIX}*"):
            if _is_dead(folder):
                remove_tree(folder)
                removed.append(folder)
    return removed


def _groups_under(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield folder
        yield from (path for path in folder.rglob("*") if path.is_dir())


def _kill(group: Path) -> None:
    """Version 2 kills in one write; version 1 process by process, thawed first so that they can die."""
    for name, value in (("cgroup.kill", "1"), ("freezer.state", "THAWED")):
        if (group / name).exists():
            (group / name).write_text(value)
    for line in (group / "cgroup.procs").read_text().split():
        try:
            os.kill(int(line), 9)
        except ProcessLookupError:
            continue


def _remove(group: Path, limit_s: float = 5.0) -> None:
    """rmdir, again while processes are still on their way out."""
    deadline = time.monotonic() + limit_s
    pause = 0.001
    while True:
        try:
            group.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                _logger.warning("The control group %s could not be removed: %s.", group, error)
                return
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


def _locked(folder: Path) -> int:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def _is_dead(folder: Path) -> bool:
    try:
        os.close(_locked(folder))
    except OSError:
        return False
    return True
