"""`make soak`: two thousand clones of one snapshot, compared source by source."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from serving import SHARED_RUNTIMES, newest_runtime, served
from thaw.cli.uniqueness import comparing

pytestmark = [pytest.mark.soak, pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root")]

CLONES, TREES = 2000, 500


def test_two_thousand_clones_differ(tmp_path: Path) -> None:
    content = asyncio.run(comparing.packages_folder(SHARED_RUNTIMES, newest_runtime()))
    package = comparing.probe_package(content)
    with served(tmp_path / "state", idle_timeout_s=0) as running:
        version = comparing.publish_probe(running.client, running.runtime, package)
        samples = comparing.draw(running.process.url, version, CLONES)
        version = comparing.publish_probe(running.client, running.runtime, package, comparing.CHILDREN)
        trees = comparing.draw(running.process.url, version, TREES, function=comparing.CHILDREN)
    compared = comparing.compare(samples) + comparing.compare(trees)
    for one in compared:
        print(f"{one.source.name:34} {one.distinct:5}/{one.clones}  {one.source.expected}")
    assert [(one.source.name, one.distinct) for one in compared if not one.as_expected] == []
