"""Signal dispositions and signals that wait (signal(7))."""

from __future__ import annotations

import struct
from typing import Final

from thaw.snapshot.plan import PlanWriter, Program
from thaw.snapshot.process import own_number
from thaw.snapshot.program import SYSTEM_CALLS, Variable
from thaw.snapshot.ptrace import StoppedProcess

_LAST_SIGNAL: Final = 64
_UNCHANGEABLE: Final = {9, 19}  # SIGKILL, SIGSTOP
_ACTION_SIZE: Final = 32  # struct sigaction of the kernel: handler, flags, restorer, mask
_DEFAULT: Final = bytes(_ACTION_SIZE)


def plan_actions(plan: PlanWriter, process: StoppedProcess, build: Program, *, inherited: bool) -> None:
    """Dispositions belong to the template, too: a fork copies them, and the template blocks every signal.

    With `inherited`, the process is born with another's dispositions, so that the default is set as well.
    """
    for number in range(1, _LAST_SIGNAL + 1):
        if number in _UNCHANGEABLE:
            continue
        action = process.system_call_out(process.main, _ACTION_SIZE, SYSTEM_CALLS["rt_sigaction"], number, 0, None, 8)
        if inherited or action != _DEFAULT:
            build.call("rt_sigaction", number, plan.allocate(action), 0, 8)


def _number(information: bytes) -> int:
    return int(struct.unpack_from("=i", information)[0])


def plan_pending(plan: PlanWriter, process: StoppedProcess, surrender: Program) -> None:
    """Send waiting signals again; they wait again until the threads' masks let them through."""
    pid: Variable = plan.parameter("pid")
    for information in process.main.pending_signals(shared=True):
        address = plan.allocate(information)
        surrender.call("rt_sigqueueinfo", pid, _number(information), address)
    for thread in process.threads:
        target = pid if thread is process.main else own_number(thread.tid)
        for information in thread.pending_signals(shared=False):
            address = plan.allocate(information)
            surrender.call("rt_tgsigqueueinfo", pid, target, _number(information), address)
