"""Asking the kernel a question from inside another process's namespaces."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import Final, Literal, TypeVar

from thaw.errors import FreezeFailed

_libc = ctypes.CDLL(None, use_errno=True)
_FLAGS: Final = {"net": 0x4000_0000, "ipc": 0x0800_0000}
Answer = TypeVar("Answer")


def inside(pid: int, kind: Literal["net", "ipc"], ask: Callable[[], Answer]) -> Answer:
    """Call `ask` in a thread of its own that has entered the process's namespace (setns(2)); what it returns.

    Raises:
        FreezeFailed: the namespace may not be entered.
    """
    answers: list[Answer] = []
    problems: list[OSError] = []

    def run() -> None:
        try:
            _enter(pid, kind)
            answers.append(ask())
        except OSError as error:
            problems.append(error)

    thread = threading.Thread(target=run, name=f"thaw-{kind}")
    thread.start()
    thread.join()
    if not answers:
        raise FreezeFailed(
            f"The {kind} namespace of the function could not be entered ({problems[0]}): Thaw needs CAP_SYS_ADMIN."
        )
    return answers[0]


def _enter(pid: int, kind: str) -> None:
    namespace = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(namespace, _FLAGS[kind]) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(namespace)
