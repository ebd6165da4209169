"""Packets to and from a sandbox: what is refused."""

from __future__ import annotations

import pytest

from thaw.environment import control
from thaw.errors import SandboxError

NOBODY = control.Confinement(1, 1, b"", [])


def packet(kind: int, body: bytes = b"", *, size: int | None = None) -> bytes:
    return control.HEADER.pack(kind, 8 + len(body) if size is None else size) + body


def test_numbers_are_read() -> None:
    assert control.parse(packet(17, (2).to_bytes(4, "little"))).number == 2
    assert control.parse(packet(18, (256).to_bytes(4, "little"))) == control.Message(control.Kind.EXITED, 256)
    assert control.parse(packet(16)).kind is control.Kind.READY
    assert control.parse(packet(22)).kind is control.Kind.ATTACHED


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x11\0\0\0",
        packet(99),
        packet(17),
        packet(17, bytes(4), size=99),
        packet(1, bytes(128)),
        packet(19, b"xx"),
    ],
)
def test_what_is_no_packet_is_refused(data: bytes) -> None:
    with pytest.raises(SandboxError, match="not understood"):
        control.parse(data)


def test_variables_that_do_not_fit_are_refused_with_the_limit() -> None:
    with pytest.raises(SandboxError, match="the limit is 65536"):
        control.start(NOBODY, "/", ["a"], {"LONG": "x" * 70000})


def test_a_nul_cannot_smuggle_in_another_variable() -> None:
    with pytest.raises(SandboxError, match="NUL"):
        control.start(NOBODY, "/", ["a"], {"A": "x\0PATH=/evil"})


def test_mount_points() -> None:
    with pytest.raises(SandboxError, match="123 bytes"):
        control.attach(["/" + "p" * 123])
    with pytest.raises(SandboxError, match="at most 32 mounts"):
        control.attach(["/tmp"] * 33)
