"""A function's stdout and stderr: read in bounded steps, cut into lines, bounded per invocation."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from thaw.observe.log_stream import LogStream

# One read; also what a pipe holds.
_STEP = 65536
# A longer line is cut into several events. CloudWatch's limit is 1 MiB.
_LINE_LIMIT = 256 * 1024
# After the limit the pipe is still emptied, at most this often, so that a function that prints on is slowed down by
# its own full pipe and costs the server next to nothing.
_SLOW_S = 0.005


class LogPipe:
    """The server's end of the pipe.

    At most `limit` bytes per invocation go to the log; what is more is dropped, with one line that says so.
    """

    def __init__(self, log: LogStream, limit: int, wanted: Callable[[bytes], bool] | None = None) -> None:
        """Makes the pipe; `write_end` has to be closed by the caller once the function has it.

        `wanted` says which lines are kept (None: all).
        """
        self.log = log
        self._wanted = wanted
        self._limit = limit
        self._left = limit
        self._dropped = 0
        self._partial = bytearray()
        self._loop = asyncio.get_running_loop()
        self._resume: asyncio.TimerHandle | None = None
        self._read_end, self.write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._read_end, False)
        self._loop.add_reader(self._read_end, self._readable)

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode, by which the function's ends of the pipe can be recognised."""
        status = os.fstat(self._read_end)
        return status.st_dev, status.st_ino

    def close_write_end(self) -> None:
        """The function has its own copy."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def begin(self) -> None:
        """A new invocation: the full limit again."""
        self._left = self._limit

    def drain(self) -> None:
        """Take what is in the pipe now (not what is written meanwhile), and a last line without its end."""
        if self._read_end >= 0:
            self._read(2 * _STEP)
        self._flush()
        if self._dropped:
            self.log.platform(
                f"Thaw dropped {self._dropped} bytes of this invocation's log because it is limited to {self._limit} "
                "bytes; print less."
            )
            self._dropped = 0

    def close(self) -> None:
        """Drain and close both ends."""
        self.close_write_end()
        if self._read_end < 0:
            return
        self.drain()
        self._pause()
        os.close(self._read_end)
        self._read_end = -1

    def _readable(self) -> None:
        self._read(_STEP)
        if self._left <= 0 and self._read_end >= 0:
            self._pause()
            self._resume = self._loop.call_later(_SLOW_S, self._go_on)

    def _pause(self) -> None:
        self._loop.remove_reader(self._read_end)
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None

    def _go_on(self) -> None:
        self._resume = None
        self._loop.add_reader(self._read_end, self._readable)

    def _read(self, limit: int) -> None:
        """At most `limit` bytes."""
        while limit > 0:
            try:
                data = os.read(self._read_end, min(limit, _STEP))
            except BlockingIOError:
                return
            if not data:  # every writer is gone
                self._pause()
                return
            limit -= len(data)
            self._take(data)
            if len(data) < _STEP:
                return

    def _take(self, data: bytes) -> None:
        kept = data[: max(0, self._left)]
        self._left -= len(kept)
        self._dropped += len(data) - len(kept)
        if not kept:
            return
        self._partial += kept
        *lines, rest = bytes(self._partial).split(b"\n")
        if len(rest) > _LINE_LIMIT:
            lines.append(rest)
            rest = b""
        self._partial = bytearray(rest)
        self._append(lines)

    def _flush(self) -> None:
        if self._partial:
            self._append([bytes(self._partial)])
            self._partial.clear()

    def _append(self, lines: list[bytes]) -> None:
        self.log.append(lines if self._wanted is None else [line for line in lines if self._wanted(line)])
