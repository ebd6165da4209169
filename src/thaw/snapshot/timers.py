"""Interval timers and POSIX timers (setitimer(2), timer_create(2)): they go on with the time that was left."""

from __future__ import annotations

import re
import struct
from typing import Final

from thaw.snapshot.plan import PlanWriter, Program
from thaw.snapshot.process import own_number, read_text
from thaw.snapshot.program import SYSTEM_CALLS, Variable
from thaw.snapshot.ptrace import StoppedProcess

_INTERVAL_TIMERS: Final = (0, 1, 2)  # ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF
_ENTRY = re.compile(
    r"ID: (?P<id>\d+)\nsignal: (?P<signal>\d+)/(?P<value>[0-9a-f]+)\n"
    r"notify: (?P<kind>\w+)/(?P<to>\w+)\.(?P<target>\d+)\nClockID: (?P<clock>-?\d+)"
)
_NOTIFY: Final = {"signal": 0, "none": 1, "thread": 2}
_SIGEV_THREAD_ID: Final = 4


def plan_interval_timers(plan: PlanWriter, process: StoppedProcess, surrender: Program) -> None:
    """Arm those that run; the last thing before the clone is the function, so that little of their time is lost."""
    for which in _INTERVAL_TIMERS:
        value = process.system_call_out(process.main, 32, SYSTEM_CALLS["getitimer"], which, None)
        if any(value):
            surrender.call("setitimer", which, plan.allocate(value), 0)


def _event(plan: PlanWriter, process: StoppedProcess, entry: re.Match[str], surrender: Program) -> int:
    """Address of a struct sigevent."""
    by_thread = entry["to"] == "tid"
    notify = _NOTIFY[entry["kind"]] | (_SIGEV_THREAD_ID if by_thread else 0)
    target = own_number(int(entry["target"])) if by_thread else 0
    event = struct.pack("=Qiii", int(entry["value"], 16), int(entry["signal"]), notify, target)
    address = plan.allocate(event.ljust(64, b"\0"))
    if by_thread and int(entry["target"]) == process.pid:
        # The main thread's number is known only in the clone, which puts its own into the event.
        surrender.call("gettid", result=Variable(address + 16))
    return address


def plan_posix_timers(plan: PlanWriter, process: StoppedProcess, surrender: Program) -> None:
    """Create them under their old numbers: the kernel counts up from 0, so the gaps are created and deleted."""
    wanted = {int(entry["id"]): entry for entry in _ENTRY.finditer(read_text(f"/proc/{process.pid}/timers"))}
    if not wanted:
        return
    number: Variable = plan.variable()
    filler = plan.allocate(struct.pack("=Qiii", 0, 0, 1, 0).ljust(64, b"\0"))
    for timer in range(max(wanted) + 1):
        event = _event(plan, process, wanted[timer], surrender) if timer in wanted else filler
        clock = int(wanted[timer]["clock"]) if timer in wanted else 1
        surrender.call("timer_create", clock, event, number.address)
        if timer not in wanted:
            surrender.call("timer_delete", timer)
            continue
        value = process.system_call_out(process.main, 32, SYSTEM_CALLS["timer_gettime"], timer, None)
        if any(value):
            surrender.call("timer_settime", timer, 0, plan.allocate(value), 0)
