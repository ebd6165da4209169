"""System calls that the standard library does not offer, by number, with errors as `OSError`."""

from __future__ import annotations

import ctypes
import os

# The numbers from 424 up are the same on every architecture.
OPEN_TREE, MOVE_MOUNT, FSOPEN, FSCONFIG, FSMOUNT, MOUNT_SETATTR = 428, 429, 430, 431, 432, 442

CLONE_NEWNS = 0x00020000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


def system_call(number: int, *arguments: int | bytes | None) -> int:
    """Make the call; returns the kernel's value.

    Integers are passed as 64-bit words, bytes as a pointer to them, None as a null pointer.
    Raises OSError with the call's errno.
    """
    words = [ctypes.c_long(word) if isinstance(word, int) else ctypes.c_char_p(word) for word in arguments]
    result: int = _syscall(ctypes.c_long(number), *words)
    if result < 0:
        raise _error(f"system call {number}")
    return result


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces."""
    if _libc.unshare(ctypes.c_int(flags)) < 0:
        raise _error("unshare")


def mount(source: str, target: str, kind: str, flags: int) -> None:
    """The classic mount(2), without data."""
    arguments = [ctypes.c_char_p(text.encode()) for text in (source, target, kind)]
    if _libc.mount(*arguments, ctypes.c_ulong(flags), None) < 0:
        raise _error(f"mount {target}")


def detach_mount(target: str) -> None:
    """umount2(2) with MNT_DETACH."""
    if _libc.umount2(ctypes.c_char_p(target.encode()), ctypes.c_int(2)) < 0:
        raise _error(f"umount2 {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    """Exchange the root of the calling thread's mount namespace."""
    arguments = [ctypes.c_char_p(text.encode()) for text in (new_root, put_old)]
    if _libc.pivot_root(*arguments) < 0:
        raise _error(f"pivot_root {new_root}")


def _error(subject: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{subject}: {os.strerror(number)}")
