"""How a function's process ended, in Lambda's words."""

from __future__ import annotations

import errno
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
    """The end of a process: its wait `status`, whether the memory limit brought it about, and why its program did not
    even start, if so. `of_extension`: it was an external extension, not the runtime."""

    status: int
    out_of_memory: bool = False
    entry_error: str = ""
    of_extension: bool = False

    @property
    def error_type(self) -> str:
        """Lambda's name for it."""
        if self.of_extension:
            return "Extension.LaunchError" if self.entry_error else "Extension.Crash"
        if self.entry_error:
            return "Runtime.InvalidEntrypoint"
        return "Runtime.OutOfMemory" if self.out_of_memory else "Runtime.ExitError"

    @property
    def reason(self) -> str:
        """For example "Runtime exited with error: exit status 1"."""
        if self.entry_error:
            return self.entry_error
        if os.WIFSIGNALED(self.status):
            number = os.WTERMSIG(self.status)
            who = "" if self.of_extension else "Runtime exited with error: "
            return f"{who}signal: {_SIGNALS.get(signal.Signals(number), f'signal {number}')}"
        code = os.waitstatus_to_exitcode(self.status)
        if self.of_extension:
            return f"exit code {code}"
        return f"Runtime exited with error: exit status {code}" if code else "Runtime exited without providing a reason"


def entry_error(program: str, number: int) -> str:
    """Why `program` did not start, in Lambda's words; `number` is an errno."""
    if number == errno.ENOENT and program == "/var/task/bootstrap":
        return "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"
    return f"fork/exec {program}: {os.strerror(number).lower()}"


def document(error_type: str, message: str, request_id: str) -> bytes:
    """The JSON that a caller receives; without a request at hand the message stands alone."""
    text = f"RequestId: {request_id} Error: {message}" if request_id else message
    return json.dumps({"errorType": error_type, "errorMessage": text}, separators=(",", ":")).encode()
