"""`thaw snapshot ls|show|verify|gc`: what the snapshot store holds, for people.

All of it reads the origin (and looks into the tiers before it) directly, so it works beside a running server and
without one. Settings are those of the server: THAW_STATE_DIR, THAW_ORIGIN, THAW_L1_BYTES, THAW_L2_URL.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from thaw.cli.screen import wide_console
from thaw.errors import ConfigurationError

if TYPE_CHECKING:
    from thaw.catalog.configuration import Configuration
    from thaw.chunk import Manifest
    from thaw.store import ChunkStore, Store

Result = TypeVar("Result")
MIB = 1 << 20

application = typer.Typer(
    name="snapshot", help="Look at stored snapshots, check them, and free what none needs.", no_args_is_help=True
)
StateDir = Annotated[
    Path | None, typer.Option(help="State folder of the server", show_default="THAW_STATE_DIR, /var/lib/thaw")
]
Name = Annotated[str, typer.Argument(help="A function (its newest version), name:3, or a snapshot's key")]


@application.command("ls")
def ls(state_dir: StateDir = None) -> None:
    """List all snapshots: sizes, what they share with others, and what is read first."""
    from rich.table import Table

    rows, total = with_store(state_dir, _rows)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("snapshot", "key", "image", "stored", "shared", "working set"):
        table.add_column(heading, justify="left" if heading in ("snapshot", "key") else "right")
    for row in rows:
        table.add_row(*row)
    console = wide_console()
    console.print(table)
    console.print(
        f"{_counted(len(rows), 'snapshot')}, {total / MIB:,.1f} MiB of chunks in the origin, each counted once."
    )


@application.command("show")
def show(name: Name, measure: Annotated[bool, typer.Option(help="Time the restore's reads from each tier")] = False,
         state_dir: StateDir = None) -> None:  # fmt: skip
    """Show one snapshot: sections, key, facts, and which tiers hold how much of it."""
    console = wide_console()
    for line in with_store(state_dir, lambda opened: _description(opened, name, measure)):
        console.print(line)


@application.command("verify")
def verify(
    name: Annotated[
        str | None, typer.Argument(help="A function (its newest version), name:3, or a key; none: all")
    ] = None,
    state_dir: StateDir = None,
) -> None:
    """Open every chunk in the origin, and put back from a nearer tier what is missing or damaged there.

    The exit status is 1 where a chunk is missing or damaged in all tiers.
    """
    console = wide_console()
    faults = 0
    for line, wrong in with_store(state_dir, lambda opened: _verified(opened, name)):
        console.print(line)
        faults += wrong
    if faults:
        raise typer.Exit(1)


@application.command("gc")
def gc(state_dir: StateDir = None) -> None:
    """Remove chunks that no manifest names, such as those of a publish that was killed."""
    removed = with_store(state_dir, lambda opened: opened.store.snapshots.collect())
    wide_console().print(f"Removed {_counted(removed, 'chunk')} that no snapshot needs.")


@dataclass(frozen=True, slots=True)
class Opened:
    """A store, and the versions whose snapshots are in it, by snapshot key."""

    store: Store
    versions: dict[str, Configuration]

    async def key_of(self, name: str) -> str:
        """The snapshot key of `function:version`, or of the newest version of `function`, or `name` itself.

        Raises ConfigurationError where there is no such snapshot.
        """
        of_function = {int(one.version): key for key, one in self.versions.items() if one.function_name == name}
        if of_function:
            return of_function[max(of_function)]
        for key, one in self.versions.items():
            if name in (f"{one.function_name}:{one.version}", one.qualified_arn):
                return key
        if name not in await self.store.snapshots.snapshot_keys():
            raise ConfigurationError(
                f"There is no snapshot of {name}, by that name or key: `thaw snapshot ls` shows those there are."
            )
        return name

    def label(self, key: str) -> str:
        """`function:version`, or the key where no version has the snapshot."""
        one = self.versions.get(key)
        return key if one is None else f"{one.function_name}:{one.version}"

    async def manifest(self, key: str) -> Manifest:
        """The manifest, under the key that the version names."""
        one = self.versions.get(key)
        return await self.store.snapshots.load_manifest(key, None if one is None else one.kms_key_arn)


def with_store(state_dir: Path | None, work: Callable[[Opened], Awaitable[Result]]) -> Result:
    """What `work` gives for the store of the server's settings, which is closed again."""
    return asyncio.run(_with_store(state_dir, work))


