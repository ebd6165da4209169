"""A template's API on a port of this machine, and its code taken over when it changes."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import uvicorn

from thaw.cli.local.gateway import Find, Gateway
from thaw.cli.local.routes import Route, routes_of
from thaw.cli.local.workspace import Options, Workspace, load_template, local_place, temporary_server
from thaw.deploy.code import left_out
from thaw.deploy.template import Template
from thaw.errors import ThawError

LOG_PERIOD_S = 0.2
# What an editor does when it saves comes in several steps; they are one change.
DEBOUNCE_MS = 200
Tell = Callable[[str], None]


def serve_api(options: Options, host: str, port: int, *, watch: bool, tell: Tell) -> None:
    """Serves until SIGINT or SIGTERM.

    Raises TemplateError before anything is started, ConfigurationError where the port is taken, DeployFailed where a
    function cannot be run.
    """
    template = load_template(options)

    def step(text: str) -> None:
        tell(f"• {text}")

    with _listening(host, port) as listener, temporary_server(step) as (client, folder):
        workspace = Workspace(client, options, step)
        asyncio.run(_serve(_Served(options, template, workspace, client, folder, tell), listener, watch=watch))


class _Served:
    """Everything that one `start-api` holds together."""

    def __init__(
        self, options: Options, template: Template, workspace: Workspace, client: Any, folder: Path, tell: Tell
    ) -> None:
        self.options = options
        self.template = template
        self.workspace = workspace
        self.client = client
        self.folder = folder
        self.tell = tell

    def first(self) -> tuple[Sequence[Route], Find]:
        """Brings the functions onto the server."""
        return self._take(self.template)

    def again(self) -> tuple[Sequence[Route], Find]:
        """The same after a change of a file."""
        return self._take(load_template(self.options))

    def _take(self, template: Template) -> tuple[Sequence[Route], Find]:
        self.workspace.bring(template)
        routes = routes_of(template, self.workspace.attributes)
        self.template = template
        return routes, self.workspace.target


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[Any]:
    from thaw.server import listening

    with listening(host, port) as listener:
        yield listener


class _Front(uvicorn.Server):
    """uvicorn without its signal handlers: when to stop is decided here."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(served: _Served, listener: Any, *, watch: bool) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    gateway = Gateway(served.client, local_place().account_id, served.tell)
    front = _Front(
        uvicorn.Config(gateway, lifespan="off", log_config=None, access_log=False, server_header=False, ws="none")
    )
    # A publish takes what Init takes, and Ctrl-C does not wait for it.
    bringing = asyncio.create_task(gateway.bring(served.first))
    waiting = asyncio.create_task(stopped.wait())
    await asyncio.wait([bringing, waiting], return_when=asyncio.FIRST_COMPLETED)
    if not bringing.done():
        gateway.close()
        return
    await bringing
    tasks = [asyncio.create_task(front.serve(sockets=[listener])), asyncio.create_task(_tell_logs(served))]
    if watch:
        tasks.append(asyncio.create_task(_watch(served, gateway)))
    _tell_routes(served, listener, watch=watch)
    done, _ = await asyncio.wait([*tasks, waiting], return_when=asyncio.FIRST_COMPLETED)
    front.should_exit = True
    for task in tasks[1:]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    gateway.close()
    waiting.cancel()
    for task, result in zip(tasks, results, strict=True):
        if task in done and isinstance(result, BaseException):
            raise result


def _tell_routes(served: _Served, listener: Any, *, watch: bool) -> None:
    from thaw.cli.local.routes import DEFAULT

    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    served.tell("")
    shown = []
    for route in routes_of(served.template, served.workspace.attributes):
        target = None if route.function_arn is None else served.workspace.target(route.function_arn)
        path = "/… (all else)" if route.path == DEFAULT else route.path
        if target is not None or route.unsupported is not None:
            shown.append((route.method, f"{url}{path}", target.logical_id if target else str(route.unsupported)))
    width = max((len(address) for _, address, _ in shown), default=0)
    for method, address, leads in shown:
        served.tell(f"  {method:7} {address:{width}}  {leads}")
    served.tell("")
    changes = "Changes of code and template are taken over at once." if watch else "Changes of code are not watched."
    served.tell(f"Thaw serves {served.options.path} at {url}. {changes} Ctrl-C stops.")


async def _tell_logs(served: _Served) -> None:
    """What functions print, as it comes."""
    from thaw.cli.logs import LogReader

    reader = LogReader(served.folder / "logs")
    while True:
        for _, _, text in reader.new_events():
            served.tell(text)
        await asyncio.sleep(LOG_PERIOD_S)


async def _watch(served: _Served, gateway: Gateway) -> None:
    """Takes over each change; one that does not work is told, and the old code goes on."""
    async for names in _changes(served):
        served.tell(f"• changed: {', '.join(sorted(names))}")
        try:
            await gateway.bring(served.again)
        except ThawError as error:
            served.tell(f"thaw: {error} What was there before goes on.")


async def _changes(served: _Served) -> AsyncIterator[set[str]]:
    """Names of files of the template that changed, again and again; what is watched follows the template."""
    from watchfiles import awatch

    while True:
        watched = _watched(served)
        folders = {path if path.is_dir() else path.parent for path in watched}

        def of_the_template(_: object, name: str, watched: tuple[Path, ...] = watched) -> bool:
            path = Path(name)
            return not left_out(path) and any(path == one or one in path.parents for one in watched)

        async for changes in awatch(*folders, watch_filter=of_the_template, debounce=DEBOUNCE_MS, step=50):
            yield {Path(name).name for _, name in changes}
            if _watched(served) != watched:
                break


def _watched(served: _Served) -> tuple[Path, ...]:
    return tuple(sorted({served.options.path.resolve(), *(code.path for code in served.template.codes.values())}))
