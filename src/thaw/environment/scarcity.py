"""What the server itself has run out of, said in one sentence: descriptors above all, of which each environment takes
about forty."""

from __future__ import annotations

import errno
import os

from thaw.errors import SandboxError

_REMEDIES = {
    errno.EMFILE: "raise the server's limit of open files (ulimit -n), or lower max_environments",
    errno.ENFILE: "raise the machine's limit of open files (sysctl fs.file-max), or lower max_environments",
    errno.ENOMEM: "give the machine more memory, or lower max_environments",
    errno.EAGAIN: "raise the limit of processes, or lower max_environments",
    errno.ENOSPC: "make room where the server keeps its files",
}


def scarce(what: str, error: OSError, *, step: str = "") -> SandboxError:
    """`what` could not be had: why, and, where that is known, what to do about it."""
    number = error.errno or 0
    remedy = _REMEDIES.get(number)
    reason = os.strerror(number) if number else str(error)
    return SandboxError(f"{what} cannot be had ({reason}){f': {remedy}' if remedy else ''}.", step=step)
