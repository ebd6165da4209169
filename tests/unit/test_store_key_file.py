"""The key file: made once, refused when it is not safe, and what its wrapping protects."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from thaw.errors import ConfigurationError, NotAuthentic
from thaw.store import KeyFile

CONTEXT = {"thaw:snapshot": "f-1"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "default.key"


async def test_made_on_first_use_for_this_user_alone(path: Path) -> None:
    keys = KeyFile(path)
    assert not path.exists()
    keys.prepare()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["default.key"]


async def test_the_same_file_is_the_same_key(path: Path) -> None:
    first, second = KeyFile(path), KeyFile(path)
    data_key = await first.data_key(CONTEXT)
    assert await second.unwrap(data_key.wrapped, CONTEXT) == data_key.plaintext
    assert await first.chunk_secret() == await second.chunk_secret()
    assert first.name == second.name
    assert data_key.plaintext not in data_key.wrapped
    assert repr(data_key.plaintext) not in repr(data_key)


async def test_two_files_are_two_keys(path: Path, tmp_path: Path) -> None:
    one, two = KeyFile(path), KeyFile(tmp_path / "other.key")
    assert one.name != two.name
    assert await one.chunk_secret() != await two.chunk_secret()
    with pytest.raises(NotAuthentic, match="does not open under the key file"):
        await two.unwrap((await one.data_key(CONTEXT)).wrapped, CONTEXT)


async def test_servers_that_start_together_get_one_key(path: Path) -> None:
    program = (
        "import sys; from thaw.store import KeyFile; from pathlib import Path; print(KeyFile(Path(sys.argv[1])).name)"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    names = {(await asyncio.to_thread(process.communicate))[0] for process in started}
    assert len(names) == 1
    assert names != {""}


async def test_data_key_of_another_snapshot_is_detected(path: Path) -> None:
    keys = KeyFile(path)
    data_key = await keys.data_key(CONTEXT)
    with pytest.raises(NotAuthentic):
        await keys.unwrap(data_key.wrapped, {"thaw:snapshot": "f-2"})


async def test_edited_or_truncated_data_key_is_detected(path: Path) -> None:
    keys = KeyFile(path)
    wrapped = (await keys.data_key(CONTEXT)).wrapped
    for position in range(len(wrapped)):
        edited = wrapped[:position] + bytes([wrapped[position] ^ 1]) + wrapped[position + 1 :]
        for broken in (edited, wrapped[:position]):
            with pytest.raises(NotAuthentic):
                await keys.unwrap(broken, CONTEXT)


async def test_every_data_key_is_fresh(path: Path) -> None:
    keys = KeyFile(path)
    assert len({(await keys.data_key(CONTEXT)).plaintext for _ in range(100)}) == 100


def test_a_file_that_others_may_read_is_refused(path: Path) -> None:
    KeyFile(path).prepare()
    path.chmod(0o640)
    with pytest.raises(ConfigurationError) as caught:
        KeyFile(path).prepare()
    assert str(caught.value) == (
        f"The key file {path} is not used, because others may read it (mode 0640): run chmod 600 {path}."
    )


@pytest.mark.parametrize("content", [b"", b"THWK", b"THWK\2\0" + bytes(42), b"x" * 48, b"THWK\1\0" + bytes(43)])
def test_a_file_that_is_no_key_file_is_refused(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="is not one that Thaw made, because"):
        KeyFile(path).prepare()


def test_a_place_where_no_file_can_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("in the way")
    with pytest.raises(ConfigurationError, match=r"cannot be made, because file exists: make its folder writable"):
        KeyFile(tmp_path / "keys" / "default.key").prepare()
