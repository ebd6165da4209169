"""A small Runtime API, and the real bootstrap and client run against it without a sandbox."""

import json
import os
import queue
import subprocess
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class RuntimeApi:
    """What the runtime asked of us, in order, and what it will be answered."""

    address: str = ""
    asked: list[str] = field(default_factory=list)
    posted: "queue.Queue[tuple[str, str | None, Any]]" = field(default_factory=queue.Queue)
    events: "queue.Queue[Any | None]" = field(default_factory=queue.Queue)
    reports: list[bytes] = field(default_factory=list)
    in_restore_next: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)

    def next_posted(self) -> tuple[str, str | None, Any]:
        return self.posted.get(timeout=30)


def serve(api: RuntimeApi) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            api.asked.append(self.path.rsplit("runtime/")[-1])
            if self.path.endswith("restore/next"):
                api.in_restore_next.set()
                api.release.wait(30)
                return self.answer(200, b"")
            event = api.events.get()
            if event is None:
                self.close_connection = True
                return None
            return self.answer(200, json.dumps(event).encode(), {
                "Content-Type": "application/json",  # without it the real client dies of a null pointer
                "Lambda-Runtime-Aws-Request-Id": "request-1",
                "Lambda-Runtime-Deadline-Ms": "9999999999999",
                "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:000000000000:function:f",
            })  # fmt: skip

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/thaw/v1/report":
                api.reports.append(body)
                self.answer(202, b'{"status":"OK"}')
                return
            path = self.path.rsplit("runtime/")[-1]
            api.asked.append(path)
            api.posted.put((path, self.headers.get("Lambda-Runtime-Function-Error-Type"), json.loads(body)))
            self.answer(202, b'{"status":"OK"}')

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api.address = f"127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@dataclass(frozen=True)
class Installed:
    executable: Path
    client: Path
    name: str


class Start:
    """Runs the bootstrap as a sandbox would, with other folders."""

    def __init__(self, installed: Installed, api: RuntimeApi, task: Path) -> None:
        self.installed, self.api, self.task = installed, api, task
        self.processes: list[subprocess.Popen[str]] = []
        task.mkdir()

    def __call__(
        self, code: str = "", *, kind: str = "snap-start", handler: str = "function.handler", **variables: str
    ) -> "subprocess.Popen[str]":
        if code:
            (self.task / "function.py").write_text(code)
        process = subprocess.Popen(
            [self.installed.executable, "-S", self.installed.client / "bootstrap.py"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.task,
            env={
                "PATH": os.environ["PATH"], "PYTHONPATH": str(self.installed.client), "_HANDLER": handler,
                "LAMBDA_TASK_ROOT": str(self.task), "LAMBDA_RUNTIME_DIR": str(self.installed.client),
                "AWS_LAMBDA_RUNTIME_API": self.api.address, "AWS_LAMBDA_INITIALIZATION_TYPE": kind,
                "AWS_EXECUTION_ENV": f"AWS_Lambda_{self.installed.name}", **variables,
            },
        )  # fmt: skip
        self.processes.append(process)
        return process


def call(api: RuntimeApi, event: dict[str, Any] | None = None) -> Any:
    """One invocation with `event`; gives what the handler returned."""
    api.events.put(event or {"name": "Vega"})
    path, error_type, body = api.next_posted()
    assert (path, error_type) == ("invocation/request-1/response", None), body
    return body
