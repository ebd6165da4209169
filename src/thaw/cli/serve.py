"""`thaw serve`: the server, until SIGTERM or Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    state_dir: Annotated[
        Path | None, typer.Option(help="Folder that holds everything that must survive", show_default="/var/lib/thaw")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on, 0: any free one", show_default="3001")] = None,
    region: Annotated[str | None, typer.Option(help="Region in ARNs", show_default="us-east-1")] = None,
    account_id: Annotated[str | None, typer.Option(help="Account in ARNs", show_default="000000000000")] = None,
    pool_size: Annotated[int | None, typer.Option(help="Empty sandboxes kept ready", show_default="8")] = None,
    max_environments: Annotated[
        int | None, typer.Option(help="Most environments at one time", show_default="1000")
    ] = None,
    idle_timeout_s: Annotated[
        float | None,
        typer.Option(help="Seconds until an idle environment ends; 0: a fresh one for every call", show_default="300"),
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error", show_default="info")] = None,
) -> None:
    """Serve the Lambda API. Every setting is also an environment variable: THAW_STATE_DIR and so on."""
    import logging
    import os

    from thaw.config import read_settings, unknown_variables

    settings = read_settings(
        state_dir=state_dir,
        host=host,
        port=port,
        region=region,
        account_id=account_id,
        pool_size=pool_size,
        max_environments=max_environments,
        idle_timeout_s=idle_timeout_s,
        log_level=log_level,
    )
    if os.geteuid() != 0:
        from thaw.environment.rootless import enter

        enter()  # while there is one thread

    import uvloop

    from thaw.server import run

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("thaw").setLevel(settings.log_level.upper())
    for sentence in unknown_variables():
        logging.getLogger("thaw").warning(sentence)
    uvloop.run(run(settings))
