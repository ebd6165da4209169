"""What the processes of a function hold when they are about to be frozen, as the kernel tells it (/proc).

The figures are read from outside and while the function waits, not stopped: they are for people, and nothing is
restored by them. All sizes are bytes. Values of environment variables are never read into the stock, only names.
"""

from __future__ import annotations

import os
import re
import socket
import stat
import struct
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

MAPPINGS, FILES, DESCRIPTORS, THREADS = 60, 12, 256, 256
_HEAD = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)$")
# The process has ended, or is not ours to look into (a server without root): then there is less to tell.
UNREADABLE = (FileNotFoundError, ProcessLookupError, PermissionError)
# include/net/tcp_states.h
_TCP_STATES = {"01": "connected", "02": "connecting", "08": "closing", "0A": "listening", "07": "unconnected"}
_SECRET = re.compile(r"(?i)PASSW|SECRET|TOKEN|CREDENTIAL|(API|PRIVATE|ACCESS)_?KEY|CONNECTION_STRING")
# Thaw's own, a number that opens the credentials endpoint on the loopback; and addresses or names of secrets.
_NO_SECRET = re.compile(r"(?i)^AWS_CONTAINER_AUTHORIZATION_TOKEN$|_(ARN|NAME|ID|URL|URI|PATH|FILE|TTL|EXPIRY)$")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """`state` and `peer` are those of a socket; "" otherwise."""

    number: int
    link: str
    kind: str = ""
    state: str = ""
    local: str = ""
    peer: str = ""


@dataclass(frozen=True, slots=True)
class ProcessStock:
    """One process. `number` is its own view; `mappings` are (what, count, bytes resident, bytes of its own);
    `descends`: the function started it, itself or through another process (an extension's processes it did not)."""

    number: int
    name: str
    command: str
    mappings: list[tuple[str, int, int, int]]
    threads: list[tuple[int, str]]
    descriptors: list[Descriptor]
    secrets: list[str]
    descends: bool = False


@dataclass(frozen=True, slots=True)
class Stock:
    """All processes, the function's own first; `files` are the largest in /tmp, as (path, bytes). `runtime_api` is the
    address of the platform's own endpoint, on the loopback."""

    processes: list[ProcessStock] = field(default_factory=list)
    tmp_bytes: int = 0
    tmp_files: int = 0
    files: list[tuple[str, int]] = field(default_factory=list)
    runtime_api: str = ""

    def document(self) -> dict[str, Any]:
        """As it is kept in a snapshot's facts: maps, lists, text and numbers."""
        return asdict(self)


def take_stock(main: int, others: Sequence[int] = (), *, own_port: int = 0) -> Stock:
    """Looks at the process `main` and at `others` (numbers as this process sees them); `own_port` is the local port of
    the runtime's connection, which is left out. A process that ends meanwhile, or may not be read, is left out, too."""
    found = []
    family = set(_descendants(main))
    for pid in (main, *(other for other in others if other != main)):
        try:
            found.append(replace(_process(pid, own_port), descends=pid in family))
        except UNREADABLE:
            continue
    sizes = dict(_tmp_files(f"/proc/{main}/root/tmp"))
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:FILES]
    return Stock(found, sum(sizes.values()), len(sizes), largest, _variable(main, "AWS_LAMBDA_RUNTIME_API"))


def _variable(pid: int, name: str) -> str:
    try:
        variables = _text(f"/proc/{pid}/environ").split("\0")
    except UNREADABLE:
        return ""
    return next((one.partition("=")[2] for one in variables if one.startswith(f"{name}=")), "")


def _descendants(pid: int) -> list[int]:
    """Children, their children, and so on; none where the process has ended."""
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
        children = [int(one) for task in tasks for one in _text(f"/proc/{pid}/task/{task}/children").split()]
    except UNREADABLE:
        return []
    return [*children, *(below for child in children for below in _descendants(child))]


def _process(pid: int, own_port: int) -> ProcessStock:
    return ProcessStock(
        number=_own_number(f"/proc/{pid}"),
        name=_text(f"/proc/{pid}/comm").rstrip("\n"),
        command=_text(f"/proc/{pid}/cmdline").replace("\0", " ").strip()[:200],
        mappings=_mappings(pid),
        threads=_threads(pid),
        descriptors=_descriptors(pid, own_port),
        secrets=secret_names(variable.partition("=")[0] for variable in _text(f"/proc/{pid}/environ").split("\0")),
    )


def secret_names(names: Iterator[str] | Sequence[str]) -> list[str]:
    """Names of variables that look as if their values were secrets."""
    return sorted({name for name in names if _SECRET.search(name) and not _NO_SECRET.search(name)})


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _own_number(folder: str) -> int:
    """The number in the innermost pid namespace."""
    lines = (line for line in _text(f"{folder}/status").splitlines() if line.startswith("NSpid:"))
    return int(next(lines).split()[-1])


