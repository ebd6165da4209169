"""The messages of the control socket; the same layout as native/control.h.

Packets are one header (kind, size), one fixed part, then arrays. All integers are little-endian, as the
launcher's machine has them. Descriptors travel beside a packet and are not part of these bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from thaw.errors import SandboxError

CONTROL_FD, FILE_TREE_FD, CGROUP_FD = 3, 4, 5
CONTROL_LIMIT = 65536
DESCRIPTOR_LIMIT = 32

HEADER = struct.Struct("<II")
ATTACHMENT = struct.Struct("<124sI")
PROCESS = struct.Struct("<IIiIIIII")  # user, group, pid, flags, filters, limits, arguments, variables
RESOURCE_LIMIT = struct.Struct("<IIQQ")
FAILURE = struct.Struct("<ii120s")
NUMBER = struct.Struct("<i")
ENDED = struct.Struct("<ii")  # number, wait status
FILTER_BYTES = 8
START_IS_EXTENSION = 1


class Kind(IntEnum):
    """Kinds of packets: to the sandbox below 16, from it above."""

    ATTACH = 1
    START = 2
    WATCH = 10
    READY = 16
    STARTED = 17
    EXITED = 18
    FAILED = 19
    ATTACHED = 22
    ENDED = 27
    OWNER = 28


@dataclass(frozen=True, slots=True)
class ResourceLimit:
    """One setrlimit(2): `resource` is RLIMIT_*, the bounds are in its own unit."""

    resource: int
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class Confinement:
    """Who the function's process is and what it may do: user and group number, seccomp program, limits."""

    user: int
    group: int
    seccomp: bytes
    limits: Sequence[ResourceLimit]


@dataclass(frozen=True, slots=True)
class Message:
    """A packet from the sandbox. `number` is the pid of STARTED and ENDED, the wait status of EXITED, the errno of
    FAILED; `step` names what failed, `status` is the wait status of ENDED."""

    kind: Kind
    number: int = 0
    step: str = ""
    status: int = 0


def attach(paths: Sequence[str]) -> bytes:
    """ATTACH: put the detached mounts that travel beside it on `paths`, in order. Raises SandboxError."""
    if len(paths) > DESCRIPTOR_LIMIT:
        raise SandboxError(f"A sandbox takes at most {DESCRIPTOR_LIMIT} mounts, not {len(paths)}.", step="attach")
    return _packet(Kind.ATTACH, b"".join([ATTACHMENT.pack(_path(path), 0) for path in paths]))


def start(
    confinement: Confinement,
    folder: str,
    arguments: Sequence[str],
    variables: Mapping[str, str],
    *,
    is_extension: bool = False,
) -> bytes:
    """START: run `arguments` in `folder` with `variables`; the log descriptor travels beside it. An extension runs
    beside the function's process.

    Raises SandboxError where a string holds a NUL or the packet grows over 64 KiB.
    """
    strings = [folder, *arguments, *(f"{name}={value}" for name, value in variables.items())]
    text = b"".join([_string(each) for each in strings])
    return _packet(Kind.START, _process(confinement, is_extension, len(arguments), len(variables)) + text)


def parse(packet: bytes) -> Message:
    """Read one packet from a sandbox. Raises SandboxError where it is not one."""
    try:
        kind, size = HEADER.unpack_from(packet)
        if size != len(packet):
            raise ValueError(f"{len(packet)} bytes instead of {size}")
        return _parse(Kind(kind), packet)
    except (ValueError, struct.error) as error:
        raise SandboxError(f"The sandbox sent a packet that is not understood ({error}).", step="control") from error


def _parse(kind: Kind, packet: bytes) -> Message:
    if kind in (Kind.STARTED, Kind.EXITED):
        return Message(kind, NUMBER.unpack_from(packet, HEADER.size)[0])
    if kind is Kind.ENDED:
        number, status = ENDED.unpack_from(packet, HEADER.size)
        return Message(kind, number, status=status)
    if kind is Kind.FAILED:
        error, _, step = FAILURE.unpack_from(packet, HEADER.size)
        return Message(kind, error, step.split(b"\0", 1)[0].decode(errors="replace"))
    if kind in (Kind.READY, Kind.ATTACHED, Kind.OWNER):
        return Message(kind)
    raise ValueError(f"{kind.name} goes the other way")


def watch(numbers: Sequence[int]) -> bytes:
    """WATCH: tell when these processes (numbers in the sandbox) have ended."""
    return _packet(Kind.WATCH, struct.pack(f"<{len(numbers)}i", *numbers))


def _process(confinement: Confinement, is_extension: bool, arguments: int, variables: int) -> bytes:
    filters, limits = len(confinement.seccomp) // FILTER_BYTES, confinement.limits
    flags = START_IS_EXTENSION if is_extension else 0
    fixed = PROCESS.pack(confinement.user, confinement.group, 0, flags, filters, len(limits), arguments, variables)
    packed = [RESOURCE_LIMIT.pack(each.resource, 0, each.soft, each.hard) for each in limits]
    return fixed + confinement.seccomp + b"".join(packed)


def _packet(kind: Kind, body: bytes) -> bytes:
    size = HEADER.size + len(body)
    if size > CONTROL_LIMIT:
        message = f"A function's arguments and variables take {size} bytes; the limit is {CONTROL_LIMIT}: shorten them."
        raise SandboxError(message, step="control")
    return HEADER.pack(kind, size) + body


def _path(path: str) -> bytes:
    encoded = path.encode()
    if len(encoded) > 123 or b"\0" in encoded:
        raise SandboxError(f"The mount point {path!r} is longer than 123 bytes or holds a NUL.", step="attach")
    return encoded


def _string(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogateescape")
    if b"\0" in encoded:
        raise SandboxError("A function's argument or variable holds a NUL character; remove it.", step="control")
    return encoded + b"\0"
