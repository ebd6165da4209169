"""The function that `thaw doctor uniqueness` publishes for process trees: what a child process draws in each clone.

The child is a pool's worker, which has drawn from everything before the snapshot. Runs in the function's interpreter,
which may be as old as Python 3.9.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import secrets
import ssl
import uuid
from collections.abc import Callable
from typing import Any

try:
    import numpy
except ImportError:
    numpy = None

own_generator = random.Random()
# Named as in `thaw.cli.uniqueness.sources`.
SOURCES: dict[str, Callable[[], Any]] = {
    "os.urandom in a child process": lambda: os.urandom(16).hex(),
    "secrets.token_hex in a child process": lambda: secrets.token_hex(16),
    "uuid.uuid4 in a child process": lambda: str(uuid.uuid4()),
    "uuid.uuid1 in a child process": lambda: str(uuid.uuid1()),
    "ssl.RAND_bytes in a child process": lambda: ssl.RAND_bytes(16).hex(),
    "random.random in a child process": lambda: random.random(),
    "random.Random() of a child process": lambda: own_generator.random(),
}
if numpy is not None:
    SOURCES["numpy.random.rand in a child process"] = lambda: float(numpy.random.rand())


def draw() -> dict[str, Any]:
    """{source: value}, one of each."""
    return {name: source() for name, source in SOURCES.items()}


# Tasks of this module could not be unpickled while it is being imported.
pool = multiprocessing.get_context("fork").Pool(1, initializer=draw)
pool.apply(os.getpid)


def handler(event: object, context: object) -> dict[str, Any]:
    """What the worker draws."""
    drawn: dict[str, Any] = pool.apply(draw)
    return drawn
