"""Where commands print for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

# Into a file or a pipe rich would assume 80 columns, too few for the tables.
COLUMNS = 120


def wide_console() -> Console:
    """The terminal as it is; a file or a pipe gets lines of up to 120 characters."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=COLUMNS)
