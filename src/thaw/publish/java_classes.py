"""Java's class histogram: which classes have how many objects, and how large they are.

A JVM is asked through HotSpot's attach protocol, as jcmd does it: a file `/tmp/.attach_pid<N>` of its own user and
SIGQUIT make it listen at the socket `/tmp/.java_pid<N>`; that takes a request of texts that end in NUL (the protocol's
version, "jcmd", a command, two arguments more) and answers with a status in the first line and text after it. Source:
the JDK's sources, src/hotspot/os/posix/attachListener_posix.cpp and jdk.attach's VirtualMachineImpl.java.

What the question leaves behind, a thread and a socket, must not be in a snapshot. Therefore the process is asked just
after it was frozen: it has what its clones have, and ends.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

VERSION = "1"
COMMAND = "GC.class_histogram"
ANSWER_LIMIT = 8 << 20
LISTED = 400
"""Classes that are kept, the largest first; the total counts all."""
POLL_S = 0.005
# With these flags SIGQUIT ends the JVM, or makes it print all its threads into the function's log.
UNASKED = (b"-Xrs", b"ReduceSignalUsage", b"DisableAttachMechanism")
_ROW = re.compile(r"^\s*\d+:\s+(\d+)\s+(\d+)\s+(\S+)", re.MULTILINE)
_PRIMITIVES = {
    "B": "byte", "C": "char", "D": "double", "F": "float", "I": "int", "J": "long", "S": "short", "Z": "boolean",
}  # fmt: skip

Row = tuple[str, int, int]
"""Class, objects, bytes."""


def class_histogram(pid: int, limit_s: float) -> list[Row] | None:
    """Rows by size, descending; None where the process is no JVM, or one that is not to be asked.

    This process takes the user of the other one, for good: JVMs answer nobody else. Raises OSError, TimeoutError.
    """
    if not _may_be_asked(pid):
        return None
    deadline = time.monotonic() + limit_s
    number = _own_number(pid)
    process = os.pidfd_open(pid)
    folder = os.open(f"/proc/{pid}/root/tmp", os.O_PATH | os.O_DIRECTORY)
    _become_owner_of(pid)
    try:
        with _listening(process, folder, number, deadline) as connection:
            return rows_of(_ask(connection, deadline))
    finally:
        os.close(folder)
        os.close(process)


def rows_of(answer: str) -> list[Row]:
    """The rows of a histogram as the JVM prints it; classes of arrays and modules are written as in Java."""
    rows = [(_class_name(name), int(objects), int(size)) for objects, size, name in _ROW.findall(answer)]
    return sorted(rows, key=lambda row: row[2], reverse=True)


def _class_name(name: str) -> str:
    """`[[Ljava.lang.String;` is java.lang.String[][]."""
    element = name.lstrip("[")
    brackets = "[]" * (len(name) - len(element))
    if not brackets:
        return name
    return _PRIMITIVES.get(element, element.removeprefix("L").removesuffix(";")) + brackets


def _may_be_asked(pid: int) -> bool:
    process = Path(f"/proc/{pid}")
    if b"/libjvm.so\n" not in (process / "maps").read_bytes():
        return False
    told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    return not any(flag in told for flag in UNASKED)


def _own_number(pid: int) -> int:
    """The process's number in its own pid namespace."""
    (line,) = (one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("NSpid:"))
    return int(line.split()[-1])


def _become_owner_of(pid: int) -> None:
    owner = os.stat(f"/proc/{pid}")
    os.setgroups([])
    os.setresgid(owner.st_gid, owner.st_gid, owner.st_gid)
    os.setresuid(owner.st_uid, owner.st_uid, owner.st_uid)


def _listening(process: int, folder: int, number: int, deadline: float) -> socket.socket:
    """A connection to the JVM, which is made to listen."""
    trigger = f".attach_pid{number}"
    os.close(os.open(trigger, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY, 0o600, dir_fd=folder))
    try:
        signal.pidfd_send_signal(process, signal.SIGQUIT)
        for place in _appearing(folder, f".java_pid{number}", deadline):
            try:
                return _connected(place)
            except ConnectionRefusedError:
                continue  # bound, and not listening yet
            finally:
                os.close(place)
        raise TimeoutError(f"The JVM {number} did not listen in time.")
    finally:
        os.unlink(trigger, dir_fd=folder)


def _appearing(folder: int, name: str, deadline: float) -> Iterator[int]:
    """The socket itself, again and again: a link in its place is the function's, and could lead anywhere."""
    while time.monotonic() < deadline:
        try:
            place = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=folder)
        except FileNotFoundError:
            time.sleep(POLL_S)
            continue
        if not stat.S_ISSOCK(os.fstat(place).st_mode):
            os.close(place)
            raise FileExistsError(f"{name} is no socket.")
        yield place
        time.sleep(POLL_S)


def _connected(place: int) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(f"/proc/self/fd/{place}")
    except OSError:
        connection.close()
        raise
    return connection


def _ask(connection: socket.socket, deadline: float) -> str:
    connection.settimeout(max(POLL_S, deadline - time.monotonic()))
    connection.sendall("".join(f"{part}\0" for part in (VERSION, "jcmd", COMMAND, "", "")).encode())
    answer = bytearray()
    while (part := connection.recv(1 << 16)) and len(answer) < ANSWER_LIMIT:
        answer += part
    status, _, text = answer.decode(errors="replace").partition("\n")
    if status != "0":
        raise OSError(0, f"the JVM answered with status {status[:20]!r}")
    return text
