"""`thaw demo`: one real function, without and with SnapStart, and what the difference is on this machine."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thaw.cli.example import CHECKOUT
from thaw.cli.screen import Progress, progress, wide_console
from thaw.cli.stopping import stoppable

if TYPE_CHECKING:
    from rich.console import Console

    from thaw.cli.example import Example
    from thaw.cli.measuring import CloneMemory, Sample, SnapshotSize

FUNCTION = "my-function"
CLONES = 8


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that the demonstration measured; `publish_s` is of the SnapStart version, Init included."""

    cold: list[Sample]
    restored: list[Sample]
    publish_s: float
    snapshot: SnapshotSize
    clones: list[CloneMemory]


def demo(
    calls: Annotated[int, typer.Option(help="Fresh environments per version", min=2)] = 30,
) -> None:
    """Publish a function without and with SnapStart, call both on fresh environments, and show the difference."""
    from thaw.cli.example import build_example

    console = wide_console()
    with stoppable(), _temporary_state() as state_dir, progress(console) as step:
        example = build_example(step)
        outcome = _measure(example, state_dir, calls, step)
    _show(console, example, outcome)


@contextmanager
def _temporary_state() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="thaw-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _measure(example: Example, state_dir: Path, calls: int, step: Progress) -> Outcome:
    from thaw.cli.measuring import boto_caller, in_turn, memory_of_clones, size_of_snapshot, wait_active
    from thaw.cli.process import lambda_client, serving

    step("starting a server on a free port of the loopback address")
    with serving(state_dir, idle_timeout_s=0) as server:
        client = lambda_client(server.url)
        step(f"creating the function with boto3 ({len(example.package) / 2**20:.1f} MiB, {example.runtime})")
        create(client, example)
        wait_active(client, FUNCTION)
        publish_s = _publish_both(client, step)
        step(f"calling versions 1 and 2 in turn, {calls} times each, in fresh environments")
        caller = boto_caller(client, FUNCTION, example.payload)
        samples = in_turn(caller, ["1", "2"], calls, step.counter(2 * calls))
    step(f"starting the server again, and looking into {CLONES} idle clones")
    clones = memory_of_clones(state_dir, FUNCTION, "2", CLONES, example.payload)
    size = size_of_snapshot(state_dir, FUNCTION, "2")
    return Outcome(samples["1"], samples["2"], publish_s, size, clones)


def create(client: Any, example: Example) -> None:
    """Creates the example function through a boto3 client."""
    client.create_function(
        FunctionName=FUNCTION, Runtime=example.runtime, Handler=example.handler, MemorySize=1769, Timeout=60,
        Role="arn:aws:iam::000000000000:role/demo", Code={"ZipFile": example.package},
    )  # fmt: skip


def _publish_both(client: Any, step: Callable[[str], None]) -> float:
    from thaw.cli.measuring import publish, wait_active

    step("publishing version 1, without SnapStart")
    publish(client, FUNCTION)
    client.update_function_configuration(FunctionName=FUNCTION, SnapStart={"ApplyOn": "PublishedVersions"})
    wait_active(client, FUNCTION)
    step("publishing version 2, with SnapStart: Init runs once, then is frozen")
    return publish(client, FUNCTION)[1]


def _show(console: Console, example: Example, outcome: Outcome) -> None:
    from rich.table import Table

    table = Table()
    for heading in ("ms", "p50", "p99", "max"):
        table.add_column(heading, justify="left" if heading == "ms" else "right")
    rows = _rows(outcome)
    for name, values in rows.items():
        table.add_row(name, *(f"{value:,.1f}" for value in _three(values)))
    cold, restored = rows["first response, version 1 (cold start)"], rows["first response, version 2 (restored)"]
    table.add_section()
    ratios = [before / after for before, after in zip(_three(cold), _three(restored), strict=True)]
    table.add_row("[bold]faster by[/]", *(f"[bold]{ratio:,.0f}×[/]" for ratio in ratios))
    console.print(f"\n{example.title},\n{len(outcome.cold)} fresh environments of each version:\n")
    console.print(table)
    _show_sizes(console, outcome)
    _show_next(console, example)


def _rows(outcome: Outcome) -> dict[str, list[float]]:
    """Durations by name; those of Init and Restore are Lambda's own log lines, the others the caller's clock."""
    from thaw.cli.measuring import reported

    return {
        "Init, version 1": reported(outcome.cold, "Init Duration"),
        "Restore, version 2": reported(outcome.restored, "Restore Duration"),
        "first response, version 1 (cold start)": [sample.caller_ms for sample in outcome.cold],
        "first response, version 2 (restored)": [sample.caller_ms for sample in outcome.restored],
    }


def _three(values: list[float]) -> tuple[float, float, float]:
    from thaw.cli.figures import quantile

    return quantile(values, 0.5), quantile(values, 0.99), max(values)


def _show_sizes(console: Console, outcome: Outcome) -> None:
    from thaw.cli.figures import quantile

    mib = 2**20
    size = outcome.snapshot
    private = quantile([clone.private_dirty_mib for clone in outcome.clones], 0.5)
    console.print(
        f"\nPublishing the snapshot took {outcome.publish_s:.2f} s, Init included.\n"
        f"The snapshot: {size.memory / mib:.1f} MiB of memory, {size.plan / 1024:.0f} KiB of restore plan, "
        f"{size.disk / 1024:.0f} KiB of /tmp;\n"
        f"{size.stored / mib:.1f} MiB stored, sealed with AES-256-GCM.\n"
        f"An idle clone that answered two calls has {private:.1f} MiB of its own (median of {len(outcome.clones)});\n"
        "the rest is shared by all clones."
    )


def _show_next(console: Console, example: Example) -> None:
    console.print(f"\nGo on by yourself{_where()}:\n\n{next_lines(example)}", soft_wrap=True, markup=False)


def _where() -> str:
    return f" (in {CHECKOUT})" if Path.cwd() != CHECKOUT else ""


def next_lines(example: Example) -> str:
    """Commands for a shell in the checkout, none longer than a terminal is wide."""
    activate = "  . .venv/bin/activate\n" if Path(sys.prefix) == CHECKOUT / ".venv" else ""
    return (
        f"{activate}"
        "  thaw serve &\n"
        "  export AWS_ENDPOINT_URL=http://127.0.0.1:3001 AWS_DEFAULT_REGION=us-east-1\n"
        "  export AWS_ACCESS_KEY_ID=thaw AWS_SECRET_ACCESS_KEY=thaw\n"
        f"  aws lambda create-function --function-name {FUNCTION} \\\n"
        f"      --runtime {example.runtime} --handler {example.handler} \\\n"
        "      --role arn:aws:iam::000000000000:role/any --memory-size 1769 \\\n"
        f"      --zip-file fileb://{example.file.relative_to(CHECKOUT)}\n"
        f"  aws lambda wait function-active-v2 --function-name {FUNCTION}\n"
        f"  aws lambda update-function-configuration --function-name {FUNCTION} \\\n"
        "      --snap-start ApplyOn=PublishedVersions\n"
        f"  aws lambda wait function-updated-v2 --function-name {FUNCTION}\n"
        f"  aws lambda publish-version --function-name {FUNCTION}\n"
        f"  aws lambda wait published-version-active --function-name {FUNCTION} \\\n"
        "      --qualifier 1\n"
        f"  aws lambda invoke --function-name {FUNCTION} --qualifier 1 answer.json\n"
        "  cat answer.json\n"
        f"  thaw logs {FUNCTION}\n"
    )
