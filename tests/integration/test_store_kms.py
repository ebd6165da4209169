"""Snapshots under a KMS key, against a KMS server: GenerateDataKey, Decrypt, and what happens when it refuses."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from kms_front import KmsFront, kms_front
from serving import served
from stores import aws, memory_image
from thaw.config import Settings, read_settings
from thaw.errors import NotAuthentic, ServiceError
from thaw.store import Store, open_store
from thaw.store.kms import KmsKey, secret_name
from waiting import until_true


@pytest.fixture(scope="module")
def kms() -> Iterator[KmsFront]:
    with aws() as moto, kms_front(moto) as front:
        yield front


@pytest.fixture
def arn(kms: KmsFront) -> str:
    return kms.create_key()


@pytest.fixture
def settings(tmp_path: Path, kms: KmsFront) -> Settings:
    return read_settings(state_dir=tmp_path / "state", kms_endpoint=kms.url)


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    opened = open_store(settings)
    yield opened
    opened.close()


@pytest.fixture
def memory() -> Iterator[int]:
    with memory_image(2) as descriptor:
        yield descriptor


async def test_a_snapshot_opens_under_its_key(store: Store, memory: int, arn: str) -> None:
    await store.snapshots.save("f-1-a", b"plan", memory, b"disk", {}, arn)
    manifest = await store.snapshots.load_manifest("f-1-a", arn)
    assert manifest.key_name == arn
    assert await store.snapshots.read_plan(manifest) == b"plan"
    with pytest.raises(NotAuthentic, match=f"sealed under {arn}, and this server has key-file:"):
        await store.snapshots.load_manifest("f-1-a")


async def test_chunks_are_shared_within_a_key_and_not_across_keys(
    store: Store, settings: Settings, memory: int, kms: KmsFront, arn: str
) -> None:
    other = kms.create_key()
    one = await store.snapshots.save("f-1-a", b"plan", memory, b"disk", {}, arn)
    restarted = open_store(settings)
    two = await restarted.snapshots.save("f-2-b", b"plan", memory, b"disk", {}, arn)
    three = await restarted.snapshots.save("f-3-c", b"plan", memory, b"disk", {}, other)
    restarted.close()
    assert one.chunk_ids() == two.chunk_ids()
    assert not one.chunk_ids() & three.chunk_ids()


async def test_two_workers_that_start_with_a_key_get_one_secret(settings: Settings, arn: str) -> None:
    stores = [open_store(settings) for _ in range(2)]
    keys = [store.snapshots._keys.key(arn) for store in stores]
    made = await keys[0]._make_secret()  # type: ignore[attr-defined]
    assert await keys[1]._make_secret() == made == await keys[1].chunk_secret()  # type: ignore[attr-defined]
    for store in stores:
        store.close()


async def test_the_chunk_secret_is_not_in_the_origin(store: Store, settings: Settings, memory: int, arn: str) -> None:
    await store.snapshots.save("f-1-a", b"plan", memory, b"", {}, arn)
    key = store.snapshots._keys.key(arn)
    assert isinstance(key, KmsKey)
    secret = await key.chunk_secret()
    name = secret_name(arn)
    kept = (settings.origin_dir / "keys" / name[:2] / name).read_bytes()
    assert kept.startswith(b"THWS")
    assert secret not in kept


def forbid(kms: KmsFront, arn: str) -> None:
    kms.forbidden.add(arn)


REFUSALS = [
    (KmsFront.disable, "KMSDisabledException"),
    (KmsFront.schedule_deletion, "KMSInvalidStateException"),
    (forbid, "KMSAccessDeniedException"),
]


@pytest.mark.parametrize(("change", "code"), REFUSALS)
async def test_a_key_that_may_not_be_used_opens_and_seals_nothing(
    store: Store, memory: int, kms: KmsFront, arn: str, change: Any, code: str
) -> None:
    await store.snapshots.save("f-1-a", b"plan", memory, b"", {}, arn)
    change(kms, arn)
    said = r"^Lambda was unable to decrypt the snapshot because .* KMS Exception: "
    with pytest.raises(ServiceError, match=said) as refused:
        await store.snapshots.load_manifest("f-1-a", arn)
    assert refused.value.code == code
    with pytest.raises(ServiceError):
        await store.snapshots.save("f-2-b", b"another plan", memory, b"", {}, arn)
    assert await store.snapshots.snapshot_keys() == ["f-1-a"]


async def test_a_key_that_is_not_there_has_a_name(store: Store, memory: int) -> None:
    arn = "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-0000-0000-000000000000"
    with pytest.raises(ServiceError) as missing:
        await store.snapshots.save("f-1-a", b"plan", memory, b"", {}, arn)
    assert missing.value.code == "KMSNotFoundException"
    assert await store.snapshots.snapshot_keys() == []
    assert await store.snapshots.chunks.names() == []


async def test_kms_that_does_not_answer_is_one_sentence(tmp_path: Path, memory: int, arn: str) -> None:
    store = open_store(read_settings(state_dir=tmp_path, kms_endpoint="http://127.0.0.1:1"))
    with pytest.raises(ServiceError, match=r"^KMS does not answer for .+: check THAW_KMS_ENDPOINT"):
        await store.snapshots.save("f-1-a", b"plan", memory, b"", {}, arn)
    store.close()


async def test_a_disabled_key_takes_effect_on_snapshots_that_are_in_memory(
    store: Store, memory: int, kms: KmsFront, arn: str
) -> None:
    store.snapshots._confirm_s = 0
    await store.snapshots.save("f-1-a", b"plan", memory, b"", {}, arn)
    await store.snapshots.confirm_key("f-1-a", arn)
    kms.disable(arn)
    with pytest.raises(ServiceError, match="the KMS key used is disabled"):
        await store.snapshots.confirm_key("f-1-a", arn)


SOURCE = "def handler(event, context):\n    return event\n"


@pytest.mark.root
@pytest.mark.package_index
@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root")
def test_invoke_and_publish_say_what_lambda_says(tmp_path: Path, kms: KmsFront, arn: str) -> None:
    state = tmp_path / "state"
    settings: dict[str, Any] = {"kms_endpoint": kms.url, "idle_timeout_s": 0}
    with served(state, **settings) as running:
        running.create("f", SOURCE, SnapStart={"ApplyOn": "PublishedVersions"}, KMSKeyArn=arn)
        version = running.publish("f")
        assert "Restore Duration" in running.call("f", 1, version).log
    kms.disable(arn)
    with served(state, **settings) as running:
        with pytest.raises(running.client.exceptions.KMSDisabledException) as refused:
            running.call("f", 2, version)
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 502
        running.client.update_function_configuration(FunctionName="f", Description="changed")
        until_true(lambda: updated(running.client), "the function is updated")
        failed = running.client.publish_version(FunctionName="f")["Version"]
        until_true(lambda: found(running.client, failed)["State"] == "Failed", "the publish failed")
        assert found(running.client, failed)["StateReasonCode"] == "DisabledKMSKey"
        assert "the KMS key used is disabled" in found(running.client, failed)["StateReason"]
        kms.enable(arn)
        assert "Restore Duration" in running.call("f", 3, version).log


def found(client: Any, version: str) -> Any:
    return client.get_function_configuration(FunctionName="f", Qualifier=version)


def updated(client: Any) -> bool:
    return bool(found(client, "$LATEST")["LastUpdateStatus"] == "Successful")
