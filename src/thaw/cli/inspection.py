"""`thaw snapshot inspect NAME[:VERSION]`: what a snapshot holds, and what differs from the version before.

Everything comes from the manifest's facts, which were written when the process was frozen (docs/inspection.md); no
clone is started, and no chunk is read.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thaw.cli.screen import wide_console
from thaw.cli.snapshot import Name, Opened, StateDir, mib, with_store, working_set, working_set_text

if TYPE_CHECKING:
    from rich.console import Console

    from thaw.chunk import Manifest

# Rows of each table; --json has all of them.
ROWS = 12
SMALL = 1 << 20


def inspect(
    name: Name,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document")] = False,
    state_dir: StateDir = None,
) -> None:
    """Show what a snapshot holds: memory, objects, files, threads, descriptors; and what changed since the last."""
    shown = with_store(state_dir, lambda opened: _inspection(opened, name))
    if as_json:
        typer.echo(json.dumps(shown.document(), indent=1))
    else:
        _show(wide_console(), shown)


@dataclass(frozen=True, slots=True)
class Inspection:
    """One snapshot, and the one of the same function's version before it, if there is one."""

    label: str
    manifest: Manifest
    before_label: str = ""
    before: Manifest | None = None

    @property
    def facts(self) -> Mapping[str, Any]:
        """The engine's facts."""
        return self.manifest.facts

    @property
    def processes(self) -> Sequence[Mapping[str, Any]]:
        """The function's own first; empty where the snapshot is older than this command."""
        found: Sequence[Mapping[str, Any]] = (self.facts.get("stock") or {}).get("processes", ())
        return found

    def document(self) -> dict[str, Any]:
        """Everything, for --json; sizes are bytes."""
        stock = dict(self.facts.get("stock") or {})
        return {
            "snapshot": self.label,
            "key": self.manifest.snapshot_key,
            "memory_bytes": self.manifest.memory.size,
            "plan_bytes": self.manifest.plan.size,
            "disk_bytes": self.manifest.disk.size,
            "working_set_bytes": sum(place.size for place in working_set(self.manifest)),
            "findings": [{"code": code, "sentence": text} for code, text in self.facts.get("findings", ())],
            "processes": [_process_document(one) for one in stock.pop("processes", ())],
            "tmp": stock,
            "objects": self.facts.get("report"),
            "since": None if self.before is None else difference(self.manifest, self.before, self.before_label),
        }


def _process_document(process: Mapping[str, Any]) -> dict[str, Any]:
    names = ("what", "mappings", "resident_bytes", "own_bytes")
    threads = [{"number": number, "name": name} for number, name in process["threads"]]
    mappings = [dict(zip(names, row, strict=True)) for row in process["mappings"]]
    return {**process, "mappings": mappings, "threads": threads}


async def _inspection(opened: Opened, name: str) -> Inspection:
    key = await opened.key_of(name)
    manifest = await opened.manifest(key)
    before = _before(opened, key)
    if before is None:
        return Inspection(opened.label(key), manifest)
    return Inspection(opened.label(key), manifest, opened.label(before), await opened.manifest(before))


def _before(opened: Opened, key: str) -> str | None:
    """The snapshot of the nearest version before, of the same function."""
    if (one := opened.versions.get(key)) is None:
        return None
    older = {
        int(other.version): other_key
        for other_key, other in opened.versions.items()
        if other.function_id == one.function_id and int(other.version) < int(one.version)
    }
    return older[max(older)] if older else None


# --- the difference ---------------------------------------------------------------------------------------------------


def difference(now: Manifest, before: Manifest, label: str) -> dict[str, Any]:
    """What changed since another snapshot: bytes by mapping and type, what came and what went."""
    ids = {place.id: place.size for place in now.memory.chunks}
    shared = {place.id for place in before.memory.chunks} & ids.keys()
    return {
        "snapshot": label,
        "memory_bytes": now.memory.size - before.memory.size,
        "shared_chunk_bytes": sum(ids[id] for id in shared),
        "own": _changed(_own_by_mapping(now), _own_by_mapping(before)),
        "types": _changed(_bytes_by_type(now), _bytes_by_type(before)) if _bytes_by_type(before) else {},
        "threads": _came_and_went(_threads(now), _threads(before)),
        "descriptors": _came_and_went(_links(now), _links(before)),
        "findings": _came_and_went(_findings(now), _findings(before)),
    }


