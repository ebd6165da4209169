"""The catalog: what is committed stays, numbers are never given twice, and the invoke path sees every change."""

import asyncio
import contextlib
import os
import sqlite3
import sys
from dataclasses import replace

import pytest

from thaw.catalog.catalog import Catalog
from thaw.catalog.configuration import LATEST, Alias, Configuration, UsedLayer
from thaw.errors import ConfigurationError, ServiceError, StoreFull

SNAP = "PublishedVersions"


def make_catalog(folder, **options):
    return Catalog(folder / "catalog.db", region="eu-west-1", account_id="123456789012", **options)


@pytest.fixture
async def catalog(tmp_path):
    opened = make_catalog(tmp_path)
    await opened.open()
    yield opened
    await opened.close()


def draft(catalog, name="f", **settings):
    settings = {"function_id": os.urandom(16).hex(), "runtime": "python3.13", "code_key": "k1", **settings}
    return Configuration(function_name=name, function_arn=catalog.function_arn(name), code_sha256="s1", **settings)


async def active(catalog, name="f", **settings):
    await catalog.create_function(draft(catalog, name, **settings), {})
    return await catalog.set_state(name, LATEST, state="Active")


async def changed(catalog, name="f", **settings):
    """Updates $LATEST and lets the update succeed."""
    await catalog.update_configuration(name, lambda latest: replace(latest, **settings))
    return await catalog.set_state(name, LATEST, last_update_status="Successful")


async def error_of(awaitable):
    with pytest.raises(ServiceError) as caught:
        await awaitable
    return caught.value.code, caught.value.message


def alias(catalog, name="live", version="1", **settings):
    arn = catalog.function_arn("f", name)
    return Alias(function_name="f", name=name, alias_arn=arn, function_version=version, **settings)


async def test_a_new_function_is_pending_without_a_last_update_status(catalog):
    created = await catalog.create_function(draft(catalog), {"team": "a"})
    assert (created.state, created.state_reason, created.state_reason_code) == (
        "Pending",
        "The function is being created.",
        "Creating",
    )
    assert created.last_update_status is None
    assert await catalog.function("f") == created
    assert await catalog.tags("f") == {"team": "a"}
    assert await catalog.pending_versions() == [created]


async def test_activation_settles_the_update_status_and_changes_the_revision(catalog):
    created = await catalog.create_function(draft(catalog), {})
    settled = await catalog.set_state("f", LATEST, state="Active")
    assert (settled.state, settled.state_reason, settled.last_update_status) == ("Active", None, "Successful")
    assert settled.revision_id != created.revision_id
    assert await catalog.pending_versions() == []


async def test_names_are_taken_once(catalog):
    await active(catalog)
    assert await error_of(catalog.create_function(draft(catalog), {})) == (
        "ResourceConflictException",
        "Function already exist: f",
    )


async def test_a_missing_function_is_named_by_its_arn(catalog):
    arn = "arn:aws:lambda:eu-west-1:123456789012:function:f"
    assert await error_of(catalog.function("f")) == ("ResourceNotFoundException", f"Function not found: {arn}")
    assert await error_of(catalog.resolve("f", "7")) == ("ResourceNotFoundException", f"Function not found: {arn}:7")
    assert await error_of(catalog.resolve("f", "x")) == ("ResourceNotFoundException", f"Function not found: {arn}:x")


@pytest.mark.parametrize("qualifier", ["0", "01", "9" * 40, "2"])
async def test_numbers_that_were_never_given_find_nothing(catalog, qualifier):
    await active(catalog)
    await catalog.publish("f")
    assert (await error_of(catalog.version("f", qualifier)))[0] == "ResourceNotFoundException"
    assert (await error_of(catalog.resolve("f", qualifier)))[0] == "ResourceNotFoundException"


async def test_publishing_without_snap_start_is_active_at_once(catalog):
    await active(catalog)
    version, new = await catalog.publish("f", description="first")
    assert (version.version, version.description, new) == ("1", "first", True)
    assert (version.state, version.last_update_status, version.optimization_status) == ("Active", "Successful", "Off")


