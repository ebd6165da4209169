"""The template of the published article, word for word, with `thaw deploy`: a Java snapshot behind an alias."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clients.test_deploy import PUBLISHED
from java import jdk
from packing import package
from serving import Served

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]
HANDLER = """
package com.example;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.util.Map;

public class Handler implements RequestHandler<Map<String, Object>, String> {
    private static final String BEGAN = System.getenv("AWS_LAMBDA_INITIALIZATION_TYPE");

    public String handleRequest(Map<String, Object> event, Context context) {
        return BEGAN + " " + context.getFunctionVersion() + " " + event.get("name");
    }
}
"""


def jar(folder: Path) -> bytes:
    """The compiled handler, for Java 17 and later."""
    source = folder / "Handler.java"
    source.write_text(HANDLER)
    command = [
        jdk.compiler(),
        "--release",
        "17",
        "-d",
        str(folder / "classes"),
        "-cp",
        f"{jdk.client()}/*",
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return package(jdk.entries(folder / "classes"))


@pytest.mark.parametrize("runtime", ["java21", "java17"])
def test_the_published_template_is_deployed_and_called(server: Served, tmp_path: Path, runtime: str) -> None:
    jdk.java(runtime)
    project = tmp_path / f"published-{runtime}"
    (project / "target").mkdir(parents=True)
    (project / "target" / "my-function.jar").write_bytes(jar(tmp_path))
    name, text = "my-snapstart-function", PUBLISHED
    if runtime != "java21":
        name = f"{name}-{runtime}"
        text = text.replace("java21", runtime).replace("my-snapstart-function", name)
    (project / "template.yaml").write_text(text)

    def deploy() -> str:
        command = [sys.executable, "-m", "thaw.cli", "deploy", "--endpoint-url", server.process.url]
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "Deployed: 3 created in " in deploy()
    assert server.call(name, {"name": "first"}, "live").payload == "snap-start 1 first"
    configuration = server.client.get_function_configuration(FunctionName=name, Qualifier="live")
    assert configuration["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "On"}
    assert "Nothing changes: the server has what the template says.\n" in deploy()
    assert configuration["MemorySize"] == 512
