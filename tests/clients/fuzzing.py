"""Requests made from the service models, half sense and half nonsense, from a fixed seed."""

import base64
import json
import random
from urllib.parse import quote

from clients.front import creation, package
from thaw.api.protocol.model import lambda_model

MODEL = lambda_model()

NONSENSE = (
    None,
    "",
    "x",
    "a" * 300,
    "ü\u0000\ud7ff",
    "\ud800",
    "$LATEST",
    "../..",
    "1",
    "0",
    -1,
    0,
    1,
    2**31,
    2**70,
    -(2**70),
    0.5,
    1e308,
    True,
    False,
    [],
    [None],
    {},
    {"": None},
    [[[]]],
)


class Fuzzer:
    """Makes requests for random operations out of the model, from a fixed seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def value(self, name, depth=0):
        """A value for a shape: mostly of its type, sometimes nonsense."""
        if self.random.random() < 0.1:
            return self.random.choice(NONSENSE)
        shape = MODEL.shapes[name]
        make = getattr(self, "make_" + shape["type"], None)
        return make(name, shape, depth) if make else self.number(shape)

    def number(self, shape):
        if shape["type"] == "boolean":
            return self.random.random() < 0.5
        low, high = shape.get("min", 0), shape.get("max", 1000)
        return self.random.choice([low, high, low - 1, high + 1, (low + high) // 2 if high > 1 else 0.5])

    def make_string(self, name, shape, _):
        if "enum" in shape:
            return self.random.choice(shape["enum"])
        known = {"FunctionName": "f", "Alias": "live", "Version": "1", "RoleArn": "arn:aws:iam::123456789012:role/r"}
        if name in known or "FunctionName" in name:
            return known.get(name, "f")
        return self.random.choice(["f", "live", "1", "python3.13", "a.b", "x" * shape.get("max", 9), ""])

    def make_blob(self, *_):
        data = self.random.choice([package(), b"", b"zip", self.random.randbytes(50)])
        return base64.b64encode(data).decode()

    def make_structure(self, _, shape, depth):
        members = {}
        for member, reference in shape["members"].items():
            if member in shape.get("required", ()) or self.random.random() < 0.3:
                members[member] = self.value(reference["shape"], depth + 1)
        return members

    def make_list(self, _, shape, depth):
        return [self.value(shape["member"]["shape"], depth + 1) for _ in range(self.random.randrange(3))]

    def make_map(self, _, shape, depth):
        keys = (self.value(shape["key"]["shape"]) for _ in range(self.random.randrange(3)))
        return {str(key): self.value(shape["value"]["shape"], depth + 1) for key in keys}

    def request(self, operation):
        """Method, path, query, headers and body of a request."""
        description = MODEL.operations[operation]
        path, _, demanded = description["http"]["requestUri"].partition("?")
        query = dict(pair.split("=") for pair in demanded.split("&") if pair)
        headers, body = {}, {}
        shape = MODEL.shapes[description["input"]["shape"]]
        for member, reference in shape["members"].items():
            place, name = reference.get("location"), reference.get("locationName", member)
            if place != "uri" and member not in shape.get("required", ()) and self.random.random() < 0.6:
                continue
            value = self.value(reference["shape"])
            text = value if isinstance(value, str) else json.dumps(value)
            if place == "uri":
                path = path.replace("{" + name + "}", quote(text.encode("utf-8", "replace"), safe=""))
            elif place == "querystring":
                query[name] = text.encode("utf-8", "replace")
            elif place == "header":
                headers[name.lower()] = text.encode("latin-1", "replace").decode("latin-1")
            else:
                body[member] = value
        if operation == "CreateFunction" and self.random.random() < 0.5:
            body = creation(Publish=True) | dict(self.random.sample(sorted(body.items()), min(1, len(body))))
        return description["http"]["method"], path, query, headers, self.encoded(body)

    def encoded(self, body):
        data = json.dumps(body).encode()
        damage = self.random.random()
        if damage < 0.05:
            return data[: self.random.randrange(len(data))]
        if damage < 0.1:
            return self.random.randbytes(40)
        return data


TARGETS = {"logs": "Logs_20140328", "cloudwatch": "GraniteServiceVersion20100801"}


class TelemetryFuzzer(Fuzzer):
    """Requests to CloudWatch Logs and CloudWatch, in the protocol JSON, out of botocore's models of them."""

    def document(self, shape, depth=0):
        """A value for a botocore shape: mostly of its type, sometimes nonsense."""
        if self.random.random() < 0.1:
            return self.random.choice(NONSENSE)
        if shape.type_name == "structure":
            wanted = (one for one in shape.members if one in shape.required_members or self.random.random() < 0.3)
            return {name: self.document(shape.members[name], depth + 1) for name in wanted} if depth < 6 else {}
        if shape.type_name == "list":
            return [self.document(shape.member, depth + 1) for _ in range(self.random.randrange(3))]
        if shape.type_name == "map":
            return {"k": self.document(shape.value, depth + 1)}
        if shape.type_name == "string":
            return self.random.choice([*shape.enum, "/aws/lambda/f", "AWS/Lambda", "FunctionName", "f", "p99.9", ""])
        if shape.type_name == "timestamp":
            return self.random.choice([0, 1.7e9, 2e12, -1])
        return self.random.choice([0, 1, 60, -1, 2**40, True, 0.5])

    def request(self, service, operation, shape):
        """Method, path, query, headers and body."""
        headers = {"x-amz-target": f"{TARGETS[service]}.{operation}"}
        headers["content-type"] = "application/x-amz-json-1.1"
        return "POST", "/", {}, headers, self.encoded(self.document(shape))
