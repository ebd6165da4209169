"""Layers: merged in order, kept as long as something names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from packing import package
from thaw.errors import ServiceError
from thaw.publish.code import code_key
from thaw.publish.layers import LayerFolders, lay_over

FIRST = package({"python/a.py": b"first", "python/b.py": b"first", "bin/tool": b"first"})
SECOND = package({"python/b.py": b"second", "lib/c.so": b"second"})


@pytest.fixture
def layers(tmp_path: Path) -> LayerFolders:
    kept = {code_key(content): content for content in (FIRST, SECOND)}

    async def read(key: str) -> bytes:
        return kept[key]

    folders = LayerFolders(tmp_path / "layers", read)
    folders.prepare()
    return folders


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


async def test_later_layers_lie_over_earlier_ones(layers: LayerFolders) -> None:
    keys = [code_key(FIRST), code_key(SECOND)]
    merged = await layers.folder(keys)
    assert merged is not None
    expected = {"python/a.py": "first", "python/b.py": "second", "bin/tool": "first", "lib/c.so": "second"}
    assert files(merged) == expected
    assert await layers.folder(keys) == merged
    other = await layers.folder(keys[::-1])
    assert other is not None
    assert files(other) == expected | {"python/b.py": "first"}
    assert await layers.folder([]) is None


async def test_a_layer_goes_with_everything_that_was_merged_from_it(layers: LayerFolders, tmp_path: Path) -> None:
    keys = [code_key(FIRST), code_key(SECOND)]
    merged, alone = await layers.folder(keys), await layers.folder(keys[:1])
    assert merged is not None
    assert alone is not None
    await layers.remove(keys[1])
    assert not merged.exists()
    assert files(alone)["python/b.py"] == "first"
    await layers.remove(keys[0])
    assert [path.name for path in (tmp_path / "layers").rglob("*")] == ["merged"]


async def test_what_an_interrupted_run_left_is_removed(layers: LayerFolders, tmp_path: Path) -> None:
    (tmp_path / "layers" / "merged" / ".half" / "opt").mkdir(parents=True)
    layers.prepare()
    assert list((tmp_path / "layers" / "merged").iterdir()) == []


async def test_a_layer_that_is_no_zip_is_refused(layers: LayerFolders) -> None:
    with pytest.raises(ServiceError, match="Could not unzip"):
        await layers.add(b"no zip")


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    outside, first, second, target = (tmp_path / name for name in ("outside", "first", "second", "target"))
    for folder in (outside, first, second / "python", target):
        folder.mkdir(parents=True)
    (first / "python").symlink_to("../outside")
    (second / "python" / "a.py").write_text("second")
    for source in (first, second):
        lay_over(source, target)
    assert list(outside.iterdir()) == []
    assert (target / "python" / "a.py").read_text() == "second"
    lay_over(first, target)
    assert (target / "python").is_symlink()
