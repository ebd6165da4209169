"""Logs and metrics through boto3 and the AWS CLI, from a running server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from serving import served

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

SOURCE = """
def handler(event, context):
    print("said", event)
    if event == "fail":
        raise ValueError(event)
    return event
"""


def client(service: str, url: str, secret: str = "x") -> Any:
    return boto3.client(
        service, endpoint_url=url, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key=secret
    )


def aws(url: str, *words: str) -> Any:
    command = [str(Path(sys.executable).with_name("aws")), *words, "--endpoint-url", url, "--region", "us-east-1"]
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_logs_and_metrics_of_calls_can_be_read(tmp_path: Path) -> None:
    with served(tmp_path / "state", idle_timeout_s=0) as running:
        url = running.process.url
        running.create("my-function", SOURCE, SnapStart={"ApplyOn": "PublishedVersions"})
        version = running.publish("my-function")
        for event in ("one", "fail"):
            running.call("my-function", event)
        running.call("my-function", "two", version)

        group = "/aws/lambda/my-function"
        found = aws(url, "logs", "filter-log-events", "--log-group-name", group, "--filter-pattern", "said")
        assert [one["message"] for one in found["events"]] == ["said one", "said fail", "said two"]
        logs = client("logs", url)
        streams = logs.describe_log_streams(logGroupName=group, orderBy="LastEventTime", descending=True)["logStreams"]
        assert f"[{version}]" in streams[0]["logStreamName"]
        events = logs.get_log_events(logGroupName=group, logStreamName=streams[0]["logStreamName"])["events"]
        assert events[0]["message"].startswith("RESTORE_START")
        with pytest.raises(logs.exceptions.ResourceNotFoundException):
            logs.get_log_events(logGroupName="/aws/lambda/other", logStreamName="x")

        now = datetime.now(UTC)
        asked = [
            "cloudwatch", "get-metric-statistics", "--namespace", "AWS/Lambda", "--dimensions",
            "Name=FunctionName,Value=my-function", "--start-time", (now - timedelta(days=1)).isoformat(),
            "--end-time", (now + timedelta(days=1)).isoformat(), "--period", "86400", "--statistics", "Average",
            "Maximum", "SampleCount", "--metric-name",
        ]  # fmt: skip
        for metric, count in (("InitDuration", 2), ("RestoreDuration", 1), ("Invocations", 3)):
            points = aws(url, *asked, metric)["Datapoints"]
            assert sum(one["SampleCount"] for one in points) == count
            assert all(one["Maximum"] >= one["Average"] > 0 for one in points)
        # The line of the seed's documentation, apart from the endpoint.
        line = (
            "cloudwatch get-metric-statistics --namespace AWS/Lambda --metric-name InitDuration "
            "--dimensions Name=FunctionName,Value=my-function --start-time 2026-01-01T00:00:00Z "
            "--end-time 2026-01-30T00:00:00Z --period 86400 --statistics Average Maximum"
        )
        assert aws(url, *line.split()) == {"Label": "InitDuration", "Datapoints": []}
        cloudwatch = client("cloudwatch", url)
        errors = {
            "Namespace": "AWS/Lambda", "MetricName": "Errors",
            "Dimensions": [{"Name": "FunctionName", "Value": "my-function"},
                           {"Name": "Resource", "Value": "my-function:$LATEST"}],
        }  # fmt: skip
        results = cloudwatch.get_metric_data(
            MetricDataQueries=[{"Id": "e", "MetricStat": {"Metric": errors, "Period": 60, "Stat": "Sum"}}],
            StartTime=now - timedelta(hours=1), EndTime=now + timedelta(hours=1),
        )["MetricDataResults"]  # fmt: skip
        assert sum(results[0]["Values"]) == 1.0
        listed = cloudwatch.list_metrics(Namespace="AWS/Lambda", MetricName="RestoreDuration")["Metrics"]
        assert {"Name": "Resource", "Value": f"my-function:{version}"} in [
            dimension for one in listed for dimension in one["Dimensions"]
        ]
        with pytest.raises(cloudwatch.exceptions.ClientError, match="less than the parameter EndTime"):
            cloudwatch.get_metric_statistics(
                Namespace="AWS/Lambda", MetricName="Errors", StartTime=now, EndTime=now, Period=60, Statistics=["Sum"]
            )
        with urllib.request.urlopen(f"{url}/metrics") as answer:
            assert 'thaw_invocations_total{function_name="my-function"} 3.0' in answer.read().decode()


def test_requests_are_verified_where_credentials_are_configured(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("[default]\naws_access_key_id = x\naws_secret_access_key = right\n")
    keys.chmod(0o600)
    with served(tmp_path / "state", credentials_file=keys, pool_size=0) as running:
        url = running.process.url
        assert client("logs", url, "right").describe_log_groups()["logGroups"] == []
        assert client("cloudwatch", url, "right").list_metrics()["Metrics"] == []
        for service, operation in (("logs", "describe_log_groups"), ("cloudwatch", "list_metrics")):
            with pytest.raises(ClientError) as caught:
                getattr(client(service, url, "wrong"), operation)()
            assert caught.value.response["Error"]["Code"] == "InvalidSignatureException"
        with urllib.request.urlopen(f"{url}/metrics") as answer:
            assert answer.status == 200
