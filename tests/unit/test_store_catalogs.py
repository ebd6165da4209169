"""Marks of catalogs in an origin that they share."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from thaw.config import read_settings
from thaw.errors import ConfigurationError
from thaw.store import open_store
from thaw.store.catalogs import catalog_name


async def test_catalogs_see_each_other_and_keep_their_names(tmp_path: Path) -> None:
    seen: list[list[str]] = []
    for state in ("a", "b", "a"):
        store = open_store(read_settings(state_dir=tmp_path / state, origin=tmp_path / "origin"))
        try:
            seen.append(await store.catalogs.join())
        finally:
            store.close()
    first, second = catalog_name(tmp_path / "a"), catalog_name(tmp_path / "b")
    assert re.fullmatch("[0-9a-f]{32}", first)
    assert seen == [[], [first], [second]]


def test_a_name_that_was_never_written_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "catalog-name").touch()
    assert catalog_name(tmp_path) == catalog_name(tmp_path) != ""


def test_a_state_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    state = tmp_path / "file" / "state"
    with pytest.raises(ConfigurationError) as caught:
        catalog_name(state)
    assert str(caught.value) == (
        f"The state folder {state} cannot be used (Not a directory): name another one with --state-dir."
    )
