"""The command line, one module per command; a command imports what it needs when it runs, so that help is quick."""

from __future__ import annotations


def main() -> None:
    """Entry point of `thaw`."""
    from thaw.cli.application import run

    run()
