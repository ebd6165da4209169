"""`thaw local` as people run it: real functions of a template, an API with hot reload, and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from serving import Traces, newest_runtime, share_runtimes
from waiting import until_true

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Parameters: {Word: {Type: String, Default: default}}
Resources:
  Echo:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: RUNTIME
      Handler: app.handler
      CodeUri: src
      AutoPublishAlias: live
      Timeout: 20
      Environment: {Variables: {WORD: !Ref Word, TABLE: !Ref Table}}
      Events:
        Get: {Type: HttpApi, Properties: {Path: '/p/{id}', Method: get}}
  Broken:
    Type: AWS::Serverless::Function
    Properties: {Runtime: RUNTIME, Handler: app.broken, CodeUri: src}
  Table: {Type: AWS::Serverless::SimpleTable}
"""
MODULE = """
import os
started = os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]
def handler(event, context):
    print("said by", context.function_name)
    body = os.environ["WORD"] + " " + str(event.get("pathParameters"))
    return {"statusCode": 200, "headers": {"x-answer": "ONE"}, "body": body,
            "event": event, "kind": started, "table": os.environ["TABLE"]}
def broken(event, context):
    raise ValueError("no")
"""


class Project:
    """A template in a folder, and the commands that are run there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "project"
        self.state = folder / "state"
        (self.folder / "src").mkdir(parents=True)
        share_runtimes(self.state)
        (self.folder / "template.yaml").write_text(TEMPLATE.replace("RUNTIME", newest_runtime()))
        self.write(MODULE)

    def write(self, module: str) -> None:
        (self.folder / "src" / "app.py").write_text(module)

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"THAW_STATE_DIR": str(self.state), "TMPDIR": str(self.temporary)}

    @property
    def temporary(self) -> Path:
        """Where the commands make their folders, so that what they leave is seen."""
        place = self.folder.parent / "temporary"
        place.mkdir(exist_ok=True)
        return place

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "thaw.cli", "local", *words]

    def invoke(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command("invoke", *words), cwd=self.folder, env=self.environment, input=stdin, capture_output=True,
            text=True, timeout=300, check=False,
        )  # fmt: skip

    def assert_nothing_left(self) -> None:
        assert [place.name for place in self.temporary.iterdir()] == []


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path)
    yield made
    made.assert_nothing_left()


def test_a_function_is_called_once(project: Project) -> None:
    (project.folder / "event.json").write_text('{"a": 1}')
    (project.folder / "variables.json").write_text('{"Echo": {"WORD": "mine"}}')
    done = project.invoke("Echo", "-e", "event.json", "--env-vars", "variables.json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["event"], answer["body"], answer["kind"]) == ({"a": 1}, "mine None", "on-demand")
    assert answer["table"] == "local-Table"
    assert "• creating Echo (python3" in done.stderr
    assert "Broken" not in done.stderr
    assert "said by local-Echo\n" in done.stderr
    assert re.search(r"^REPORT RequestId: .*Init Duration", done.stderr, re.MULTILINE)


def test_a_function_goes_through_freeze_and_thaw(project: Project) -> None:
    done = project.invoke("Echo", "--snapstart", "-e", "-", "--parameter-overrides", "Word=given", stdin='{"b": 2}')
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["event"], answer["body"], answer["kind"]) == ({"b": 2}, "given None", "snap-start")
    assert "• publishing Echo: Init runs once, then is frozen\n" in done.stderr
    assert "RESTORE_REPORT Restore Duration: " in done.stderr


def test_a_function_that_fails(project: Project) -> None:
    done = project.invoke("Broken")
    assert done.returncode == 1
    assert json.loads(done.stdout)["errorMessage"] == "no"
    assert "thaw: Broken failed (Unhandled): its answer says why, and its log above where.\n" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["Eco"], "template.yaml has no function Eco: it has Broken, Echo."),
        ([], "template.yaml has 2 functions: name one of Broken, Echo."),
        (["-t", "none.yaml"], "There is no template none.yaml: name one, such as template.yaml."),
    ],
)
def test_mistakes_are_told_before_anything_is_started(project: Project, words: list[str], said: str) -> None:
    done = project.invoke(*words)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"thaw: {said}\n")


def test_a_function_whose_init_fails_cannot_be_published(project: Project) -> None:
    project.write("raise ValueError('not today')\n")
    done = project.invoke("Echo", "--snapstart")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("thaw: Echo cannot be run: local-Echo:1 failed: ")


# --- start-api --------------------------------------------------------------------------------------------------------


class Api:
    """A running `thaw local start-api`."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self.log = log
        until_true(lambda: "Thaw serves" in self.said() or process.poll() is not None, "the API", 120)
        found = re.search(r"Thaw serves template\.yaml at (\S+)\. ", self.said())
        assert found is not None, self.said()
        self.url = found[1]

    def said(self) -> str:
        return self.log.read_text()

    def get(self, path: str) -> tuple[int, dict[str, str], str]:
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=60) as answer:
                return answer.status, dict(answer.headers), answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read().decode()


