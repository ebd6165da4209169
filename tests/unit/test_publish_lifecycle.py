"""The state machine of publish, on a real catalog; taking a snapshot is replaced, because it has tests of its own."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from packing import package
from thaw.catalog.catalog import Catalog
from thaw.catalog.configuration import Configuration, UsedLayer
from thaw.catalog.uses import Uses
from thaw.errors import (
    ChunkNotFound,
    FreezeFailed,
    InitFailed,
    InitTimedOut,
    NotFreezable,
    RuntimeNotFound,
    ServiceError,
    StoreUnavailable,
)
from thaw.publish.code import CodeFolders, code_key
from thaw.publish.idleness import Idleness
from thaw.publish.layers import LayerFolders
from thaw.publish.lifecycle import Publisher
from thaw.publish.preparation import Preparation
from thaw.runtimes.runtime import Runtime
from waiting import until

CODE = package({"app.py": b"def handler(event, context): return 1\n"})
RUNTIME = Runtime(
    name="python3.13", version="3.13.0", mounts=(), argv=(), variables={}, digest="d", version_arn="arn:runtime"
)


class Packages:
    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def put(self, content: bytes) -> str:
        key = hashlib.sha256(content).hexdigest()
        if key not in self.kept:
            await asyncio.sleep(0)
            self.kept[key] = content
        return key

    async def get(self, key: str) -> bytes:
        if key not in self.kept:
            raise ChunkNotFound(f"There is no object {key}.")
        return self.kept[key]

    async def delete(self, key: str) -> None:
        await asyncio.sleep(0)
        self.kept.pop(key, None)

    async def keys(self) -> list[str]:
        return list(self.kept)


class Runtimes:
    missing = False
    runtime = RUNTIME

    async def find(self, name: str) -> Runtime:
        if self.missing:
            raise RuntimeNotFound(f"The runtime {name} is not here: install it.")
        return self.runtime


class Snapshotting:
    """Gives keys s1, s2, …; raises the errors of `errors` first; waits at `gate`."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.taken = 0
        self.running = 0
        self.most = 0

    async def take(self, configuration: Configuration) -> str:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
            if self.errors:
                raise self.errors.pop(0)
            self.taken += 1
            return f"s{self.taken}"
        finally:
            self.running -= 1


class Snapshots:
    def __init__(self) -> None:
        self.deleted: list[str] = []
        self.mended: list[str] = []
        self.keys: list[str] = []
        self.collected = 0

    async def delete(self, snapshot_key: str) -> None:
        self.deleted.append(snapshot_key)

    async def drop_damaged(self, snapshot_key: str, kms_key_arn: str | None) -> int:
        self.mended.append(snapshot_key)
        return 0

    async def collect(self) -> int:
        self.collected += 1
        return 0

    async def snapshot_keys(self) -> list[str]:
        return self.keys


