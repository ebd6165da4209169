"""docs/formats.md, held against the bytes that the code writes."""

import hashlib
import hmac
import json
import re
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from thaw.chunk import (
    CHUNK_SIZE,
    ENVELOPE_LIMIT,
    MANIFEST_LIMIT,
    ChunkPlace,
    Manifest,
    SealedChunk,
    Section,
    open_manifest,
    read_envelope,
    seal,
    seal_manifest,
)
from thaw.store import KeyFile

PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
SECRET = bytes(range(32))
PLAINTEXT = b"frozen " * 1000


def fields(heading: str, **lengths: int) -> dict[str, tuple[int, int, str]]:
    """The byte table under a heading: field -> (offset, size, value), with the lengths put in for their letters."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    table: dict[str, tuple[int, int, str]] = {}
    for offset, size, field, value in re.findall(r"^\| ([^|]*?) \| ([^|]*?) \| ([^|]*?) \| ([^|]*?)\|$", section, re.M):
        if offset in ("Offset", "---"):
            continue
        numbers = [
            eval(re.sub(r"(\d)([a-z])", r"\1*\2", text), {}, dict(lengths))  # the page's own "20+k+w+32i"
            for text in (offset, size)
        ]
        table[field] = (*numbers, value.strip())
    return table


def cut(sealed: bytes | bytearray, table: dict[str, tuple[int, int, str]]) -> dict[str, bytes]:
    """The bytes of every field; the table must cover `sealed` without gap or overlap."""
    end = 0
    for offset, size, _ in table.values():
        assert offset == end
        end = offset + size
    assert end == len(sealed)
    return {field: bytes(sealed[offset : offset + size]) for field, (offset, size, _) in table.items()}


def number(field: bytes) -> int:
    return int.from_bytes(field, "little")


def label(text: str) -> bytes:
    """A label that the page names."""
    assert f"`{text}`" in PAGE
    return text.encode()


def test_limits_are_on_the_page() -> None:
    for limit in (CHUNK_SIZE, ENVELOPE_LIMIT, MANIFEST_LIMIT):
        assert re.search(rf"\b{limit}\b", PAGE)


def test_chunk_envelope_has_the_documented_fields() -> None:
    table = fields("Chunk envelope", n=len(PLAINTEXT))
    field = cut(seal(SECRET, PLAINTEXT).envelope, table)
    assert field["magic"] == table["magic"][2].strip("`").encode()
    assert number(field["format version"]) == int(table["format version"][2])
    assert number(field["length n of the plaintext"]) == len(PLAINTEXT)
    assert field["reserved"] + field["reserved, too"] == bytes(6)


def test_chunk_key_id_and_ciphertext_are_as_documented() -> None:
    sealed = seal(SECRET, PLAINTEXT)
    digest = hashlib.sha256(PLAINTEXT).digest()
    key = hmac.digest(SECRET, label("thaw chunk key v1") + b"\0" + digest, "sha256")
    id = hmac.digest(SECRET, label("thaw chunk id v1") + b"\0" + digest, "sha256")
    assert (sealed.key, sealed.id) == (key, id.hex())
    header, body = bytes(sealed.envelope[:16]), bytes(sealed.envelope[16:])
    assert AESGCM(key).decrypt(bytes(12), body, header + id) == PLAINTEXT


async def test_manifest_and_key_file_are_as_documented(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "default.key")
    data_key = await keys.data_key({"thaw:snapshot": "f-1"})
    manifest = sample_manifest()
    sealed = seal_manifest(manifest, data_key, keys.name)
    k, w, i = len(keys.name), len(data_key.wrapped), 2
    table = fields("Manifest", k=k, w=w, i=i, c=len(sealed) - 32 - k - w - 32 * i)
    field = cut(sealed, table)
    ids = field["chunk ids, ascending, each once"]
    assert field["magic"] == table["magic"][2].strip("`").encode()
    assert number(field["format version"]) == int(table["format version"][2])
    assert number(field["k: length of the key's name"]) == k
    assert number(field["w: length of the wrapped data key"]) == w
    assert number(field["i: number of chunk ids"]) == i
    assert number(field["c: length of ciphertext and tag"]) == len(field["ciphertext, then the 16 bytes of the tag"])
    assert field["name of the KMS key, UTF-8"].decode() == keys.name
    assert sorted([ids[:32].hex(), ids[32:].hex()]) == [ids[:32].hex(), ids[32:].hex()] == sorted(manifest.chunk_ids())

    master = cut((tmp_path / "default.key").read_bytes(), fields("Key file"))["M, random"]
    wrap = hmac.digest(master, label("thaw wrap key v1"), "sha256")
    wrapped = field["data key, wrapped"]
    context = json.dumps({"thaw:snapshot": "f-1"}, separators=(",", ":")).encode()
    plain_key = AESGCM(wrap).decrypt(wrapped[:12], wrapped[12:], context)
    associated = label("thaw manifest v1") + b"\0f-1\0" + sealed[: 20 + k + w + 32 * i]
    nonce, ciphertext = field["nonce, random"], field["ciphertext, then the 16 bytes of the tag"]
    document = msgspec.msgpack.decode(AESGCM(plain_key).decrypt(nonce, ciphertext, associated))
    assert_documented_document(document, manifest, ids)
    assert await keys.chunk_secret() == hmac.digest(master, label("thaw chunk secret v1"), "sha256")
    name = hmac.digest(master, label("thaw key name v1"), "sha256")[:8].hex()
    assert keys.name == f"key-file:{name}"


def sample_manifest() -> Manifest:
    one, two = seal(SECRET, b"one"), seal(SECRET, bytes(CHUNK_SIZE - 1) + b"2")
    memory = Section(3 * CHUNK_SIZE, (place(1, two, CHUNK_SIZE), place(2, two, CHUNK_SIZE)))
    return Manifest(
        snapshot_key="f-1",
        facts={"kernel": "6"},
        plan=Section(3, (place(0, one, 3),)),
        memory=memory,
        disk=Section(0, ()),
    )


def place(index: int, chunk: SealedChunk, size: int) -> ChunkPlace:
    return ChunkPlace(index, chunk.id, chunk.key, size)


def assert_documented_document(document: dict[str, object], manifest: Manifest, ids: bytes) -> None:
    section = PAGE.split("one MessagePack map:")[1].split("## ")[0]
    assert list(document) == re.findall(r"^\| `(\w+)` \|", section, re.M)
    memory = document["memory"]
    assert isinstance(memory, dict)
    assert memory["size"] == manifest.memory.size
    for (index, number, key), expected in zip(memory["chunks"], manifest.memory.chunks, strict=True):
        assert (index, ids[32 * number :][:32].hex(), key) == (expected.index, expected.id, expected.key)


async def test_a_manifest_comes_back_as_it_was(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "default.key")
    data_key = await keys.data_key({})
    sealed = seal_manifest(sample_manifest(), data_key, keys.name)
    assert open_manifest("f-1", read_envelope("f-1", sealed), data_key.plaintext) == sample_manifest()


@pytest.mark.parametrize("path", ["chunks/", "manifests/", "code/", "lock"])
def test_paths_of_the_origin_are_on_the_page(path: str) -> None:
    source = (Path(__file__).parents[2] / "src" / "thaw" / "store" / "origin.py").read_text()
    assert f'root / "{path.rstrip("/")}"' in source
    assert f"| `{path}" in PAGE