@contextmanager
def serving_api(project: Project, *words: str) -> Iterator[Api]:
    log = project.folder.parent / "api.log"
    with log.open("w") as target:
        process: Any = subprocess.Popen(
            project.command("start-api", "--port", "0", *words), cwd=project.folder, env=project.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=target, text=True,
        )  # fmt: skip
    try:
        yield Api(process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)


def test_an_api_of_clones_with_hot_reload_and_a_clean_end(project: Project) -> None:
    text = (project.folder / "template.yaml").read_text()
    start, end = text.index("  Broken:"), text.index("  Table:")
    (project.folder / "template.yaml").write_text(text[:start] + text[end:])
    with serving_api(project, "--snapstart") as api:
        status, headers, body = api.get("/p/7")
        assert (status, headers["x-answer"], body) == (200, "ONE", "default {'id': '7'}")
        assert api.get("/none")[0] == 404
        assert re.search(r"GET +http://\S+/p/\{id\} +Echo\n", api.said())
        project.write(MODULE.replace("ONE", "TWO"))
        until_true(lambda: api.get("/p/7")[1].get("x-answer") == "TWO", "the new code", 120)
        assert "• changed: app.py\n" in api.said()
        template = project.folder / "template.yaml"
        good = template.read_text()
        template.write_text(good.replace("Echo:", "Echo: ["))
        until_true(lambda: "What was there before goes on." in api.said(), "the sentence on the template", 60)
        assert api.get("/p/7")[0] == 200
        template.write_text(good.replace("/p/{id}", "/q/{id}").replace("Default: default", "Default: other"))
        until_true(lambda: api.get("/q/8")[2] == "other {'id': '8'}", "the new template", 120)
        until_true(lambda: "said by local-Echo" in api.said(), "the function's log")
        until_true(lambda: api.said().count("RESTORE_REPORT") >= 2, "two restores in the log")
        traces = Traces.of(api.process.pid)
    traces.assert_gone()
    assert "Traceback" not in api.said()


def test_an_api_that_is_stopped_while_it_publishes(project: Project) -> None:
    project.write("import time\ntime.sleep(600)\n")
    log = project.folder.parent / "api.log"
    with log.open("w") as target:
        process = subprocess.Popen(
            project.command("start-api", "--port", "0", "--snapstart"), cwd=project.folder, env=project.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=target, text=True,
        )  # fmt: skip
    until_true(lambda: "Init runs once" in log.read_text(), "the publish", 120)
    traces = Traces.of(process.pid)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 0
    traces.assert_gone()
    assert "Traceback" not in log.read_text()


def test_a_port_that_is_taken(project: Project) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = subprocess.run(
            project.command("start-api", "--port", str(port)), cwd=project.folder, env=project.environment,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        1,
        f"thaw: The server cannot listen on 127.0.0.1 port {port} (Address already in use): "
        "set --port to a free one, or to 0.\n",
    )
