"""A function behind an API that tells how its environment began."""

import json
import os

BEGAN = os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]
calls = 0


def handler(event, context):
    """Greets; `calls` counts within one environment, `began` is "snap-start" in a clone of a snapshot."""
    global calls
    calls += 1
    name = (event.get("pathParameters") or {}).get("name", "nobody")
    said = {"hello": name, "began": BEGAN, "calls": calls, "version": context.function_version}
    return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": json.dumps(said)}
