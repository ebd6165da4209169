"""docs/threat-model.md and the pages on tiers and keys, held against the code and its tests."""

import re
from pathlib import Path

from thaw.store import kms, lease_guard, redis_cache
from thaw.store.snapshots import CONFIRM_S

ROOT = Path(__file__).parents[2]
MODEL = (ROOT / "docs" / "threat-model.md").read_text()
FORMATS = (ROOT / "docs" / "formats.md").read_text()
ATTACKS = ROOT / "tests" / "attack" / "test_snapshot_store.py"


def test_every_test_that_the_threat_model_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", MODEL))
    written = {name for file in (ROOT / "tests").rglob("test_*.py") for name in names_of_tests(file)}
    assert len(named) > 15
    assert named <= written


def test_every_attack_that_is_tested_is_in_the_threat_model() -> None:
    assert {name for name in names_of_tests(ATTACKS) if f"`{name}`" not in MODEL} == set()


def test_limits_that_the_pages_name_are_those_of_the_code() -> None:
    assert f"at least every {CONFIRM_S:.0f} s" in MODEL
    assert f"renewed every {lease_guard.RENEW_S:.0f} s" in FORMATS
    assert f"dead process after {lease_guard.LEASE_S:.0f} s" in FORMATS


def test_wrapped_chunk_secret_has_the_documented_fields() -> None:
    arn, wrapped = "arn:aws:kms:us-east-1:000000000000:key/x", b"wrapped secret"
    packed = kms.pack_secret(arn, wrapped)
    section = FORMATS.split("### Wrapped chunk secret\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([\d+kw]+) \| ([\dkw]+) \| ([^|]+) \| ([^|]*)\|$", section, re.M)
    sizes = {"k": len(arn), "w": len(wrapped)}
    end = 0
    values = {}
    for offset, size, field, _ in rows:
        start = sum(sizes.get(part) or int(part) for part in offset.split("+"))
        assert start == end
        end = start + (sizes.get(size) or int(size))
        values[field] = packed[start:end]
    assert end == len(packed)
    assert values["magic"] == b"THWS"
    assert int.from_bytes(values["format version"], "little") == kms.VERSION
    assert int.from_bytes(values["k: length of the ARN"], "little") == len(arn)
    assert int.from_bytes(values["w: length of the wrapped secret"], "little") == len(wrapped)
    assert (values["ARN, UTF-8"], values["wrapped secret"]) == (arn.encode(), wrapped)
    assert kms.unpack_secret(arn, packed) == wrapped


def test_the_key_of_a_chunk_in_l2_is_the_documented_one() -> None:
    cache = redis_cache.RedisCache("redis://127.0.0.1:1", zone="zone-a", limit=1)
    assert cache._key("ab") == "thaw:zone-a:chunk:ab"
    assert "`thaw:<zone>:chunk:<id>`" in FORMATS
    cache.close()


def names_of_tests(file: Path) -> list[str]:
    """Names of the test functions of a file."""
    return re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.M)