class Bench:
    """One publisher with the parts around it."""

    def __init__(self, catalog: Catalog, folder: Path) -> None:
        self.catalog = catalog
        self.packages = Packages()
        self.runtimes = Runtimes()
        self.snapshotting = Snapshotting()
        self.snapshots = Snapshots()
        self.others: list[str] = []
        self.retired: list[Configuration] = []
        self.forgotten: list[str] = []
        self.published: list[Configuration] = []
        self.folders = CodeFolders(folder / "code", self.packages.get)
        self.folders.prepare()
        self.layers = LayerFolders(folder / "layers", self.packages.get)
        self.layers.prepare()
        self.preparation = Preparation(
            self.folders, self.layers, self.runtimes, region="us-east-1", account_id="000000000000"
        )
        self.publisher = self.new_publisher()

    def new_publisher(self, **limits: int) -> Publisher:
        return Publisher(
            catalog=self.catalog,
            packages=self.packages,
            folders=self.folders,
            layers=self.layers,
            preparation=self.preparation,
            snapshotting=self.snapshotting,
            snapshots=self.snapshots,
            retire=self.retire,
            forget=self.forgotten.append,
            published=self.published.append,
            others=self.other_catalogs,
            **limits,
        )

    async def other_catalogs(self) -> list[str]:
        return self.others

    def retire(self, configurations: Iterable[Configuration]) -> None:
        self.retired += configurations

    async def create(self, name: str = "f") -> Configuration:
        draft = Configuration(
            function_id=f"id-{name}", function_name=name, function_arn=self.catalog.function_arn(name),
            runtime="python3.13", handler="app.handler", snap_start_apply_on="PublishedVersions",
            code_key=code_key(CODE), code_sha256="sha",
        )  # fmt: skip
        created = await self.catalog.create_function(draft, {})
        await self.publisher.function_created(created, CODE)
        return created

    async def active(self, name: str = "f") -> None:
        await self.create(name)
        await self.until(name, None, "Active")

    async def publish(self, name: str = "f") -> Configuration:
        version, _ = await self.catalog.publish(name)
        await self.publisher.version_published(version)
        return version

    async def until(self, name: str, version: str | None, state: str) -> Configuration:
        async def reached() -> bool:
            return (await self.catalog.version(name, version)).state == state

        await until(reached)
        return await self.catalog.version(name, version)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    catalog = Catalog(tmp_path / "catalog.sqlite", region="us-east-1", account_id="000000000000")
    await catalog.open()
    bench = Bench(catalog, tmp_path)
    yield bench
    await bench.publisher.close()
    await catalog.close()


async def test_a_new_function_becomes_active_with_its_code_stored_and_unpacked(bench: Bench) -> None:
    created = await bench.create()
    assert created.state == "Pending"
    latest = await bench.until("f", None, "Active")
    assert (latest.last_update_status, latest.optimization_status) == ("Successful", "Off")
    assert latest.runtime_version_arn == "arn:runtime"
    assert await bench.publisher.code(latest) == CODE
    assert (await bench.folders.folder(latest.code_key) / "app.py").is_file()


async def test_a_bad_zip_is_refused_before_anything_is_stored(bench: Bench) -> None:
    with pytest.raises(ServiceError, match="Could not unzip"):
        await bench.publisher.function_created(Configuration(function_id="x", function_name="x", function_arn="x"), b"")
    assert bench.packages.kept == {}


async def test_a_runtime_that_is_not_here_fails_the_function_with_the_sentence(bench: Bench) -> None:
    bench.runtimes.missing = True
    await bench.create()
    latest = await bench.until("f", None, "Failed")
    assert latest.state_reason == "The runtime python3.13 is not here: install it."
    assert latest.state_reason_code == "InvalidRuntime"


async def test_a_failed_update_leaves_the_function_active(bench: Bench) -> None:
    await bench.active()
    bench.runtimes.missing = True
    changed = await bench.catalog.update_configuration("f", lambda latest: replace(latest, runtime="python3.14"))
    await bench.publisher.configuration_updated(changed)

    async def settled() -> bool:
        return (await bench.catalog.function("f")).last_update_status != "InProgress"

    await until(settled)
    latest = await bench.catalog.function("f")
    assert (latest.state, latest.last_update_status) == ("Active", "Failed")
    assert (await bench.catalog.resolve("f")).runtime == "python3.13"


async def test_a_version_is_pending_until_its_snapshot_is_taken(bench: Bench) -> None:
    await bench.active()
    bench.snapshotting.gate.clear()
    version = await bench.publish()
    assert (version.state, version.last_update_status, version.optimization_status) == ("Pending", None, "Off")
    bench.snapshotting.gate.set()
    done = await bench.until("f", "1", "Active")
    assert (done.last_update_status, done.optimization_status, done.snapshot_key) == ("Successful", "On", "s1")
    assert [(one.version, one.snapshot_key) for one in bench.published] == [("1", "s1")]


