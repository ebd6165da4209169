"""The function's process tree: who is in it, whose child each process is, and to which session and group it belongs."""

from __future__ import annotations

import ctypes
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from thaw.errors import FreezeFailed, NotFreezable
from thaw.snapshot.plan import RELATIVE_LIMIT
from thaw.snapshot.process import children, own_number, read_text
from thaw.snapshot.ptrace import StoppedProcess

ADOPTER: Final = 1
"""PID 1 of the sandbox: the parent of those whose own parent has ended (native/plan.h)."""
HAS_ENDED, LEADS_SESSION, LEADS_GROUP, IS_LATE = 1, 2, 4, 8
_ENDED: Final = frozenset("ZX")
_STOPPED: Final = frozenset("Tt")
_SYS_KCMP, _KCMP_VM, _KCMP_FILES = 312, 1, 2
_NUMBER_LIMIT: Final = 32768
_HOOK: Final = "end it, and wait for it, in a before-snapshot hook"
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Member:
    """One process of the tree. `pid` is its number here; `number`, `parent`, `session` and `group` are those of the
    sandbox. `status` is the wait status of one that has ended."""

    pid: int
    number: int
    name: str
    state: str
    parent: int
    session: int
    group: int
    exit_signal: int
    status: int

    @property
    def ended(self) -> bool:
        """Whether its parent only has to wait for it."""
        return self.state in _ENDED


@dataclass(slots=True)
class Tree:
    """The stopped processes, the function's first, and every member in an order in which parents come first."""

    processes: list[StoppedProcess] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)

    @property
    def root(self) -> Member:
        """The function's process."""
        return self.members[0]

    def process_of(self, member: Member) -> StoppedProcess:
        """The stopped process of a member that lives."""
        return next(process for process in self.processes if process.pid == member.pid)

    def numbers(self) -> set[int]:
        """Every process and thread number that is taken, and the sessions and groups that are named by numbers."""
        taken = {own_number(thread.tid) for process in self.processes for thread in process.threads}
        for member in self.members:
            taken |= {member.number, member.session, member.group}
        return taken


def stop_tree(pid: int, sandbox_pid: int, stack: ExitStack) -> Tree:
    """Stop the function's process and everything below it, and what PID 1 of its sandbox has adopted (0: no sandbox).

    Whoever is stopped has no more children, so one pass over all of them finds everybody.

    Raises:
        NotFreezable: a process is in a state that has no way back.
        FreezeFailed: a process ended meanwhile, or may not be traced.
    """
    tree = Tree()
    waiting = [pid]
    while waiting:
        member = _read_member(waiting.pop(0), sandbox_pid, is_root=not tree.members)
        tree.members.append(member)
        _refuse_state(tree)
        if not member.ended:
            tree.processes.append(stack.enter_context(StoppedProcess(member.pid)))
            waiting += children(member.pid)
        if not waiting and sandbox_pid:
            known = {each.pid for each in tree.members}
            waiting = [child for child in children(sandbox_pid) if child not in known and not _is_gone(child)]
    _refuse_sharing(tree)
    return tree


