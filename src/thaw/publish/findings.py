"""What the engine saw in a process that will be cloned, and what its author should know about it, one sentence each.

Codes go on where those of `thaw lint` end: TS1xx is a line of source, TS2xx was there when the snapshot was taken.
Every sentence names the thing, says what happens to it in a clone, and what to do. Secrets are named, never shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from thaw.publish.report import Report, made_text
from thaw.publish.stock import Descriptor, ProcessStock, Stock, secret_names

MIB = 1 << 20
# /tmp below this size is not worth a line.
TMP_NOTE = 1 * MIB
# What a finding's line in the function's log begins with.
LINE = "SNAPSHOT_FINDING"
CODES = {
    "TS201": "random generator",
    "TS202": "random generator of a child process",
    "TS231": "secret in the environment",
    "TS232": "AWS credentials in memory",
    "TS241": "open connection",
    "TS251": "files in /tmp",
    "TS261": "thread",
    "TS271": "child process",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One code of CODES and one sentence."""

    code: str
    sentence: str


def find(stock: Stock, report: Report | None, unknown_generators: Sequence[tuple[int, str, str]] = ()) -> list[Finding]:
    """Findings, by code; `report` is None where the language's runtime does not make one, and `unknown_generators` are
    (number, name, what) of child processes, as `freeze` saw them."""
    found: list[Finding] = list(_generators_of_children(unknown_generators))
    if report is not None:
        found += _generators(report)
        found += _credentials(report)
    found += _secrets(stock, report)
    for process in stock.processes:
        found += _sockets(process, report if process is stock.processes[0] else None, stock.runtime_api)
    found += _tmp(stock)
    found += _threads(stock, report)
    found += _children(stock, report)
    return sorted(found, key=lambda finding: finding.code)


def _named(kind: str, holder: str) -> str:
    return f"{holder} (a {kind})" if holder else f"A {kind}"


def _generators(report: Report) -> Iterator[Finding]:
    for kind, holder in report.generators:
        yield Finding(
            "TS201",
            f"{_named(kind, holder)} goes on with the same numbers in every clone: make it, or seed it again, in an "
            "after-restore hook.",
        )


def _generators_of_children(unknown: Sequence[tuple[int, str, str]]) -> Iterator[Finding]:
    """What the engine could renew is no finding."""
    for number, name, what in unknown:
        yield Finding(
            "TS202",
            f"The child process {name} ({number}) may have {what}, which goes on with the same numbers in every clone: "
            "draw from /dev/urandom there, or start the process in an after-restore hook.",
        )


def _credentials(report: Report) -> Iterator[Finding]:
    for kind, holder in report.credentials:
        yield Finding(
            "TS232",
            f"{_named(kind, holder)} holds AWS credentials that were fetched during Init, and a clone may use them "
            "after they expired: make the session or client anew in an after-restore hook, or do not call AWS in Init.",
        )


def _secrets(stock: Stock, report: Report | None) -> Iterator[Finding]:
    names = {name for process in stock.processes[:1] for name in process.secrets}
    names |= set(secret_names(report.variables)) if report is not None else set()
    if names:
        shown = ", ".join(sorted(names))
        subject = f"The variable {shown} looks like a secret and is"
        if len(names) > 1:
            subject = f"The variables {shown} look like secrets and are"
        yield Finding(
            "TS231",
            f"{subject} in the snapshot's memory (encrypted where it is stored): read what may change from a secret "
            "store in an after-restore hook.",
        )


def _sockets(process: ProcessStock, report: Report | None, runtime_api: str) -> Iterator[Finding]:
    """Connections to the platform itself, as that for credentials, are left out: every SDK opens them again."""
    places = {one.descriptor: made_text(one.made) for one in report.sockets} if report is not None else {}
    for one in process.descriptors:
        made = places.get(one.number, "")
        shown = f"Descriptor {one.number} of {process.name}" + (f", {made}," if made else "")
        if is_connection(one) and one.peer != runtime_api:
            yield Finding(
                "TS241",
                f"{shown} is a TCP connection to {one.peer}, which every clone finds reset by its peer: close it in a "
                "before-snapshot hook and open it in an after-restore hook, or reconnect on error.",
            )


def _tmp(stock: Stock) -> Iterator[Finding]:
    if stock.tmp_bytes >= TMP_NOTE:
        path, size = stock.files[0]
        yield Finding(
            "TS251",
            f"/tmp holds {stock.tmp_bytes / MIB:.1f} MiB (files: {stock.tmp_files}), the largest being {path} "
            f"({size / MIB:.1f} MiB), and every clone unpacks all of it: remove in a before-snapshot hook what "
            "calls do not need.",
        )


def _threads(stock: Stock, report: Report | None) -> Iterator[Finding]:
    """Threads of one place and one kind of name share a sentence.

    Those that the language does not know belong to libraries and virtual machines, which wait for work; they are no
    finding, and `thaw snapshot inspect` shows them.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    known = {one.number: one for one in report.threads} if report is not None else {}
    for process in stock.processes[:1]:
        for number, _ in process.threads:
            thread = known.get(number)
            if number != process.number and thread is not None:
                groups.setdefault((made_text(thread.made), thread.name.rstrip("0123456789")), []).append(thread.name)
    for (made, _), names in groups.items():
        yield Finding("TS261", _thread_sentence(names, made))


def _thread_sentence(names: list[str], made: str) -> str:
    several = len(names) > 1
    distinct = list(dict.fromkeys(names))
    shown = ", ".join(distinct[:4]) + (f" and {len(distinct) - 4} more" if len(distinct) > 4 else "")
    count = f"{len(names)} threads " if several else "The thread "
    go_on, stand, them = ("go", "they stand", "them") if several else ("goes", "it stands", "it")
    return (
        f"{count}{shown}{f', {made},' if made else ''} {go_on} on in every clone from where {stand} now: "
        f"let {them} wait for work then, and hold no connection and no time of day."
    )


def _children(stock: Stock, report: Report | None) -> Iterator[Finding]:
    made = {one.number: made_text(one.made) for one in report.children} if report is not None else {}
    for process in (one for one in stock.processes if one.descends):
        where = made.get(process.number) or made.get(0, "")
        shown = f"The child process {process.name} ({process.command or process.number})" + (
            f", {where}," if where else ""
        )
        yield Finding(
            "TS271",
            f"{shown} is part of the snapshot, and every clone has one of its own: end it in a before-snapshot hook "
            "where clones do not need it.",
        )


def is_connection(one: Descriptor) -> bool:
    """Whether a descriptor is a connection to another machine or process over TCP."""
    return one.kind == "TCP" and one.state in ("connected", "connecting", "closing")