@pytest.mark.parametrize(
    ("error", "reason", "code"),
    [
        (
            InitFailed("No module named 'x'.", error_type="Runtime.ImportModuleError"),
            "An error occurred during function initialization. No module named 'x'.",
            "FunctionError.RuntimeInitError",
        ),
        (
            InitFailed("An extension reported Extension.InitError.", error_type="Extension.InitError"),
            "An error occurred during function initialization. An extension reported Extension.InitError.",
            "FunctionError.ExtensionInitError",
        ),
        (
            InitTimedOut("Init took longer than 130 s.", error_type="Sandbox.Timedout"),
            "An error occurred during function initialization. Init took longer than 130 s.",
            "FunctionError.InitTimeout",
        ),
        (NotFreezable("Descriptor 7 is a raw socket: close it."), "Descriptor 7 is a raw socket: close it.",
         "FunctionError"),
        (ValueError("oops"), "Thaw stopped at a defect of its own (ValueError('oops')): the server's log has its "
         "trace.", "InternalError"),
    ],
)  # fmt: skip
async def test_a_version_that_cannot_be_frozen_fails_and_says_why(
    error: Exception, reason: str, code: str, bench: Bench
) -> None:
    await bench.active()
    bench.snapshotting.errors = [error]
    await bench.publish()
    failed = await bench.until("f", "1", "Failed")
    assert (failed.state_reason, failed.state_reason_code) == (reason, code)
    assert (failed.last_update_status, failed.snapshot_key) == ("Failed", None)


async def test_what_is_not_the_functions_fault_is_tried_once_more(bench: Bench) -> None:
    await bench.active()
    bench.snapshotting.errors = [FreezeFailed("a thread did not stop")]
    await bench.publish()
    assert (await bench.until("f", "1", "Active")).snapshot_key == "s1"
    bench.snapshotting.errors = [StoreUnavailable("disk gone"), StoreUnavailable("disk gone")]
    await bench.catalog.update_configuration("f", lambda latest: replace(latest, description="changed"))
    await bench.catalog.set_state("f", "$LATEST", last_update_status="Successful")
    await bench.publish()
    failed = await bench.until("f", "2", "Failed")
    assert failed.state_reason == "The snapshot could not be stored: disk gone"


async def test_publishes_are_limited(bench: Bench) -> None:
    bench.snapshotting.gate.clear()
    for name in "abcd":
        await bench.active(name)
        await bench.publish(name)
    await asyncio.sleep(0.01)
    assert bench.snapshotting.running == 2
    bench.snapshotting.gate.set()
    for name in "abcd":
        await bench.until(name, "1", "Active")
    assert bench.snapshotting.most == 2


async def test_a_server_that_stopped_mid_publish_goes_on_at_the_next_start(bench: Bench) -> None:
    await bench.active()
    bench.snapshotting.gate.clear()
    await bench.publish()
    await bench.publisher.close()
    assert (await bench.catalog.version("f", "1")).state == "Pending"
    bench.snapshotting.gate.set()
    bench.publisher = bench.new_publisher()
    await bench.publisher.resume()
    assert (await bench.until("f", "1", "Active")).snapshot_key == "s1"


async def test_a_creation_that_was_cut_off_is_ended_at_the_next_start(bench: Bench) -> None:
    bench.packages.kept[code_key(CODE)] = CODE
    draft = Configuration(
        function_id="g", function_name="g", function_arn="arn:g", runtime="python3.13", code_key=code_key(CODE)
    )
    await bench.catalog.create_function(draft, {})
    await bench.publisher.resume()
    await bench.until("g", None, "Active")


async def test_deleting_ends_the_publish_and_removes_snapshots_environments_and_unused_code(bench: Bench) -> None:
    await bench.active("f")
    await bench.active("twin")
    await bench.publish("f")
    await bench.until("f", "1", "Active")
    gone = await bench.catalog.delete_function("f")
    await bench.publisher.deleted(gone)
    assert bench.snapshots.deleted == bench.forgotten == ["s1"]
    assert {one.version for one in bench.retired} == {"$LATEST", "1"}
    assert bench.packages.kept != {}  # the twin has the same code
    await bench.publisher.deleted(await bench.catalog.delete_function("twin"))
    assert bench.packages.kept == {}
    assert list(bench.folders.root.iterdir()) == []


