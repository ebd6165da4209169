"""`thaw deploy` against a real server: snapshots are taken, a failing Init changes nothing, the example works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from serving import Served, served

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]
EXAMPLE = Path(__file__).parents[2] / "examples" / "hello_api"


class Project:
    """A copy of the example, and `thaw deploy` for it."""

    def __init__(self, folder: Path, server: Served) -> None:
        self.folder = folder
        self.server = server
        (folder / "src").mkdir(parents=True)
        (folder / "template.yaml").write_text((EXAMPLE / "template.yaml").read_text())
        self.write((EXAMPLE / "src" / "hello.py").read_text())

    def write(self, module: str) -> None:
        (self.folder / "src" / "hello.py").write_text(module)

    def deploy(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable, "-m", "thaw.cli", "deploy", "--endpoint-url", self.server.process.url,
            "--parameter-overrides", f"Runtime={self.server.runtime}", *words,
        ]  # fmt: skip
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=300, check=False)

    def get(self, path: str = "/") -> dict[str, object]:
        """Through the function's URL, on a host that every resolver knows."""
        config = self.server.client.get_function_url_config(FunctionName="hello-Hello", Qualifier="live")
        url_id = (urlsplit(config["FunctionUrl"]).hostname or "").partition(".")[0]
        with urllib.request.urlopen(f"{self.server.process.url}/thaw/urls/{url_id}{path}", timeout=60) as answer:
            found: dict[str, object] = json.loads(answer.read())
        return found


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with served(tmp_path / "state") as server:
        yield Project(tmp_path / "hello", server)


def test_the_example_is_deployed_changed_and_removed(project: Project) -> None:
    done = project.deploy()
    assert done.returncode == 0, done.stderr
    assert "• creating version of hello-Hello\n" in done.stdout
    assert project.get() == {"hello": "nobody", "began": "snap-start", "calls": 1, "version": "1"}
    again = project.deploy()
    assert "Nothing changes: the server has what the template says.\n" in again.stdout
    project.write((EXAMPLE / "src" / "hello.py").read_text().replace('"nobody"', '"somebody"'))
    changed = project.deploy()
    assert changed.returncode == 0, changed.stderr
    assert "  FunctionVersion  1 → (known after deploying)\n" in changed.stdout
    assert project.get() == {"hello": "somebody", "began": "snap-start", "calls": 1, "version": "2"}
    assert "Removed the stack hello: 1 deleted.\n" in project.deploy("--remove").stdout
    assert project.server.client.list_functions()["Functions"] == []


def test_an_init_that_fails_leaves_what_was_deployed(project: Project) -> None:
    assert project.deploy().returncode == 0
    good = project.server.client.get_function_configuration(FunctionName="hello-Hello")
    project.write("raise ValueError('not today')\n")
    failed = project.deploy()
    assert failed.returncode == 1
    said = failed.stderr.strip()
    assert said.startswith("thaw: The stack hello was not deployed: HelloVersion")
    assert said.endswith("Everything that had been changed was put back.")
    assert "hello-Hello:2 failed: " in said
    assert "• putting back the code of function hello-Hello\n" in failed.stdout
    assert "  hello-Hello [ERROR] ValueError: not today" in failed.stdout
    assert project.get()["version"] == "1"
    now = project.server.client.get_function_configuration(FunctionName="hello-Hello")
    assert (now["CodeSha256"], now["State"]) == (good["CodeSha256"], "Active")
    versions = project.server.client.list_versions_by_function(FunctionName="hello-Hello")["Versions"]
    assert [item["Version"] for item in versions] == ["$LATEST", "1"]


def test_a_runtime_that_this_machine_does_not_have(project: Project) -> None:
    template = project.folder / "template.yaml"
    template.write_text(template.read_text().replace("!Ref Runtime", "python3.6"))
    failed = project.deploy()
    assert (failed.returncode, failed.stderr) == (
        1,
        "thaw: The stack hello was not deployed: Hello (function hello-Hello) failed: hello-Hello:$LATEST failed: The "
        "runtime python3.6 cannot be served, because Thaw has no client for it: use python3.9 or later, java11 or "
        "later, nodejs18.x or later, or provided.al2023. Everything that had been changed was put back.\n",
    )