def _changed(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    """Bytes more (or less, negative), the largest change first."""
    changes = {name: now.get(name, 0) - before.get(name, 0) for name in {*now, *before}}
    return {name: change for name, change in sorted(changes.items(), key=lambda item: -abs(item[1])) if change}


def _came_and_went(now: Iterable[str], before: Iterable[str]) -> dict[str, list[str]]:
    here, there = Counter(now), Counter(before)
    return {"came": sorted((here - there).elements()), "went": sorted((there - here).elements())}


def _all_processes(manifest: Manifest) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = (manifest.facts.get("stock") or {}).get("processes", ())
    return found


def _own_by_mapping(manifest: Manifest) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for process in _all_processes(manifest):
        for name, _, _, own in process["mappings"]:
            sums[name] += own
    return dict(sums)


def _bytes_by_type(manifest: Manifest) -> dict[str, int]:
    return {kind: size for kind, _, size in (manifest.facts.get("report") or {}).get("types", ())}


def _threads(manifest: Manifest) -> list[str]:
    return [thread["name"] for thread in (manifest.facts.get("report") or {}).get("threads", ())]


def _links(manifest: Manifest) -> list[str]:
    return [_lasting(descriptor_text(one)) for process in _all_processes(manifest) for one in process["descriptors"]]


def _findings(manifest: Manifest) -> list[str]:
    return [_lasting(f"{code} {sentence}") for code, sentence in manifest.facts.get("findings", ())]


def _lasting(text: str) -> str:
    """Ports that the kernel chose differ from one Init to the next, and mean nothing."""
    return re.sub(r"(127\.0\.0\.1|\[::1\]):\d{5}\b", r"\1", text)


def descriptor_text(one: Mapping[str, Any]) -> str:
    """A descriptor without numbers that differ from run to run: a path, or "TCP connected to 10.0.0.1:5432"."""
    if not one["kind"]:
        return str(one["link"]) if one["link"].startswith("/") else str(one["link"]).partition("[")[0].rstrip(":")
    parts = [one["kind"], one["state"]]
    if one["peer"]:
        parts.append(f"to {one['peer']}")
    elif one["local"] and one["state"] == "listening":
        parts.append(f"at {one['local']}")
    return " ".join(part for part in parts if part)


# --- for people -------------------------------------------------------------------------------------------------------


def _show(console: Console, shown: Inspection) -> None:
    manifest, facts = shown.manifest, shown.facts
    console.print(f"[bold]{shown.label}[/]  {manifest.snapshot_key}", markup=True)
    sections = f"{mib(manifest.memory.size)} of memory, {mib(manifest.plan.size)} of restore plan"
    console.print(f"{sections}, {mib(manifest.disk.size)} of /tmp; working set {working_set_text(manifest)}")
    if not shown.processes:
        console.print("\nIt was taken before Thaw wrote down what snapshots hold: publish again to see more.")
    for process in shown.processes:
        _show_process(console, process, facts.get("report") if process is shown.processes[0] else None)
    _show_files(console, facts.get("stock") or {})
    _show_objects(console, facts.get("report"))
    show_findings(console, [(code, sentence) for code, sentence in facts.get("findings", ())])
    if shown.before is not None:
        _show_difference(console, difference(manifest, shown.before, shown.before_label))


def _table(console: Console, title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Left-aligned words, then right-aligned figures; the first column takes what is left."""
    from rich.markup import escape
    from rich.table import Table

    if not rows:
        return
    console.print(f"\n[bold]{escape(title)}[/]")
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in headings:
        figure = heading.endswith(("MiB", "objects", "number", "mappings"))
        table.add_column(heading, justify="right" if figure else "left", style="" if figure else None, no_wrap=figure)
    for row in rows[:ROWS]:
        table.add_row(*map(escape, row))
    console.print(table)
    if len(rows) > ROWS:
        console.print(f"and {len(rows) - ROWS} more")


def _size(value: float) -> str:
    return f"{value / SMALL:,.2f}"


def _show_process(console: Console, process: Mapping[str, Any], report: Mapping[str, Any] | None) -> None:
    title = f"Process {process['number']} {process['name']}"
    own = [row for row in process["mappings"] if row[3]]
    rows = [(name, str(count), _size(resident), _size(mine)) for name, count, resident, mine in own]
    _table(console, f"{title}: memory", ("mapped", "mappings", "resident MiB", "its own MiB"), rows)
    known = {one["number"]: one for one in (report or {}).get("threads", ())}
    _table(
        console, f"{title}: threads", ("number", "name", "where it stands", "made in"),
        [_thread_row(number, name, known.get(number)) for number, name in process["threads"]],
    )  # fmt: skip
    links = [(str(one["number"]), descriptor_text(one)) for one in process["descriptors"]]
    _table(console, f"{title}: descriptors", ("number", "leads to"), links)


def _thread_row(number: int, name: str, known: Mapping[str, Any] | None) -> tuple[str, str, str, str]:
    from thaw.publish.report import place_text

    if known is None:
        return str(number), name, "native code", ""
    at = place_text(known["at"][-1]) if known["at"] else ""
    at = "waits for the restore" if known["main"] else at
    return str(number), known["name"], at, place_text(known["made"][0]) if known["made"] else ""


def _show_files(console: Console, stock: Mapping[str, Any]) -> None:
    rows = [(path, _size(size)) for path, size in stock.get("files", ())]
    count = stock.get("tmp_files", 0)
    total = f"/tmp: {count} file{'' if count == 1 else 's'}, {mib(stock.get('tmp_bytes', 0))}"
    _table(console, total, ("largest", "MiB"), rows)


def _show_objects(console: Console, report: Mapping[str, Any] | None) -> None:
    if report is None:
        return
    count, size = report["total"]
    title = f"Objects of {report['language']}: {count:,}, {mib(size)}"
    title += "" if report["complete"] else " (there are more: counting was stopped)"
    rows = [(kind, f"{number:,}", _size(taken)) for kind, number, taken in report["types"]]
    _table(console, title, ("type", "objects", "MiB"), rows)
    large = [(holder or "?", kind, _size(taken)) for kind, taken, holder in report["largest"]]
    _table(console, "Largest objects", ("held by", "type", "MiB"), large)


def show_findings(console: Console, findings: Sequence[tuple[str, str]]) -> None:
    """Codes and sentences; also what `thaw publish` ends with."""
    from rich.table import Table

    if not findings:
        console.print("\nNothing was found that its clones need to be told of.")
        return
    console.print("\n[bold]Findings[/]")
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for code, sentence in findings:
        table.add_row(f"[yellow]{code}[/]", sentence.replace("[", "\\["))
    console.print(table)


def _show_difference(console: Console, changes: Mapping[str, Any]) -> None:
    console.print(f"\n[bold]Since {changes['snapshot']}[/]")
    shared = mib(changes["shared_chunk_bytes"])
    console.print(f"memory image {_signed(changes['memory_bytes'])} MiB; {shared} of it are chunks that both have")
    rows = [(name, _signed(size)) for name, size in changes["own"].items() if abs(size) >= SMALL // 16]
    _table(console, "Memory of its own", ("mapped", "change MiB"), rows)
    types = [(kind, _signed(size)) for kind, size in changes["types"].items() if abs(size) >= SMALL // 64]
    _table(console, "Objects", ("type", "change MiB"), types)
    for title in ("threads", "descriptors", "findings"):
        for word, sign in (("came", "+"), ("went", "-")):
            for one in changes[title][word]:
                console.print(f"{sign} {title.removesuffix('s')} {one}", markup=False)


def _signed(size: float) -> str:
    return f"{size / SMALL:+,.2f}"