async def test_deleting_a_pending_version_cancels_its_publish(bench: Bench) -> None:
    await bench.active()
    bench.snapshotting.gate.clear()
    await bench.publish()
    await asyncio.sleep(0.01)
    assert bench.snapshotting.running == 1
    await bench.publisher.deleted(await bench.catalog.delete_function("f"))
    await asyncio.sleep(0.01)
    assert bench.snapshotting.running == 0


async def test_a_stale_snapshot_is_renewed_once_and_the_old_one_deleted(bench: Bench) -> None:
    await bench.active()
    await bench.publish()
    version = await bench.until("f", "1", "Active")
    bench.publisher.renew(version)
    bench.publisher.renew(version)
    await until(lambda: bench.snapshots.deleted == ["s1"])
    assert bench.snapshotting.taken == 2
    assert bench.snapshots.mended == ["s1"]
    renewed = await bench.catalog.version("f", "1")
    assert (renewed.snapshot_key, renewed.state) == ("s2", "Active")


async def test_a_creation_whose_package_never_arrived_fails_at_the_next_start(bench: Bench) -> None:
    draft = Configuration(
        function_id="g", function_name="g", function_arn="arn:g", runtime="python3.13", code_key=code_key(CODE)
    )
    await bench.catalog.create_function(draft, {})
    await bench.publisher.resume()
    failed = await bench.until("g", None, "Failed")
    assert failed.state_reason is not None
    assert "upload the code again" in failed.state_reason


async def test_an_update_whose_package_never_arrived_leaves_the_old_code_in_service(bench: Bench) -> None:
    await bench.active()
    await bench.catalog.update_configuration("f", lambda latest: replace(latest, code_key="0" * 64, code_sha256="new"))
    await bench.publisher.resume()

    async def settled() -> bool:
        return (await bench.catalog.function("f")).last_update_status != "InProgress"

    await until(settled)
    assert (await bench.catalog.function("f")).last_update_status == "Failed"
    assert (await bench.catalog.resolve("f")).code_key == code_key(CODE)


async def test_code_that_is_deleted_and_uploaded_at_one_time_is_there_afterwards(bench: Bench) -> None:
    for number in range(5):
        await bench.active(f"old{number}")
        gone = await bench.catalog.delete_function(f"old{number}")
        await asyncio.gather(bench.publisher.deleted(gone), bench.create(f"new{number}"))
        latest = await bench.until(f"new{number}", None, "Active")
        assert await bench.publisher.code(latest) == CODE
        assert (await bench.folders.folder(latest.code_key) / "app.py").is_file()
        await bench.publisher.deleted(await bench.catalog.delete_function(f"new{number}"))