async def _with_store(state_dir: Path | None, work: Callable[[Opened], Awaitable[Result]]) -> Result:
    from thaw.config import read_settings
    from thaw.store import open_store

    settings = read_settings(state_dir=state_dir)
    if not settings.state_dir.is_dir():
        raise ConfigurationError(
            f"There is no state of a server in {settings.state_dir}: name its folder with --state-dir, or set "
            "THAW_STATE_DIR."
        )
    versions = await _versions(settings)
    with _closing(await asyncio.to_thread(open_store, settings, serving=False)) as store:
        result = await work(Opened(store, versions))
        await store.snapshots.chunks.settled()
        return result


@contextmanager
def _closing(store: Store) -> Iterator[Store]:
    try:
        yield store
    finally:
        store.close()


async def _versions(settings: Any) -> dict[str, Configuration]:
    from thaw.catalog.catalog import Catalog
    from thaw.server import CATALOG_FILE

    file = settings.state_dir / CATALOG_FILE
    if not file.exists():
        return {}
    catalog = Catalog(file, region=settings.region, account_id=settings.account_id)
    await catalog.open()
    found: dict[str, Configuration] = {}
    after = ("", -1)
    try:
        while page := await catalog.functions(after=after, limit=500, all_versions=True):
            found |= {one.snapshot_key: one for one in page if one.snapshot_key is not None}
            after = _after(page)
    finally:
        await catalog.close()
    return found


def _after(page: Any) -> tuple[str, int]:
    last = page[-1]
    return last.function_name, 0 if last.version == "$LATEST" else int(last.version)


# --- ls ---------------------------------------------------------------------------------------------------------------


async def _rows(opened: Opened) -> tuple[list[tuple[str, ...]], int]:
    """A row for each snapshot, and the bytes of all chunks together."""
    from rich.markup import escape

    from thaw.errors import ThawError

    manifests: dict[str, Manifest] = {}
    broken: list[tuple[str, ...]] = []
    for key in sorted(await opened.store.snapshots.snapshot_keys()):
        try:
            manifests[key] = await opened.manifest(key)
        except ThawError as error:
            broken.append((opened.label(key), f"[red]{escape(str(error))}[/]", "", "", "", ""))
    users = Counter(id for manifest in manifests.values() for id in manifest.chunk_ids())
    sizes = {id: size for manifest in manifests.values() for id, size in _chunk_sizes(manifest).items()}
    rows = [_row(opened, key, manifest, users) for key, manifest in manifests.items()]
    return rows + broken, sum(sizes.values())


def _row(opened: Opened, key: str, manifest: Manifest, users: Counter[str]) -> tuple[str, ...]:
    sizes = _chunk_sizes(manifest)
    shared = sum(size for id, size in sizes.items() if users[id] > 1)
    image = sum(section.size for section in manifest.sections.values())
    stored = sum(sizes.values())
    share = _share(shared, stored)
    return opened.label(key), manifest.key_name, mib(image), mib(stored), share, working_set_text(manifest)


def _chunk_sizes(manifest: Manifest) -> dict[str, int]:
    return {place.id: place.size for section in manifest.sections.values() for place in section.chunks}


def working_set_text(manifest: Manifest) -> str:
    """Its size, and its share of the memory image."""
    size = sum(place.size for place in working_set(manifest))
    return f"{mib(size)} ({_share(size, sum(place.size for place in manifest.memory.chunks))})"


def working_set(manifest: Manifest) -> list[Any]:
    """The places of the memory image that a restore reads before a clone runs; all where none was recorded."""
    from thaw.chunk import CHUNK_SIZE

    eager = manifest.facts.get("eager_bytes", manifest.memory.size)
    refined = set(manifest.facts.get("refined_pieces", ()))
    return [place for place in manifest.memory.chunks if place.index * CHUNK_SIZE < eager or place.index in refined]


