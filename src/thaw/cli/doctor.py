"""`thaw doctor`: what this machine permits, what is missing, and what that costs; one sentence each."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import typer

from thaw.cli.screen import wide_console
from thaw.cli.uniqueness.command import uniqueness

OLDEST_KERNEL = (5, 15)
TOOLS = ("gcc", "make")
Verdict = Literal["ok", "less", "missing"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. "less" means that Thaw runs without it, "missing" that it does not."""

    subject: str
    verdict: Verdict
    sentence: str


application = typer.Typer(name="doctor")
application.command("uniqueness")(uniqueness)


@application.callback(invoke_without_command=True)
def doctor(context: typer.Context) -> None:
    """Say what this machine permits; the exit status is 1 where functions cannot run here."""
    if context.invoked_subcommand is None:
        _doctor()


def _doctor() -> None:
    from rich.markup import escape
    from rich.table import Table

    found = list(examine())
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    marks = {"ok": "[green]ok[/]", "less": "[yellow]less[/]", "missing": "[red]missing[/]"}
    for finding in found:
        table.add_row(marks[finding.verdict], finding.subject, escape(finding.sentence))
    wide_console().print(table)
    if any(finding.verdict == "missing" for finding in found):
        raise typer.Exit(1)


def examine() -> Iterator[Finding]:
    """Looks at everything that Thaw needs; root's parts are really tried out, and undone."""
    checks: list[Callable[[], Finding]] = [system, root, native, interpreters]
    for check in checks:
        yield check()
    if os.geteuid() == 0:
        yield groups()
        yield namespaces()
        yield user_namespaces()
        yield network()
        yield clocks()
    else:
        yield user_namespace()
        yield from WITHOUT_ROOT
    yield tools()


def system() -> Finding:
    """Kernel, processor, Python of the server."""
    release = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
    told = f"Linux {platform.release()} on {platform.machine()}, Python {platform.python_version()}"
    if sys.platform != "linux" or release < OLDEST_KERNEL or platform.machine() != "x86_64":
        return Finding("system", "missing", f"{told}: Thaw needs Linux 5.15 or later on x86_64.")
    return Finding("system", "ok", f"{told}.")


def root() -> Finding:
    """Whether sandboxes can be made at all."""
    if os.geteuid() == 0:
        return Finding("root", "ok", "This is root, so everything is on.")
    return Finding(
        "root", "less", "This is an ordinary user: functions run in a user namespace, with what follows less."
    )


def native() -> Finding:
    """The compiled part."""
    from thaw.errors import ConfigurationError
    from thaw.native import binary

    try:
        return Finding("native part", "ok", f"{binary()} is there.")
    except ConfigurationError as error:
        return Finding("native part", "missing", str(error))


def interpreters() -> Finding:
    """Which runtimes functions can have."""
    from thaw.runtimes import Runtimes

    names = asyncio.run(Runtimes(Path("/nonexistent")).names())
    if not names:
        return Finding("runtimes", "missing", "No Python 3.9 or later for functions was found: install one.")
    return Finding("runtimes", "ok", f"Functions can use {', '.join(names)}.")


def groups() -> Finding:
    """Control groups."""
    from thaw.environment.cgroup import GroupTree
    from thaw.errors import SandboxError

    try:
        tree = GroupTree(f"doctor-{uuid.uuid4().hex[:8]}")
    except SandboxError as error:
        return Finding("control groups", "missing", str(error))
    version = "version 2" if tree.layout.limits2 else "version 1"
    tree.close()
    return Finding("control groups", "ok", f"Memory, processor and process limits work ({version}).")


def namespaces() -> Finding:
    """Namespaces and detached mounts."""
    from thaw.environment.file_tree import build_file_tree
    from thaw.errors import SandboxError

    try:
        os.close(build_file_tree())
    except SandboxError as error:
        return Finding("namespaces", "missing", str(error))
    return Finding("namespaces", "ok", "Functions get a file tree and namespaces of their own.")


def user_namespaces() -> Finding:
    """User namespaces of sandboxes; one is made."""
    from thaw.environment.file_tree import build_file_tree
    from thaw.environment.trial import try_out, without_users
    from thaw.environment.users import Users
    from thaw.errors import ConfigurationError, SandboxError
    from thaw.native import binary

    with ExitStack() as stack:
        try:
            users = Users()
            stack.callback(users.close)
            file_tree = build_file_tree(users)
            stack.callback(os.close, file_tree)
            asyncio.run(try_out(binary(), file_tree, users))
        except SandboxError as error:
            return Finding("user namespaces", "less", without_users(error))
        except ConfigurationError as error:
            return Finding("user namespaces", "missing", str(error))
    return Finding("user namespaces", "ok", "Each environment is a user of its own, and nothing in it is root here.")


# What an ordinary user cannot have, and what that costs.
WITHOUT_ROOT = (
    Finding(
        "control groups",
        "less",
        "Without root functions have no limits of memory and processor time, and are not stopped between calls.",
    ),
    Finding("network", "less", "Without root functions have their loopback only."),
    Finding(
        "snapshots",
        "less",
        "Without root versions have no snapshots: each of their environments starts afresh and takes its Init's time.",
    ),
)


def user_namespace() -> Finding:
    """Whether an ordinary user's functions can run here; tried out in a process of its own, which then ends."""
    from thaw.environment.file_tree import build_file_tree
    from thaw.environment.rootless import enter
    from thaw.errors import ThawError

    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = ""
        try:
            enter()
            build_file_tree()
        except ThawError as error:
            said = str(error)
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    if said:
        return Finding("namespaces", "missing", said)
    return Finding("namespaces", "ok", "Functions get a file tree and namespaces of their own, in a user namespace.")


def clocks() -> Finding:
    """Time namespaces, for snapshots of other machines."""
    if Path("/proc/self/ns/time").exists():
        return Finding("clocks", "ok", "Snapshots from machines that were up for longer keep their clocks.")
    return Finding(
        "clocks",
        "less",
        "This kernel has no time namespaces, so snapshots of machines that were up for longer are refused here.",
    )


def network() -> Finding:
    """Links, bridge, and the way out of the machine."""
    from thaw.environment.network import Network
    from thaw.errors import SandboxError

    try:
        built = Network()
    except SandboxError as error:
        return Finding("network", "less", f"{error} Functions will have their loopback only.")
    built.close()
    if built.warnings:
        return Finding("network", "less", " ".join(built.warnings))
    return Finding("network", "ok", "Functions reach this machine and, through nftables, the outside.")


def tools() -> Finding:
    """What building from a checkout takes."""
    absent = [name for name in TOOLS if shutil.which(name) is None]
    if absent:
        return Finding("tools", "less", f"Without {' and '.join(absent)} the native part cannot be compiled again.")
    return Finding("tools", "ok", "gcc and make are there to compile the native part.")