async def test_what_another_catalog_may_need_is_not_deleted(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    await bench.active()
    bench.others = ["c1", "c2"]
    bench.snapshots.keys = ["snapshot-theirs-1-id-theirs"]
    bench.packages.kept["1" * 64] = b"theirs"
    await bench.publisher.tidy()
    await bench.publisher.deleted(await bench.catalog.delete_function("f"))
    assert not bench.snapshots.deleted
    assert set(bench.packages.kept) == {"1" * 64, code_key(CODE)}
    assert caplog.messages[-1] == (
        "Nothing is tidied in the origin, because other catalogs have things there, too (c1, c2): remove the marks of "
        "those that are gone from its folder `catalogs`."
    )


async def test_a_start_deletes_what_nothing_names(bench: Bench) -> None:
    await bench.active()
    await bench.publish()
    await bench.until("f", "1", "Active")
    bench.snapshotting.gate.clear()
    await bench.catalog.update_configuration("f", lambda latest: replace(latest, description="changed"))
    await bench.catalog.set_state("f", "$LATEST", last_update_status="Successful")
    await bench.publish()
    bench.snapshots.keys = ["s1", "snapshot-f-2-id-f", "snapshot-gone-1-id-gone"]
    bench.packages.kept["1" * 64] = b"an update that never was"
    await bench.publisher.tidy()
    assert bench.snapshots.deleted == ["snapshot-gone-1-id-gone"]
    assert bench.snapshots.collected == 1
    assert list(bench.packages.kept) == [code_key(CODE)]


DAY = 86400.0


class Clock:
    now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


def idleness(bench: Bench, clock: Clock) -> Idleness:
    bench.catalog.uses = Uses(bench.catalog._database, clock)
    return Idleness(bench.catalog, bench.publisher, bench.preparation, idle_s=14 * DAY)


async def test_a_version_that_nobody_calls_becomes_inactive_and_loses_its_snapshot(bench: Bench) -> None:
    clock = Clock()
    life = idleness(bench, clock)
    await bench.active()
    await bench.publish()
    version = await bench.until("f", "1", "Active")
    await life.check()
    clock.now += 13 * DAY
    bench.catalog.uses.note(version)
    await life.check()
    life = idleness(bench, clock)  # the next server
    await bench.catalog.uses.load()
    clock.now += 14 * DAY
    await life.check()
    assert (await bench.catalog.version("f", "1")).state == "Active"
    clock.now += 1
    await life.check()
    idle = await bench.catalog.version("f", "1")
    assert (idle.state, idle.state_reason_code, idle.optimization_status, idle.snapshot_key) == (
        "Inactive", "Idle", "Off", None,
    )  # fmt: skip
    assert bench.snapshots.deleted == bench.forgotten == ["s1"]
    assert [one.version for one in bench.retired] == ["1"]


async def test_a_changed_runtime_makes_new_snapshots_before_anybody_calls(bench: Bench) -> None:
    life = idleness(bench, Clock())
    await bench.active()
    await bench.publish()
    await bench.until("f", "1", "Active")
    await life.check()
    assert bench.snapshotting.taken == 1
    bench.runtimes.runtime = replace(RUNTIME, version_arn="arn:patched")
    await life.check()
    await until(lambda: bench.snapshots.deleted == ["s1"])
    renewed = await bench.catalog.version("f", "1")
    assert (renewed.snapshot_key, renewed.runtime_version_arn) == ("s2", "arn:patched")
    await life.check()
    assert bench.snapshotting.taken == 2


async def test_code_and_layers_together_have_one_limit(bench: Bench) -> None:
    code, first, second = (package({"a": bytes(size)}) for size in (100, 60, 41))
    publisher = bench.new_publisher(unzipped_limit=200)
    for layer in (first, second):
        await publisher.store_layer(layer)
    layers = [UsedLayer(arn=f"{number}", code_size=1, content_key=code_key(zip_)) for number, zip_ in
              enumerate((first, second))]  # fmt: skip
    draft = Configuration(
        function_id="1", function_name="f", function_arn=bench.catalog.function_arn("f"), runtime="python3.13",
        handler="app.handler", code_key=code_key(code), code_sha256="sha", layers=tuple(layers),
    )  # fmt: skip
    message = (
        "Function code combined with layers exceeds the maximum allowed size of 200 bytes. "
        "The actual size is 201 bytes."
    )
    with pytest.raises(ServiceError) as refused:
        await publisher.function_created(draft, code)
    assert (refused.value.code, refused.value.message) == ("InvalidParameterValueException", message)
    created = await bench.catalog.create_function(replace(draft, layers=()), {})
    await publisher.function_created(created, code)
    await bench.until("f", None, "Active")
    with pytest.raises(ServiceError) as refused:
        await publisher.configuration_updated(replace(created, layers=tuple(layers)))
    assert refused.value.message == message
    await publisher.configuration_updated(replace(created, layers=tuple(layers[:1])))
    await publisher.close()
