"""What the kernel writes about locks, timers, watches and sockets, and what is read out of it."""

from __future__ import annotations

import fcntl
import os
import re
import select
import socket
import struct
from pathlib import Path

import pytest

from thaw.snapshot import timers
from thaw.snapshot.descriptors import events, named_files, unix_sockets
from thaw.snapshot.descriptors.table import DescriptorTable


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("lock:\t1: FLOCK  ADVISORY  WRITE 12 00:2a:7 0 EOF", ("FLOCK", "WRITE", "0", "EOF")),
        ("lock:\t2: POSIX  ADVISORY  READ 12 00:2a:7 100 109", ("POSIX", "READ", "100", "109")),
        ("lock:\t1: OFDLCK ADVISORY  WRITE -1 00:2a:7 5 EOF", ("OFDLCK", "WRITE", "5", "EOF")),
        ("lock:\t1: LEASE  ACTIVE    READ 12 08:01:99 0 EOF", ("LEASE", "READ", "0", "EOF")),
    ],
)
def test_locks_are_read(line: str, fields: tuple[str, ...]) -> None:
    found = named_files._LOCK.search("pos:\t0\nflags:\t02\n" + line + "\n")
    assert found is not None
    assert (found["kind"], found["mode"], found["start"], found["end"]) == fields


def test_locks_are_read_as_this_kernel_writes_them(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        fcntl.lockf(file, fcntl.LOCK_EX, 10, 5)
        information = Path(f"/proc/self/fdinfo/{file.fileno()}").read_text()
    locks = [lock.groupdict() for lock in named_files._LOCK.finditer(information)]
    assert sorted((lock["kind"], lock["mode"], lock["start"], lock["end"]) for lock in locks) == [
        ("FLOCK", "WRITE", "0", "EOF"), ("POSIX", "WRITE", "5", "14"),
    ]  # fmt: skip


TIMERS = """ID: 3
signal: 38/0000001234567890
notify: signal/pid.2
ClockID: 1
ID: 5
signal: 0/0000000000000000
notify: none/pid.2
ClockID: 0
ID: 6
signal: 40/0000000000000005
notify: signal/tid.17
ClockID: -10
"""


def test_posix_timers_are_read() -> None:
    found = [entry.groupdict() for entry in timers._ENTRY.finditer(TIMERS)]
    assert [(entry["id"], entry["signal"], int(entry["value"], 16)) for entry in found] == [
        ("3", "38", 0x1234567890), ("5", "0", 0), ("6", "40", 5),
    ]  # fmt: skip
    assert [(entry["kind"], entry["to"], entry["target"], entry["clock"]) for entry in found] == [
        ("signal", "pid", "2", "1"), ("none", "pid", "2", "0"), ("signal", "tid", "17", "-10"),
    ]  # fmt: skip


def test_watches_are_read_with_and_without_a_file_handle() -> None:
    information = (
        "pos:\t0\nflags:\t00\n"
        "inotify wd:3 ino:2b sdev:1a mask:2 ignored_mask:0 fhandle-bytes:c fhandle-type:1 f_handle:2b00\n"
        "inotify wd:1f ino:5 sdev:800002 mask:80000100 ignored_mask:0 \n"
    )
    assert events._WATCH.findall(information) == [("3", "2b", "1a", "2"), ("1f", "5", "800002", "80000100")]


def test_an_epoll_set_is_read_as_this_kernel_writes_it() -> None:
    reader, writer = os.pipe()
    with select.epoll() as epoll:
        epoll.register(reader, select.EPOLLIN | select.EPOLLET)
        information = Path(f"/proc/self/fdinfo/{epoll.fileno()}").read_text()
    os.close(reader)
    os.close(writer)
    wanted = select.EPOLLIN | select.EPOLLET | select.EPOLLERR | select.EPOLLHUP
    ((number, found, data),) = events._EPOLL_ENTRY.findall(information)
    assert (int(number), int(found, 16), int(data, 16) & 0xFFFF_FFFF) == (reader, wanted & 0xFFFF_FFFF, reader)


def test_a_unix_socket_is_read_from_sock_diag() -> None:
    def attribute(kind: int, value: bytes) -> bytes:
        return struct.pack("=HH", 4 + len(value), kind) + value.ljust(-(-len(value) // 4) * 4, b"\0")

    front = struct.pack("=BBBBI8x", socket.AF_UNIX, socket.SOCK_STREAM, 1, 0, 4711)
    data = front + attribute(6, b"\2") + attribute(2, struct.pack("=I", 4712)) + attribute(4, struct.pack("=II", 0, 9))
    assert unix_sockets._parse(data) == (4711, unix_sockets.UnixState(state=1, peer=4712, backlog=9, shut=2))
    assert unix_sockets._parse(front) == (4711, unix_sockets.UnixState(state=1))


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_waiting_messages_are_read_and_stay(kind: int) -> None:
    left, right = socket.socketpair(socket.AF_UNIX, kind)
    with left, right:
        for message in (b"one", b"three"):
            left.send(message)
        found = unix_sockets._waiting(_open_file(right), right)
        assert b"".join(found) == b"onethree"
        assert found == [b"one", b"three"] or kind == socket.SOCK_STREAM
        right.setsockopt(socket.SOL_SOCKET, 42, -1)  # SO_PEEK_OFF
        assert right.recv(3) == b"one"


def test_an_empty_datagram_is_a_message_and_the_end_of_a_stream_is_none() -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right:
        left.send(b"")
        left.send(b"after")
        assert unix_sockets._waiting(_open_file(right), right) == [b"", b"after"]
    left, right = socket.socketpair()
    with right:
        left.close()
        assert unix_sockets._waiting(_open_file(right), right) == []


def _open_file(view: socket.socket) -> unix_sockets.OpenFile:
    return unix_sockets.OpenFile("socket:[1]", 0, 0, "", view.fileno(), os.getpid(), "", {view.fileno(): True})


def test_descriptors_of_one_open_file_are_found_together(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, (tmp_path / "file").open() as other:
        copy = os.dup(file.fileno())
        os.set_inheritable(copy, True)
        with DescriptorTable(os.getpid()) as table:
            found, apart = table.holder(os.getpid(), copy), table.holder(os.getpid(), other.fileno())
            assert found is not None
            assert apart is not None
            assert found.numbers == {file.fileno(): True, copy: False}
            assert list(apart.numbers) == [other.fileno()]
            assert (found.flags & 3, apart.flags & 3) == (os.O_WRONLY, os.O_RDONLY)
            assert re.fullmatch(rf"{re.escape(str(tmp_path))}/file", found.link)
            assert table.holder(os.getpid(), 99_999) is None
        os.close(copy)
