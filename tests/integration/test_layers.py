"""Layers through boto3: a real package of the index's kind, in the function, in its clones, after its deletion."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from packing import package
from serving import Served, served
from thaw.cli.measuring import wait_active

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

HANDLER = """
import os, sys
import shared
def handler(event, context):
    return [shared.NAME, open("/opt/share/text").read(), sys.path.index("/opt/python") > sys.path.index("/var/task")]
"""


def publish_layer(running: Served, name: str, text: str) -> str:
    content = package({"python/shared.py": f"NAME = {text!r}\n".encode(), f"share/{name}": b"", "share/text": b"x"})
    answer = running.client.publish_layer_version(LayerName=name, Content={"ZipFile": content})
    arn: str = answer["LayerVersionArn"]
    return arn


def test_layers_are_merged_at_opt_in_order_and_outlive_their_deletion(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with served(state, idle_timeout_s=0) as running:
        lower, upper = publish_layer(running, "lower", "lower"), publish_layer(running, "upper", "upper")
        running.create("f", HANDLER, Layers=[lower, upper], SnapStart={"ApplyOn": "PublishedVersions"})
        assert running.call("f").payload == ["upper", "x", True]
        version = running.publish("f")
        running.client.update_function_configuration(FunctionName="f", Layers=[upper, lower])
        wait_active(running.client, "f")
        assert running.call("f").payload[0] == "lower"
        reply = running.call("f", qualifier=version)
        assert reply.payload[0] == "upper"
        assert "Restore Duration" in reply.log
        for name in ("lower", "upper"):
            running.client.delete_layer_version(LayerName=name, VersionNumber=1)
        assert running.call("f").payload[0] == "lower", "functions keep the layers that they use"
    with served(state) as running:
        assert running.call("f", qualifier=version).payload[0] == "upper"
        running.client.delete_function(FunctionName="f")
    assert [path.name for path in (state / "layers").rglob("*")] == ["merged"]
    assert not [path for path in (state / "origin" / "code").rglob("*") if path.is_file()]