async def test_publishing_with_snap_start_is_pending_until_the_snapshot_is_there(catalog):
    await active(catalog, snap_start_apply_on=SNAP)
    version, _ = await catalog.publish("f")
    assert (version.state, version.last_update_status, version.optimization_status) == ("Pending", None, "Off")
    assert await catalog.pending_versions() == [version]
    ready = await catalog.set_state("f", "1", state="Active", optimization_status="On", snapshot_key="k")
    assert (ready.state, ready.last_update_status, ready.optimization_status) == ("Active", "Successful", "On")
    assert (await catalog.resolve("f", "1")).snapshot_key == "k"


async def test_an_unchanged_function_keeps_its_last_version(catalog):
    await active(catalog)
    first, _ = await catalog.publish("f", description="one")
    again, new = await catalog.publish("f", description="two")
    assert (again, new) == (first, False)
    await changed(catalog, timeout=9)
    assert (await catalog.publish("f"))[0].version == "2"
    await changed(catalog, code_sha256="s2")
    assert (await catalog.publish("f"))[0].version == "3"


async def test_a_version_whose_snapshot_failed_can_be_published_again(catalog):
    await active(catalog, snap_start_apply_on=SNAP)
    await catalog.publish("f")
    await catalog.set_state("f", "1", state="Failed", state_reason="Init failed.", state_reason_code="FunctionError")
    failed = await catalog.version("f", "1")
    assert (failed.last_update_status, failed.last_update_status_reason) == ("Failed", "Init failed.")
    second, new = await catalog.publish("f")
    assert (second.version, second.state, new) == ("2", "Pending", True)


async def test_numbers_are_never_given_twice(catalog):
    await active(catalog)
    await catalog.publish("f")
    await catalog.delete_version("f", "1")
    assert (await catalog.publish("f"))[0].version == "2"
    await catalog.delete_function("f")
    await active(catalog)
    assert (await catalog.publish("f"))[0].version == "3"


async def test_concurrent_publishes_make_one_version(catalog):
    await active(catalog)
    published = await asyncio.gather(*(catalog.publish("f") for _ in range(8)))
    assert sum(new for _, new in published) == 1
    assert {version.version for version, _ in published} == {"1"}


async def test_preconditions_of_publishing(catalog):
    latest = await active(catalog)
    assert await error_of(catalog.publish("f", code_sha256="x")) == (
        "InvalidParameterValueException",
        "CodeSHA256 (x) is different from current CodeSHA256 in $LATEST (s1). "
        "Please try again with the CodeSHA256 in $LATEST.",
    )
    assert await error_of(catalog.publish("f", revision_id="x")) == (
        "PreconditionFailedException",
        "The Revision Id provided does not match the latest Revision Id. "
        "Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
    )
    version, _ = await catalog.publish("f", code_sha256="s1", revision_id=latest.revision_id)
    assert version.version == "1"


async def test_one_change_at_a_time(catalog):
    await catalog.create_function(draft(catalog), {})
    pending = (
        "ResourceConflictException",
        "The operation cannot be performed at this time. The function is currently in the following state: Pending",
    )
    assert await error_of(catalog.publish("f")) == pending
    assert await error_of(catalog.update_configuration("f", lambda latest: latest)) == pending
    await catalog.set_state("f", LATEST, state="Active")
    await catalog.update_configuration("f", lambda latest: replace(latest, timeout=4))
    busy = (
        "ResourceConflictException",
        "The operation cannot be performed at this time. "
        "An update is in progress for resource: arn:aws:lambda:eu-west-1:123456789012:function:f",
    )
    assert await error_of(catalog.publish("f")) == busy
    assert await error_of(catalog.update_configuration("f", lambda latest: latest)) == busy


async def test_calls_get_the_previous_configuration_until_an_update_succeeds(catalog):
    await active(catalog)
    updating = await catalog.update_configuration("f", lambda latest: replace(latest, timeout=60))
    assert (updating.state, updating.last_update_status, updating.last_update_status_reason_code) == (
        "Active",
        "InProgress",
        "Creating",
    )
    assert (await catalog.resolve("f")).timeout == 3
    assert (await catalog.function("f")).timeout == 60
    await catalog.set_state("f", LATEST, last_update_status="Failed", last_update_status_reason="No.")
    assert (await catalog.resolve("f")).timeout == 3
    assert (await error_of(catalog.publish("f")))[0] == "ResourceConflictException"
    await changed(catalog, timeout=61)
    assert (await catalog.resolve("f")).timeout == 61


