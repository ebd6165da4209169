"""Clones of one snapshot draw different numbers, wherever a restore can see to it; what repeats is documented."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from serving import SHARED_RUNTIMES, newest_runtime, served, share_runtimes
from thaw.cli.uniqueness import comparing, probe
from thaw.cli.uniqueness.sources import RESEEDED, SOURCES

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

IN_CHILD = " in a child process"
# `make soak` compares 2000 (tests/performance/test_uniqueness.py).
CLONES, TREES = 200, 40


@cache
def package() -> bytes:
    return comparing.probe_package(asyncio.run(comparing.packages_folder(SHARED_RUNTIMES, newest_runtime())))


def test_every_source_is_described() -> None:
    assert set(probe.SOURCES) <= set(SOURCES)
    modules = [Path(probe.__file__), Path(probe.__file__).with_name("probe_children.py")]
    text = "".join(module.read_text() for module in modules)
    named = set(re.findall(r'"([^"]+)": |SOURCES\["([^"]+)"\]', text))
    assert {first or second for first, second in named} >= set(SOURCES)


def test_clones_differ_in_every_source_but_those_that_are_documented(tmp_path: Path) -> None:
    with served(tmp_path / "state", idle_timeout_s=0) as running:
        version = comparing.publish_probe(running.client, running.runtime, package())
        samples = comparing.draw(running.process.url, version, CLONES)
        version = comparing.publish_probe(running.client, running.runtime, package(), comparing.CHILDREN)
        trees = comparing.draw(running.process.url, version, TREES, function=comparing.CHILDREN)
    compared = comparing.compare(samples) + comparing.compare(trees)
    assert {one.source.name for one in compared} == set(SOURCES), "none was left out"
    assert [(one.source.name, one.distinct) for one in compared if not one.as_expected] == []


def test_without_reseeding_the_global_generators_repeat(tmp_path: Path) -> None:
    with served(tmp_path / "state", idle_timeout_s=0, reseed=False) as running:
        version = comparing.publish_probe(running.client, running.runtime, package())
        samples = comparing.draw(running.process.url, version, 6)
        version = comparing.publish_probe(running.client, running.runtime, package(), comparing.CHILDREN)
        trees = comparing.draw(running.process.url, version, 6, function=comparing.CHILDREN)
    distinct = {one.source.name: one.distinct for one in comparing.compare(samples) + comparing.compare(trees)}
    repeated = {name for source in ("random.random", "numpy.random.rand") for name in (source, f"{source}{IN_CHILD}")}
    assert {distinct[name] for name in repeated} == {1}
    assert repeated < set(RESEEDED)
    assert distinct[f"ssl.RAND_bytes{IN_CHILD}"] == 6, "of what is secret nothing may repeat"
    assert distinct["secrets.token_hex"] == distinct["ssl.RAND_bytes"] == 6


def test_the_command_prints_what_each_source_does(tmp_path: Path) -> None:
    share_runtimes(tmp_path)
    command = [
        sys.executable,
        "-m",
        "thaw.cli",
        "doctor",
        "uniqueness",
        "--clones",
        "4",
        "--without-packages",
        "--json",
    ]
    command += ["--runtime", newest_runtime(), "--state-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {one["source"]: one for one in json.loads(done.stdout[done.stdout.index("[\n") :])}
    assert found["random.random"]["distinct"] == 4
    assert found["random.Random() of Init"] == {
        "source": "random.Random() of Init", "clones": 4, "distinct": 1, "expected": "repeats", "as_expected": True,
        "by": "its state is in the snapshot", "advice": "make or seed it again in an after-restore hook",
    }  # fmt: skip