def _threads(pid: int) -> list[tuple[int, str]]:
    folders = [f"/proc/{pid}/task/{thread}" for thread in sorted(os.listdir(f"/proc/{pid}/task"), key=int)]
    return [(_own_number(folder), _text(f"{folder}/comm").rstrip("\n")) for folder in folders[:THREADS]]


# --- memory -----------------------------------------------------------------------------------------------------------


def _mappings(pid: int) -> list[tuple[str, int, int, int]]:
    """By file or kind, those with most memory of their own first; what does not fit becomes one entry."""
    sums: dict[str, list[int]] = {}
    entry = [0, 0, 0]
    for line in _text(f"/proc/{pid}/smaps").splitlines():
        if (head := _HEAD.match(line)) is not None:
            entry = sums.setdefault(_mapping_name(head[1]), [0, 0, 0])
            entry[0] += 1
        elif line.startswith("Rss:"):
            entry[1] += int(line.split()[1]) << 10
        elif line.startswith("Anonymous:"):  # pages that are no longer the file's: these go into the image
            entry[2] += int(line.split()[1]) << 10
    ordered = sorted(sums.items(), key=lambda item: (-item[1][2], -item[1][1], item[0]))
    rows = [(name, count, resident, own) for name, (count, resident, own) in ordered]
    rest = rows[MAPPINGS:]
    if not rest:
        return rows
    others = (f"{len(rest)} others", sum(r[1] for r in rest), sum(r[2] for r in rest), sum(r[3] for r in rest))
    return [*rows[:MAPPINGS], others]


def _mapping_name(path: str) -> str:
    if not path:
        return "[anonymous]"
    return path.removesuffix(" (deleted)")


# --- descriptors ------------------------------------------------------------------------------------------------------


def _descriptors(pid: int, own_port: int) -> list[Descriptor]:
    sockets = _sockets(pid)
    found = []
    for number in sorted(map(int, os.listdir(f"/proc/{pid}/fd")))[:DESCRIPTORS]:
        try:
            link = os.readlink(f"/proc/{pid}/fd/{number}")
        except FileNotFoundError:
            continue  # closed by another thread meanwhile
        kind, state, local, peer = sockets.get(link, ("", "", "", ""))
        if not (own_port and local.endswith(f":{own_port}") and state == "connected"):
            found.append(Descriptor(number, link, kind, state, local, peer))
    return found


def _sockets(pid: int) -> dict[str, tuple[str, str, str, str]]:
    """By link ("socket:[inode]"): kind, state, own address, the other side's."""
    found: dict[str, tuple[str, str, str, str]] = {}
    for kind in ("tcp", "tcp6", "udp", "udp6"):
        for line in _table(pid, kind):
            fields = line.split()
            local, peer = _address(fields[1]), _address(fields[2])
            state = _TCP_STATES.get(fields[3], "closing") if kind.startswith("tcp") else ""
            if kind.startswith("udp") and not peer.endswith(":0"):
                state = "connected"
            found[f"socket:[{fields[9]}]"] = (kind[:3].upper(), state, local, "" if peer.endswith(":0") else peer)
    for line in _table(pid, "unix"):
        fields = line.split()
        found[f"socket:[{fields[6]}]"] = ("UNIX", "", fields[7] if len(fields) > 7 else "", "")
    return found


def _table(pid: int, name: str) -> list[str]:
    try:
        return _text(f"/proc/{pid}/net/{name}").splitlines()[1:]
    except FileNotFoundError:  # a kernel without IPv6
        return []


def _address(text: str) -> str:
    """`0100007F:1F90` is 127.0.0.1:8080: words of the address in the machine's order (proc_net_tcp.rst)."""
    words, _, port = text.partition(":")
    raw = b"".join(struct.pack("=I", int(words[start : start + 8], 16)) for start in range(0, len(words), 8))
    if len(raw) == 4:
        return f"{socket.inet_ntop(socket.AF_INET, raw)}:{int(port, 16)}"
    if raw.startswith(bytes(10) + b"\xff\xff"):
        return f"{socket.inet_ntop(socket.AF_INET, raw[12:])}:{int(port, 16)}"
    return f"[{socket.inet_ntop(socket.AF_INET6, raw)}]:{int(port, 16)}"


# --- /tmp -------------------------------------------------------------------------------------------------------------


def _tmp_files(folder: str) -> Iterator[tuple[str, int]]:
    """Regular files below the function's /tmp; links are not followed."""
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.lstat(os.path.join(path, name))
            except UNREADABLE:
                continue
            if stat.S_ISREG(status.st_mode):
                yield "/tmp" + path.removeprefix(folder) + "/" + name, status.st_size