async def test_a_withdrawn_update_never_happened(catalog):
    before = await active(catalog)
    updating = await catalog.update_configuration("f", lambda latest: replace(latest, code_key="k2"))
    await catalog.withdraw_update(updating)
    assert await catalog.function("f") == before
    assert await catalog.resolve("f") == before


async def test_a_refused_change_changes_nothing(catalog):
    before = await active(catalog)

    def refuse(latest):
        raise ServiceError("InvalidParameterValueException", "no")

    assert (await error_of(catalog.update_configuration("f", refuse)))[1] == "no"
    assert await catalog.function("f") == before


async def test_a_successful_update_heals_a_function_whose_creation_failed(catalog):
    await catalog.create_function(draft(catalog), {})
    await catalog.set_state("f", LATEST, state="Failed", state_reason="No.", state_reason_code="InvalidRuntime")
    assert (await catalog.resolve("f")).state == "Failed"
    healed = await changed(catalog, runtime="python3.12")
    assert (healed.state, healed.state_reason, healed.last_update_status) == ("Active", None, "Successful")


@pytest.mark.parametrize(("outcome", "state"), [("Successful", "Active"), ("Failed", "Failed")])
async def test_versions_published_with_an_update_share_its_outcome(catalog, outcome, state):
    await active(catalog)
    await catalog.update_configuration("f", lambda latest: replace(latest, code_key="k2", code_sha256="s2"))
    version, _ = await catalog.publish("f", settled=False)
    assert (version.state, version.last_update_status) == ("Pending", None)
    await catalog.set_state("f", LATEST, last_update_status=outcome)
    assert (await catalog.version("f", "1")).state == state
    assert await catalog.pending_versions() == []


async def test_the_state_of_a_former_function_does_not_reach_its_successor(catalog):
    former = await catalog.create_function(draft(catalog), {})
    await catalog.delete_function("f")
    await catalog.create_function(draft(catalog), {})
    late = catalog.set_state("f", LATEST, function_id=former.function_id, state="Active")
    assert (await error_of(late))[0] == "ResourceNotFoundException"
    late = catalog.delete_function("f", function_id=former.function_id)
    assert (await error_of(late))[0] == "ResourceNotFoundException"
    assert (await catalog.function("f")).state == "Pending"


async def test_resolving_needs_no_sql_once_done(catalog):
    await active(catalog)
    await catalog.publish("f")
    await catalog.create_alias(alias(catalog))
    first = await catalog.resolve("f", "live")
    await catalog._database.close()
    catalog._database.read = None  # any SQL would now fail
    assert await catalog.resolve("f", "live") is first


async def test_every_write_is_seen_by_the_next_resolve(catalog):
    await active(catalog)
    await catalog.publish("f")
    await catalog.create_alias(alias(catalog))
    assert (await catalog.resolve("f", "live")).version == "1"
    await changed(catalog, timeout=9)
    await catalog.publish("f")
    await catalog.update_alias("f", "live", lambda before: replace(before, function_version="2"))
    assert (await catalog.resolve("f", "live")).version == "2"
    await catalog.delete_alias("f", "live")
    assert (await error_of(catalog.resolve("f", "live")))[0] == "ResourceNotFoundException"
    await catalog.delete_function("f")
    assert (await error_of(catalog.resolve("f", "2")))[0] == "ResourceNotFoundException"


async def test_a_resolve_that_a_write_overtakes_is_not_kept(catalog):
    await active(catalog)
    await asyncio.gather(catalog.resolve("f"), changed(catalog, timeout=9), catalog.resolve("f"))
    assert (await catalog.resolve("f")).timeout == 9


