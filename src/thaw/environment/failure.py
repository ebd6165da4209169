"""How a function's process ended, in Lambda's words."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass

# The names that Lambda's supervisor (a Go program) gives to signals.
_SIGNALS = {
    signal.SIGHUP: "hangup",
    signal.SIGINT: "interrupt",
    signal.SIGQUIT: "quit",
    signal.SIGILL: "illegal instruction",
    signal.SIGTRAP: "trace/breakpoint trap",
    signal.SIGABRT: "aborted",
    signal.SIGBUS: "bus error",
    signal.SIGFPE: "floating point exception",
    signal.SIGKILL: "killed",
    signal.SIGSEGV: "segmentation fault",
    signal.SIGPIPE: "broken pipe",
    signal.SIGALRM: "alarm clock",
    signal.SIGTERM: "terminated",
}


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of a process: its wait `status`, and whether the memory limit brought it about."""

    status: int
    out_of_memory: bool = False

    @property
    def error_type(self) -> str:
        """Lambda's name for it."""
        return "Runtime.OutOfMemory" if self.out_of_memory else "Runtime.ExitError"

    @property
    def reason(self) -> str:
        """For example "Runtime exited with error: exit status 1"."""
        if os.WIFSIGNALED(self.status):
            number = os.WTERMSIG(self.status)
            return f"Runtime exited with error: signal: {_SIGNALS.get(signal.Signals(number), f'signal {number}')}"
        code = os.waitstatus_to_exitcode(self.status)
        return f"Runtime exited with error: exit status {code}" if code else "Runtime exited without providing a reason"


def document(error_type: str, message: str, request_id: str) -> bytes:
    """The JSON that a caller receives; without a request at hand the message stands alone."""
    text = f"RequestId: {request_id} Error: {message}" if request_id else message
    return json.dumps({"errorType": error_type, "errorMessage": text}, separators=(",", ":")).encode()
