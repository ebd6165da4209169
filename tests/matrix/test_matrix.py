"""One tiny program for each kernel resource: set state, freeze, thaw three clones at once, check all of them.

What a program checks stands in its docstring (programs/); what it has to find stands here.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from matrix import harness
from thaw.errors import NotFreezable

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes and ptrace need root"),
]
HOOK = "in a before-snapshot hook"
TALK = [["hello", "back", True, 1, True]] * 2

FOUND: dict[str, Any] = {
    # Memory
    "anonymous_memory": [["hello", "world", "00000000"], ["0000000000", "0000000000"], 4_999_950_000],
    "protections": [42, "constant", False, ["r-xp", "r--p", "---p"]],
    "heap_growth": [True, True, [True, True, True], "07", 2000],
    "main_stack": [55, sum(depth & 127 for depth in range(1, 1501)), True, True],
    "private_file_mapping": [True, True, "more", True],
    "shared_anonymous": ["frozen", "deep", True, "child"],
    "memory_file": ["56789", True, 10_000, 14, "/memfd:sealed (deleted)", ["EPERM", "EPERM"], "final"],
    "wipe_on_fork": ["000000000000", "new", "000000"],
    "guard_pages": [["low", "top", True]] * 2,
    "not_forked": ["kept", "SIGSEGV"],
    "big_heap": [67_108_864, True],
    # Files
    "deleted_file": ["nameless", "RENEWED!", "RENEWED!", 16_000, 0, "0o100640", True, 16_000, True, []],
    "tmp_file": [True, "EBADF", "still in the buffer"],
    "tmp_mapping": ["one", True, 20_000, True, "one", "two", ".........."],
    "tmp_tree": [
        {
            "/tmp/a": ["0o40700", 0, True], "/tmp/ümlaut name": ["0o100644", 1, True], "/tmp/a/b": ["0o40755", 0, True],
            "/tmp/a/soft": ["0o120777", 0, True], "/tmp/a/hard": ["0o104640", 2, True],
            "/tmp/a/fifo": ["0o10600", 0, True], "/tmp/a/b/file": ["0o104640", 2, True],
        },
        True, True, "b/file", "0o41777",
    ],
    "devices": ["", "00000000", 16, ["inner"], ["made"], True, "0.0.1", True],
    "shared_offsets": ["cdef", [5, 5, 5, 6]],
    "close_on_exec": [[0, 1, 1, 0, 0, 1, 1], [True, False, False, True, True, False, False]],
    "locks": ["EAGAIN", ["2 20 5", "1 5 10", "0 100 0", "1 5 10"], "1 0 0"],
    "fifo": ["queued", "second", "EBADF", "third", ""],
    "pipe": [True, "new", 1 << 20, [False, True], 65_536, 0, 65_536],
    "pipe_ends": ["last words", "", "EPIPE"],
    # Events
    "epoll": [
        [[1, "0x4"]], [[1, "0xdeadbeefcafef00d"], [4, "0x3"]], [[1, "0x2"], [1, "0xdeadbeefcafef00d"]],
        [[1, "0xdeadbeefcafef00d"]], [], False,
    ],
    "eventfd": [[42], [1, 1, 1], (1 << 40) + 5],
    "timerfd": [0, True, True, 7.5, 1, True, 1, [0.0, 0.0]],
    "signal_descriptor": [[15, 0], 10, 37, 0],
    "inotify": [[3, 4, 5], [], [[3, 256, "new"], [5, 2, ""]], 6],
    # Sockets
    "unix_stream": [
        ["to the left", "to the right", "time-out"], ["before the end", "", "still open this way"],
        ["farewell", "", "EPIPE"],
    ],
    "unix_datagram": [[[True] * 3] * 2, "", "back", ["early", "late", "stranger"], "/tmp/inbox", True],
    "unix_packets": ["one", "two and more", "back", "hello"],
    "unix_listener": [["hello", "hello"], ["/tmp/listener", "b'\\x00abstract'"], "0o700", True],
    "tcp_listener": [["hello", "hello"], [True, True], [[True, True]] * 2],
    "tcp_connected": [[True] * 4, [["ECONNRESET", "EPIPE"]] * 4, "fresh"],
    "udp": TALK,
    "netlink": [True, True, 1],
    # Signals and timers
    "signals": [[10, 15, 35], [10, 15, 35], [1, 1], [], [10], [10, 10], [15]],
    "alternate_stack": [True, True, 65_536, [1]],
    "interval_timers": [True, 0.1, 0, True],
    "posix_timers": [True, True, [4, -2, 0x1234567890], [6, -2, 5], 0.0, [3, 4, 5]],
    # Threads and the process
    "threads": [
        ["epoll", "futex", "poll", Path(harness.interpreter()[1][0]).name[:15], "read", "select", "signal", "sleep"],
        {
            "futex": [True, "futex", True], "sleep": [None, "sleep", True], "poll": [1, "poll", True],
            "read": ["!", "read", True], "select": [1, "select", True], "epoll": [1, "epoll", True],
            "signal": [12, "signal", True],
        },
        1,
    ],
    "thread_timers": [False, True, False, True],
    "blocked_calls": {
        "epoll_wait": [1, "Success"], "poll": [1, "Success"], "nanosleep": [0, "Success"],
        "sigtimedwait": [-1, "Resource temporarily unavailable"],
    },
    "event_loop": [["HELLO\n", "HELLO\n", 42], ["executor", "later"]],
    "mutexes": [
        ["Device or resource busy"] * 3, ["", "", "", "", "Resource deadlock avoided", ""], ["", "", "Owner died"],
        ["Resource deadlock avoided", ""],
    ],
    "registers": [True, "0xa7f", "0x7f80", 1.25, True],
    "restartable_sequences": [[True, True]] * 3,
    "numbers": [True, [True, True, True], [True, True], [0, 0], [0], 5, True, 0],
    "identity": [True, "new-title\n", "0000000000000000", "1", "2", False],
    "users": [
        ["0", "1", "200992", "1", "200993", "1"], [200993] * 4, [200993, 0, 200993], [0, 0, 0], 200993,
        ["200993"] * 4, "EPERM", True,
    ],
    "limits": [[[200, 1000], [0, 0], [1 << 20, 2 << 20]], "/tmp/work", 19, "42", 9, "0o100640"],
    "process_controls": [1, 1, 90_000, [70_000, True], 1],
    "subprocesses": [True, 3, 0, True, 0, False],
    # Process trees
    "child_pipes": [True, True, [["2", "first", "/tmp"], ["3", "first", "/tmp"]], True, None, "", 7, 5, True, False],
    "process_pool": [True, True, True, [True, True], [0, 0]],
    "child_threads": [["a", "b", "sleeper"], True, "WORD", True, 0, 0],
    "shared_between": ["firstabc", "tsrif", "niaga", 42, "againdef", "ghi", "childnal", 21, False, -15],
    "forked_memory": [
        {"1": 0xEE, "2": 0, "3": 0}, {"0": 0xCC, "1": 0}, False, {"4": 0xDD}, {"2": 0xBB}, True,
    ],
    "process_groups": [True, True, True, True, True, True, [15, 15]],
    "child_resources": [[10], "0o27", [99, 1000], "EAGAIN", [[True, 1]], ["USR1"], 12, True, "renamed", "sealed"],
}  # fmt: skip

REFUSED = {
    "refused_stopped_child": (
        "Child process N ('sleep') is stopped by a signal, which cannot be frozen: "
        f"let it go on, or end it, {HOOK}."
    ),
    "refused_leaderless_group": (
        "Child process N ('sleep') is in process group N, whose leader has ended, so it cannot be frozen: "
        f"end it, and wait for it, {HOOK}."
    ),
    "refused_shared_memory": (
        f"Child process N ({Path(harness.interpreter()[1][0]).name[:15]!r}) shares its memory with its parent, "
        f"which cannot be frozen: end it, and wait for it, {HOOK}."
    ),
    "refused_in_child": (
        "Descriptor 40 of child process N ('sleep') is a handle of another process (anon_inode:[pidfd]), "
        f"which cannot be frozen: close it {HOOK}."
    ),
    "refused_memory_in_child": (
        "Child process N ('elsewhere') has memory at 0x510000000000, where Thaw restores snapshots from: "
        "let the kernel choose the address."
    ),
    "refused_process_handle": (
        "Descriptor 40 is a handle of another process (anon_inode:[pidfd]), which cannot be frozen: "
        f"close it {HOOK}."
    ),
    "refused_shared_segment": (
        "The function has a System V shared memory segment, which cannot be frozen: "
        f"remove it {HOOK}, or use mmap."
    ),
    "refused_semaphores": (
        "The function has a System V semaphore set, which cannot be frozen: "
        f"remove it {HOOK}, or use POSIX semaphores."
    ),
    "refused_message_queue": (
        f"Descriptor 40 is a file that its path does not lead to (/queue), which cannot be frozen: close it {HOOK}."
    ),
    "refused_address": (
        "The function has memory at 0x510000000000, where Thaw restores snapshots from: "
        "let the kernel choose the address."
    ),
    "refused_lease": (
        "Descriptor 40 is a file with a LEASE lock (/tmp/leased), which cannot be frozen: "
        f"give it back {HOOK}."
    ),
    "refused_travelling_descriptor": (
        "Descriptor 40 is a Unix socket with descriptors on the way (socket:[N]), which cannot be frozen: "
        f"receive them {HOOK}."
    ),
    "refused_unaccepted": (
        "Descriptor 40 is a Unix listener with connections that nobody has accepted (socket:[N]), which cannot be "
        f"frozen: accept them {HOOK}."
    ),
    "refused_asynchronous_io": (
        "The function has a context for asynchronous I/O (io_setup) at 0xN (/[aio] (deleted)), which cannot be frozen: "
        f"end it (io_destroy) {HOOK}."
    ),
    "refused_closed_in_epoll": (
        "The epoll set of descriptor 40 watches descriptor 41, which is closed while a copy of it is open, "
        "so it cannot be frozen: remove a descriptor from the set before closing it."
    ),
    "refused_watch": (
        "Descriptor 40 is an inotify instance that watches a deleted file (anon_inode:inotify), which cannot be "
        f"frozen: remove the watch {HOOK}."
    ),
    "refused_ruleset": (
        "Descriptor 40 is of a kind that Thaw does not know (anon_inode:[landlock-ruleset]), which cannot be "
        f"frozen: close it {HOOK}."
    ),
    "refused_folder": (
        "The function's working folder /tmp/removed was removed, so it cannot be frozen: "
        f"change to another one {HOOK}."
    ),
}  # fmt: skip


@pytest.mark.parametrize("program", FOUND)
async def test_comes_back_in_each_of_three_clones(program: str, tmp_path: Path) -> None:
    if program == "users" and not harness.permits_users():
        pytest.skip("this machine permits sandboxes no user namespaces; see thaw doctor")
    assert await harness.round_trip(program, tmp_path) == [{"found": FOUND[program]}] * 3


@pytest.mark.parametrize("program", REFUSED)
async def test_what_has_no_way_back_is_refused_with_a_sentence(program: str, tmp_path: Path) -> None:
    with pytest.raises(NotFreezable) as refusal:
        await harness.round_trip(program, tmp_path)
    sentence = re.sub(r"socket:\[\d+\]", "socket:[N]", str(refusal.value))
    sentence = re.sub(r"\(io_setup\) at 0x[0-9a-f]+", "(io_setup) at 0xN", sentence)
    assert re.sub(r"(process|group) \d+", r"\1 N", sentence) == REFUSED[program]


async def test_no_two_clones_draw_the_same_randomness(tmp_path: Path) -> None:
    answers = [answer["found"] for answer in await harness.round_trip("randomness", tmp_path)]
    frozen = {json.dumps(before) for before, _ in answers}
    assert len(frozen) == 1  # all clones are of one snapshot
    draws = [json.loads(frozen.pop()), *(drawn for _, drawn in answers)]
    for generator in ("urandom", "openssl", "secrets", "uuid4", "system"):
        assert len({draw[generator] for draw in draws}) == 4, generator


async def test_no_two_clones_child_processes_draw_the_same_randomness(tmp_path: Path) -> None:
    """Of two pools' workers, a child that runs another Python, and the function's own process."""
    answers = [answer["found"] for answer in await harness.round_trip("child_randomness", tmp_path)]
    before = answers[0][0]
    draws = [before, *(drawn for _, drawn in answers)]
    for generator in ("urandom", "openssl", "secrets", "uuid4"):
        assert len({process[generator] for draw in draws for process in draw}) == 4 * 4, generator
    children = [process["random"] for draw in draws for process in draw[:3]]
    assert len(set(children)) == 4 * 3
    assert len({process["own"] for draw in draws[1:] for process in draw}) == 1, "the seed was chosen by the function"


def test_every_program_is_run() -> None:
    programs = {path.stem for path in harness.PROGRAMS.glob("*.py")} - {"runner", "lazy_memory"}  # test_page_faults
    assert programs == {*FOUND, *REFUSED, "randomness", "child_randomness"}