async def test_weights_divide_the_calls(tmp_path):
    draws = iter([0.05, 0.1, 0.9])
    catalog = make_catalog(tmp_path, draw=lambda: next(draws))
    await catalog.open()
    await active(catalog)
    await catalog.publish("f")
    await changed(catalog, timeout=9)
    await catalog.publish("f")
    await catalog.create_alias(alias(catalog, weights={"2": 0.1}))
    assert [(await catalog.resolve("f", "live")).version for _ in range(3)] == ["2", "1", "1"]
    await catalog.close()


async def test_aliases(catalog):
    await active(catalog)
    await catalog.publish("f")
    arn = "arn:aws:lambda:eu-west-1:123456789012:function:f:live"
    assert await error_of(catalog.alias("f", "live")) == ("ResourceNotFoundException", f"Cannot find alias arn: {arn}")
    created = await catalog.create_alias(alias(catalog))
    assert await error_of(catalog.create_alias(alias(catalog))) == (
        "ResourceConflictException",
        f"Alias already exists: {arn}",
    )
    assert (await error_of(catalog.create_alias(alias(catalog, "b", "9"))))[0] == "ResourceNotFoundException"
    assert await error_of(catalog.update_alias("f", "no", lambda before: before)) == (
        "ResourceNotFoundException",
        f"Alias not found: {arn.replace(':live', ':no')}",
    )
    update = catalog.update_alias("f", "live", lambda before: before, revision_id="x")
    assert (await error_of(update))[0] == "PreconditionFailedException"
    renewed = await catalog.update_alias("f", "live", lambda before: replace(before, description="d"))
    assert renewed.revision_id != created.revision_id
    assert await catalog.aliases("f") == [renewed]
    assert await catalog.aliases("f", function_version="2") == []
    assert await error_of(catalog.delete_version("f", "1")) == (
        "ResourceConflictException",
        "Unable to delete version because the following aliases reference it: [live]",
    )
    await catalog.delete_alias("f", "live")
    await catalog.delete_alias("f", "live")
    assert [gone.version for gone in await catalog.delete_version("f", "1")] == ["1"]
    assert await catalog.delete_version("f", "1") == []


async def test_an_alias_does_not_point_to_a_failed_version(catalog):
    await active(catalog, snap_start_apply_on=SNAP)
    await catalog.publish("f")
    await catalog.set_state("f", "1", state="Failed")
    assert (await error_of(catalog.create_alias(alias(catalog))))[0] == "ResourceConflictException"


async def test_deleting_a_function_returns_all_that_there_was(catalog):
    await active(catalog)
    await catalog.publish("f")
    await catalog.create_alias(alias(catalog))
    assert (await error_of(catalog.delete_version("f", LATEST))) == (
        "InvalidParameterValueException",
        "$LATEST version cannot be deleted without deleting the function.",
    )
    await catalog.update_configuration("f", lambda latest: replace(latest, code_key="k2"))
    gone = await catalog.delete_function("f")
    assert [(item.version, item.code_key) for item in gone] == [(LATEST, "k2"), ("1", "k1"), (LATEST, "k1")]
    assert await catalog.functions() == []
    assert await catalog.code_keys(["k1", "k2"]) == set()


async def test_code_that_serves_calls_meanwhile_counts_as_used(catalog):
    await active(catalog)
    await catalog.update_configuration("f", lambda latest: replace(latest, code_key="k2"))
    assert await catalog.code_keys(["k1", "k2", "k3"]) == {"k1", "k2"}


async def test_lists_go_page_by_page(catalog):
    for name in ("a", "b", "c"):
        await active(catalog, name)
    await catalog.publish("b")
    every = await catalog.functions(all_versions=True)
    assert [(item.function_name, item.version) for item in every] == [
        ("a", LATEST),
        ("b", LATEST),
        ("b", "1"),
        ("c", LATEST),
    ]
    assert [item.function_name for item in await catalog.functions(limit=2)] == ["a", "b"]
    assert [item.function_name for item in await catalog.functions(after=("b", 0))] == ["c"]
    assert [item.version for item in await catalog.versions("b", after=0)] == ["1"]


