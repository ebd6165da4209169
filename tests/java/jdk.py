"""JDKs, compiled programs and Maven projects for tests; what this machine lacks is skipped by name."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import fetched
from packing import Entries
from serving import SHARED_RUNTIMES, Reply, Served
from thaw.errors import RuntimeNotFound
from thaw.runtimes.java_client import client_folder
from thaw.runtimes.java_homes import SERVED, JavaHome, default_homes, discover

CHECKOUT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).with_name("programs")
BUILT = CHECKOUT / "build" / "java"
SEEDS = CHECKOUT / "examples" / "seeds" / "java"
SPRING = CHECKOUT / "examples" / "spring-boot"
QUARKUS = CHECKOUT / "examples" / "quarkus"
_MAVEN_LIMIT_S = 600
_NOT_FETCHED = ("Could not transfer artifact", "Could not find artifact")


@cache
def homes() -> dict[str, JavaHome]:
    """The newest installation of each version, by runtime name."""
    return {home.name: home for home in reversed(discover([*fetched.folders(), *default_homes()]))}


def java(name: str) -> JavaHome:
    """The installation that serves `name`; the test is skipped where there is none."""
    if name not in homes():
        pytest.skip(f"no {name} on this machine: install a JDK of that version, or let {fetched.HOW}")
    return homes()[name]


@cache
def oldest() -> str:
    """The oldest runtime that runs what Maven builds here, which is compiled for Java 17."""
    served = [name for name in homes() if homes()[name].major >= 17]
    if not served:
        pytest.skip("no Java 17 or later on this machine: install openjdk-17-jdk-headless")
    return min(served, key=lambda name: homes()[name].major)


@cache
def client() -> Path:
    """The folder of the runtime's client; skipped where no Maven repository is to be had."""
    try:
        return asyncio.run(client_folder(SHARED_RUNTIMES, Path(compiler()), progress=print))
    except RuntimeNotFound as error:
        if "fetched" in str(error):
            pytest.skip(str(error))
        raise


def compiler() -> str:
    """The newest javac, as the product takes it."""
    newest_first = sorted(homes().values(), key=lambda home: home.major, reverse=True)
    found = next((str(home.folder / "bin" / "javac") for home in newest_first if _has_compiler(home)), None)
    if found is None:
        pytest.skip("no javac on this machine: install openjdk-17-jdk-headless")
    return found


def _has_compiler(home: JavaHome) -> bool:
    return (home.folder / "bin" / "javac").is_file()


@cache
def program(name: str) -> Entries:
    """The deployment package of programs/<name>.java, for every Java that is served, with org.crac in lib/."""
    crac = library("crac")
    folder = BUILT / f"program-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    classes = f"{client()}/*{os.pathsep}{crac}"
    source = str(PROGRAMS / f"{name}.java")
    command = [compiler(), "--release", str(SERVED[-1]), "-d", str(folder), "-cp", classes, source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return entries(folder) | {f"lib/{crac.name}": crac.read_bytes()}


def library(artifact: str) -> Path:
    """The jar of one of the seeds' dependencies."""
    return next((maven_project(SEEDS) / "lib").glob(f"{artifact}-[0-9]*.jar"))


def printed(server: Served, function: str, start: str = "") -> list[list[str]]:
    """What each environment of a function printed, in order: the lines that begin with `start`."""
    folder = server.state_dir / "logs" / "aws" / "lambda" / function
    files = [file.read_text(errors="replace") for file in sorted(folder.rglob("*.log"))]
    lines = [[line.partition(" ")[2] for line in text.splitlines()] for text in files]
    return [[line for line in each if line.startswith(start)] for each in lines]


def entries(folder: Path) -> Entries:
    """Everything below a folder, as entries of a deployment package."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def maven_project(source: Path, phase: str = "prepare-package") -> Path:
    """target/classes of a project, built up to a phase once per checkout and state of its sources."""
    digest = hashlib.sha256()
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        digest.update(str(file.relative_to(source)).encode() + b"\0" + file.read_bytes())
    folder = BUILT / f"{source.name}-{digest.hexdigest()[:16]}"
    if not (folder / "done").is_file():
        _build(source, folder, phase)
    return folder / "target" / "classes"


def deploy(server: Served, template: Path, parameters: Mapping[str, str]) -> None:
    """Brings `server` to what a template says, as `thaw deploy` does for people."""
    command = [sys.executable, "-m", "thaw.cli", "deploy", str(template), "--endpoint-url", server.process.url]
    for name, value in parameters.items():
        command += ["--parameter-overrides", f"{name}='{value}'" if " " in value else f"{name}={value}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def ask(server: Served, function: str, event: Mapping[str, Any]) -> tuple[Reply, int, Any]:
    """A REST function's reply to an event of API Gateway, its status and its document."""
    reply = server.call(function, event, "live")
    assert reply.error is None, reply.payload
    text = reply.payload.get("body")
    return reply, reply.payload["statusCode"], json.loads(text) if text else None


def _build(source: Path, folder: Path, phase: str) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        pytest.skip("no Maven on this machine: install the package maven")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    command = [maven, "-B", "-ntp", "-q", "-f", str(folder / "pom.xml"), "-DskipTests", phase]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_MAVEN_LIMIT_S)
    said = done.stdout + done.stderr
    missing = next((line for line in said.splitlines() if any(words in line for words in _NOT_FETCHED)), None)
    if done.returncode != 0 and missing is not None:
        pytest.skip(f"what {source.name} is built of is not to be had from Maven Central on this machine: {missing}")
    assert done.returncode == 0, said
    (folder / "done").touch()