def _is_gone(pid: int) -> bool:
    """Whether PID 1 is about to reap it."""
    return read_text(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()[0] in _ENDED


def _read_member(pid: int, sandbox_pid: int, *, is_root: bool) -> Member:
    try:
        status = dict(line.split(":", 1) for line in read_text(f"/proc/{pid}/status").splitlines() if ":" in line)
        fields = read_text(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()
        parent = int(fields[1])
        above = ADOPTER if is_root or parent == sandbox_pid else own_number(parent)
    except (FileNotFoundError, ProcessLookupError) as error:
        raise FreezeFailed(
            f"Process {pid} ended before its snapshot: look at the function's log for its last words."
        ) from error
    return Member(
        pid=pid, number=int(status["NSpid"].split()[-1]), name=status["Name"].strip(), state=fields[0], parent=above,
        session=int(status["NSsid"].split()[-1]), group=int(status["NSpgid"].split()[-1]),
        exit_signal=int(fields[35]), status=int(fields[49]),
    )  # fmt: skip


def _refuse_state(tree: Tree) -> None:
    member = tree.members[-1]
    if len(tree.members) > RELATIVE_LIMIT:
        raise NotFreezable(
            f"The function has more than {RELATIVE_LIMIT} child processes, more than a snapshot may hold: "
            "end some in a before-snapshot hook."
        )
    if member.state in _STOPPED and len(tree.members) > 1:
        raise NotFreezable(
            f"Child process {member.number} ({member.name!r}) is stopped by a signal, which cannot be frozen: "
            "let it go on, or end it, in a before-snapshot hook.",
            resource="process",
            number=member.number,
        )


def _refuse_sharing(tree: Tree) -> None:
    """Processes that are almost threads: after vfork(2), or clone(2) with CLONE_VM or CLONE_FILES.

    Raises:
        NotFreezable: there are two such.
    """
    for index, left in enumerate(tree.processes):
        for right in tree.processes[index + 1 :]:
            for kind, what in ((_KCMP_VM, "memory"), (_KCMP_FILES, "descriptors")):
                if _libc.syscall(*map(ctypes.c_long, (_SYS_KCMP, left.pid, right.pid, kind, 0, 0))) == 0:
                    name = read_text(f"/proc/{right.pid}/comm").strip()
                    raise NotFreezable(
                        f"Child process {own_number(right.pid)} ({name!r}) shares its {what} with its parent, "
                        f"which cannot be frozen: {_HOOK}.",
                        resource="process",
                        number=own_number(right.pid),
                    )


@dataclass(frozen=True, slots=True)
class Kinship:
    """How a member is born again: flags of struct relative, and the group that it joins (0: that of its parent)."""

    flags: int
    group: int


def kinship(tree: Tree, member: Member) -> Kinship:
    """The order of fork(2), setsid(2) and setpgid(2) that gives a member the session and group that it had.

    The function's process leads a session in each clone; what PID 1 of the sandbox led is that session there.

    Raises:
        NotFreezable: the leader of its session or group has ended.
    """
    by_number = {each.number: each for each in tree.members}
    parent = by_number.get(member.parent, tree.root)
    flags = HAS_ENDED if member.ended else 0
    session = _session(tree, member)
    leads = _session(tree, parent) == parent.number
    if session == member.number:
        return Kinship(flags | LEADS_SESSION, 0)
    if session == _session(tree, parent):
        flags |= IS_LATE if leads and parent is not tree.root else 0
    elif not leads or session != _session(tree, by_number.get(parent.parent, tree.root)):
        raise _leaderless(member, "session", session)
    group = _group(tree, member)
    if group == member.number:
        return Kinship(flags | LEADS_GROUP, 0)
    if member.ended or group == tree.root.number:
        return Kinship(flags, 0 if member.ended else group)
    if group not in by_number:
        raise _leaderless(member, "process group", group)
    return Kinship(flags, group)


def _session(tree: Tree, member: Member) -> int:
    root = tree.root
    return root.number if member is root or member.session in (ADOPTER, root.session) else member.session


def _group(tree: Tree, member: Member) -> int:
    root = tree.root
    return root.number if member is root or member.group in (ADOPTER, root.group) else member.group


def _leaderless(member: Member, what: str, number: int) -> NotFreezable:
    return NotFreezable(
        f"Child process {member.number} ({member.name!r}) is in {what} {number}, whose leader has ended, "
        f"so it cannot be frozen: {_HOOK}.",
        resource="process",
        number=member.number,
    )


def go_between(tree: Tree) -> int:
    """A number that nobody in the tree has."""
    taken = tree.numbers()
    return next(number for number in range(2, _NUMBER_LIMIT) if number not in taken)