async def test_what_was_committed_is_there_after_reopening(tmp_path):
    catalog = make_catalog(tmp_path)
    await catalog.open()
    await active(
        catalog,
        environment={"A": "1"},
        layers=(UsedLayer(arn="a", code_size=1, content_key="k"),),
        other_members={"VpcConfig": {"SubnetIds": []}},
    )
    version, _ = await catalog.publish("f")
    await catalog.create_alias(alias(catalog, weights={}))
    latest = await catalog.function("f")
    await catalog.close()
    reopened = make_catalog(tmp_path)
    await reopened.open()
    assert await reopened.versions("f") == [latest, version]
    assert (await reopened.resolve("f", "live")) == version
    assert latest.digest() == latest.settings_digest
    await reopened.close()
    assert ((tmp_path / "catalog.db").stat().st_mode & 0o777) == 0o600


_WRITER = """
import asyncio, sys, pathlib
from thaw.catalog.catalog import Catalog
from thaw.catalog.configuration import Configuration
from dataclasses import replace

async def main(path):
    catalog = Catalog(pathlib.Path(path), region="eu-west-1", account_id="123456789012")
    await catalog.open()
    await catalog.create_function(Configuration(function_id="i", function_name="f", function_arn="a"), {})
    await catalog.set_state("f", "$LATEST", state="Active")
    while True:
        await catalog.update_configuration("f", lambda latest: replace(latest, timeout=latest.timeout + 1))
        await catalog.set_state("f", "$LATEST", last_update_status="Successful")
        version, _ = await catalog.publish("f")
        print(version.version, flush=True)

asyncio.run(main(sys.argv[1]))
"""


async def test_no_committed_version_is_lost_when_the_server_is_killed(tmp_path):
    path = tmp_path / "catalog.db"
    arguments = [sys.executable, "-c", _WRITER, str(path)]
    writer = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
    told = [(await writer.stdout.readline()).decode().strip() for _ in range(20)]
    writer.kill()
    told += (await writer.stdout.read()).decode().split()
    await writer.wait()
    catalog = make_catalog(tmp_path)
    await catalog.open()
    kept = [item.version for item in await catalog.versions("f")]
    assert kept[1 : len(told) + 1] == told
    if (await catalog.function("f")).last_update_status == "InProgress":
        await catalog.set_state("f", LATEST, last_update_status="Successful")
    await changed(catalog, description="after the crash")
    assert int((await catalog.publish("f"))[0].version) == int(kept[-1]) + 1
    await catalog.close()


@pytest.mark.parametrize("content", [b"no database at all, but long enough to look at" * 100, None])
async def test_a_file_that_is_no_catalog_of_ours_is_refused(tmp_path, content):
    place = tmp_path / "catalog.db"
    if content is not None:
        place.write_bytes(content)
    else:
        with contextlib.closing(sqlite3.connect(place)) as newer:
            newer.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
            newer.execute("INSERT INTO alembic_version VALUES ('9999')")
            newer.commit()
    with pytest.raises(ConfigurationError, match="use the version of Thaw that wrote it"):
        await make_catalog(tmp_path).open()


async def test_migrations_make_exactly_the_tables_of_the_code(catalog):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from thaw.catalog.tables import metadata

    def differences(connection):
        return compare_metadata(MigrationContext.configure(connection), metadata)

    async with catalog._database.read() as connection:
        assert await connection.run_sync(differences) == []


async def test_a_full_disk_is_told_in_a_sentence_and_leaves_the_catalog_as_it_was(catalog, tmp_path):
    await active(catalog)
    async with catalog._database.write() as connection:
        (pages,) = (await connection.exec_driver_sql("PRAGMA max_page_count=1")).one()  # as many as there are
    with pytest.raises(StoreFull) as told:
        await catalog.create_function(draft(catalog, "g", description="x" * 100_000), {})
    assert str(told.value) == (
        f"The catalog {tmp_path / 'catalog.db'} cannot be written, because its disk is full: free space there, and try "
        "again."
    )
    async with catalog._database.write() as connection:
        await connection.exec_driver_sql(f"PRAGMA max_page_count={2 * pages}")
    await catalog.create_function(draft(catalog, "g"), {})
