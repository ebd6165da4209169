"""The file tree that every sandbox starts from a copy of: a mount namespace.

It is built once per server, in a thread that then ends; only a descriptor of the namespace keeps it alive.
Nothing of it is visible on the host, and the kernel removes it with the server's last descriptor.
"""

from __future__ import annotations

import os
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from thaw.environment import mounts
from thaw.environment.system_call import CLONE_NEWNS, detach_mount, mount, pivot_root, unshare
from thaw.environment.users import FUNCTION_UID, Users
from thaw.errors import SandboxError

FUNCTION_USER = "sbx_user1051"

_MS_REC_PRIVATE = 0x4000 | 0x40000
_MOUNT_POINTS = ("proc", "tmp", "var/task", "var/runtime", "var/lang", "opt")
_SYSTEM_FOLDERS = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
_COPIED_FILES = ("ld.so.cache", "services", "protocols", "mime.types", "gai.conf", "host.conf")
# Certificates, and where distributions keep the targets of links under /usr.
_SHOWN_FOLDERS = ("ssl/certs", "pki/tls", "pki/ca-trust", "alternatives", "java-*-openjdk", "fonts")
_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
_DEVICE_LINKS = {"fd": "/proc/self/fd", "shm": "/tmp", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}


def build_file_tree(users: Users | None = None) -> int:
    """Build the file tree; returns a descriptor of its mount namespace. `users` is for sandboxes with a user namespace,
    and builds one file tree only.

    Raises SandboxError naming the step where the kernel refuses.
    """
    with ThreadPoolExecutor(1, "thaw-file-tree") as thread:
        try:
            return thread.submit(_build, users).result()
        except OSError as error:
            message = f"The sandbox's file tree could not be built ({error}); Thaw needs root and Linux 5.15 or later."
            raise SandboxError(message, step="file tree") from error


def _build(users: Users | None) -> int:
    unshare(CLONE_NEWNS)
    mount("", "/", "", _MS_REC_PRIVATE)
    namespace = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    root = mounts.memory_filesystem(64, 0o755, mounts.ATTR_NOSUID, owner=users.root if users else 0)
    try:
        _fill(Path(f"/proc/self/fd/{root}"), root)
        if users is not None:
            _hand_over(Path(f"/proc/self/fd/{root}"), users.root)
        _enter(root, users)
    except BaseException:
        os.close(namespace)
        raise
    finally:
        os.close(root)
    return namespace


def _fill(tree: Path, root: int) -> None:
    """Make files and folders first, through the detached mount; attach the host's folders when it is in place."""
    for name in (*_MOUNT_POINTS, "etc", "dev", "var/tmp"):
        (tree / name).mkdir(parents=True, exist_ok=True)
    for name in _SYSTEM_FOLDERS:
        _mirror(tree, name)
    _fill_etc(tree / "etc")
    _fill_dev(tree / "dev")


def _hand_over(tree: Path, owner: int) -> None:
    """Everything in the tree belongs to the sandboxes' root."""
    for folder, folders, files in os.walk(tree):
        for name in folders + files:
            os.lchown(os.path.join(folder, name), owner, owner)


def _mirror(tree: Path, name: str) -> None:
    """The same link, or an empty folder to mount the host's on."""
    source = Path("/") / name
    if source.is_symlink():
        (tree / name).symlink_to(source.readlink())
    elif source.is_dir():
        (tree / name).mkdir()


def _fill_etc(etc: Path) -> None:
    for name in _COPIED_FILES:
        if (source := Path("/etc") / name).is_file():
            shutil.copyfile(source, etc / name)
    for name, text in _written_files().items():
        (etc / name).write_text(text)
    (etc / "localtime").symlink_to("/usr/share/zoneinfo/UTC")
    for source in _shown_folders():
        (etc / source.relative_to("/etc")).mkdir(parents=True)


def _written_files() -> dict[str, str]:
    user = f"{FUNCTION_USER}:x:{FUNCTION_UID}:{FUNCTION_UID}::/tmp:/bin/sh\n"
    return {
        "passwd": f"root:x:0:0:root:/root:/sbin/nologin\n{user}",
        "group": f"root:x:0:\n{FUNCTION_USER}:x:{FUNCTION_UID}:\n",
        "hosts": "127.0.0.1 localhost\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
        "resolv.conf": name_servers(),
        "os-release": "NAME=Thaw\nID=thaw\nPRETTY_NAME=Thaw\n",
    }


def name_servers() -> str:
    """The host's resolv.conf as a sandbox can use it: a resolver on the host's loopback cannot be reached from there,
    so systemd-resolved's own list of upstream servers is taken instead, where there is one."""
    for candidate in (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")):
        text = candidate.read_text() if candidate.is_file() else ""
        lines = [line for line in text.splitlines() if not line.startswith(("nameserver 127.", "nameserver ::1"))]
        if any(line.startswith("nameserver") for line in lines):
            return "\n".join(lines) + "\n"
    return ""


def _shown_folders() -> list[Path]:
    return [path for name in _SHOWN_FOLDERS for path in sorted(Path("/etc").glob(name)) if path.is_dir()]


def _fill_dev(dev: Path) -> None:
    for name, (major, minor) in _DEVICES.items():
        if not _may_make_devices():
            (dev / name).touch()  # the machine's own is mounted there
            continue
        os.mknod(dev / name, 0o666 | stat.S_IFCHR, os.makedev(major, minor))
        (dev / name).chmod(0o666)
    for name, target in _DEVICE_LINKS.items():
        (dev / name).symlink_to(target)


@cache
def _may_make_devices() -> bool:
    """Not in a user namespace, whatever the capabilities there."""
    return Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]


def _borrowed(users: Users | None) -> list[tuple[int, str]]:
    """Mounts of the machine that a server in a user namespace needs: devices, and some /proc, without which the kernel
    permits no new one on top."""
    if users is not None:
        return [(os.dup(users.process_files), "proc")]
    if _may_make_devices():
        return []
    return [(mounts.tree(Path("/") / name), name) for name in (*(f"dev/{device}" for device in _DEVICES), "proc")]


def _enter(root: int, users: Users | None) -> None:
    """Make `root` the namespace's root, with the host's folders inside and nothing of the host beside it."""
    owners = users.namespace if users else -1
    shown = [(mounts.read_only_tree(path, owners), str(path)[1:]) for path in (*_system_folders(), *_shown_folders())]
    borrowed = _borrowed(users)
    mounts.attach(root, -100, "/mnt" if Path("/mnt").is_dir() else "/tmp")
    os.fchdir(root)
    for tree, path in [*shown, *borrowed]:
        mounts.attach(tree, root, path)
        os.close(tree)
    mounts.set_attributes(root, mounts.ATTR_RDONLY)
    pivot_root(".", ".")
    detach_mount(".")
    os.chdir("/")


def _system_folders() -> list[Path]:
    paths = [Path("/") / name for name in _SYSTEM_FOLDERS]
    return [path for path in paths if path.is_dir() and not path.is_symlink()]
