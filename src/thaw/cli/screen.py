"""Where commands print for people: lines that fit a terminal of 80 columns, and progress while something runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

# Into a file or a pipe rich would assume 80 columns, too few for the tables of figures.
COLUMNS = 120


def wide_console() -> Console:
    """The terminal as it is; a file or a pipe gets lines of up to 120 characters."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=COLUMNS)


class Progress:
    """A spinner with what is being done, and how far it is; each step stays as a line."""

    def __init__(self, console: Console, status: Status) -> None:
        self._console = console
        self._status = status

    def __call__(self, text: str) -> None:
        """Begins a step."""
        from rich.markup import escape

        self._console.print(f"[green]•[/] {escape(text)}")
        self._status.update(escape(text))

    def counter(self, total: int) -> Callable[[], None]:
        """To be called after each of the `total` calls of a step."""
        numbers = iter(range(1, total + 1))
        return lambda: self._status.update(f"call {next(numbers)} of {total}")


@contextmanager
def progress(console: Console) -> Iterator[Progress]:
    """Shows what is being done until the block ends."""
    with console.status("starting") as status:
        yield Progress(console, status)