# --- show -------------------------------------------------------------------------------------------------------------


async def _description(opened: Opened, name: str, measure: bool) -> list[str]:
    from rich.markup import escape

    key = await opened.key_of(name)
    manifest = await opened.manifest(key)
    sizes = _chunk_sizes(manifest)
    lines = [f"[bold]{opened.label(key)}[/]  {key}", f"  sealed under {_key_shown(manifest)}"]
    for title, section in manifest.sections.items():
        present = sum(place.size for place in section.chunks)
        lines.append(f"  {title:7} {mib(section.size):>12}, {len(section.chunks)} chunks, {mib(present)} not zero")
    lines.append(f"  working set {working_set_text(manifest)} of the memory image, laid out at its front")
    for tier, store in opened.store.snapshots.chunks.stores.items():
        held = await _held(store, set(sizes))
        of_all = f"{len(held)} of {len(sizes)} chunks ({_share(sum(sizes[id] for id in held), sum(sizes.values()))})"
        lines.append(f"  {tier}  {of_all}" + (await _timed(opened, manifest, tier, store) if measure else ""))
    lines += [f"  [yellow]{code}[/] {escape(sentence)}" for code, sentence in manifest.facts.get("findings", ())]
    return lines


def _key_shown(manifest: Manifest) -> str:
    if manifest.key_name.startswith("key-file:"):
        return f"the AWS-managed key (here: Thaw's own key file, {manifest.key_name})"
    return manifest.key_name


async def _held(store: ChunkStore, ids: set[str]) -> set[str]:
    from thaw.errors import StoreError
    from thaw.store.snapshots import in_lanes

    found: set[str] = set()

    async def look(id: str) -> None:
        try:
            if await store.contains(id):
                found.add(id)
        except StoreError:
            return  # a tier that does not answer holds nothing that anybody could use

    await in_lanes(look, ids)
    return found


async def _timed(opened: Opened, manifest: Manifest, tier: str, store: ChunkStore) -> str:
    """How long this tier alone takes for the working set, opened, into memory."""
    from thaw.errors import StoreError

    seconds = []
    for _ in range(3):
        into = os.memfd_create("thaw-measure")
        begun = time.perf_counter()
        try:
            os.ftruncate(into, manifest.memory.size)
            await opened.store.snapshots.read_places(manifest, into, working_set(manifest), store)
        except StoreError:
            return ", not all of the working set"
        finally:
            os.close(into)
        seconds.append(time.perf_counter() - begun)
    return f", working set read and opened in {sorted(seconds)[1] * 1000:,.1f} ms"


# --- verify -----------------------------------------------------------------------------------------------------------


async def _verified(opened: Opened, name: str | None) -> list[tuple[str, bool]]:
    from rich.markup import escape

    from thaw.errors import ThawError

    keys = sorted(await opened.store.snapshots.snapshot_keys()) if name is None else [await opened.key_of(name)]
    found = []
    for key in keys:
        try:
            found.append(await _verify(opened, key))
        except ThawError as error:
            found.append((f"[red]damaged[/]  {opened.label(key)}: {escape(str(error))}", True))
    return found


async def _verify(opened: Opened, key: str) -> tuple[str, bool]:
    manifest = await opened.manifest(key)
    verified = await opened.store.snapshots.verify(manifest)
    wrong = len(verified.missing) + len(verified.damaged)
    if not wrong:
        return f"[green]sound[/]  {opened.label(key)}: all {len(verified.sound)} chunks open", False
    told = f"{_counted(len(verified.missing), 'chunk')} missing, {_counted(len(verified.damaged), 'chunk')} damaged"
    if len(await opened.store.snapshots.heal(manifest, verified)) == wrong:
        return f"[yellow]healed[/]  {opened.label(key)}: {told}, and all were put back from a nearer tier", False
    return f"[red]damaged[/]  {opened.label(key)}: {told}: call the version, and it gets a new snapshot", True


def mib(size: float) -> str:
    """Bytes for people, as "12.3 MiB"."""
    return f"{size / MIB:,.1f} MiB"


def _counted(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number} {noun}s"


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "0 %"
