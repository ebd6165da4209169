"""Random generators are found in the memory of a process: where the interpreter itself says that they are, and no
others."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from thaw.runtimes.interpreters import discover
from thaw.snapshot.process import Mapping, read_mappings
from thaw.snapshot.randomness import Generator, openssl_generators, python_generators, unknown_generators

# With generators that nobody else may touch: many of one type, one with many references, one of a type with that name.
DRAWS = """
import json, random, ssl, sys
mine = [random.Random(3) for _ in range(50)]
shared = random.Random(5)
held = [shared] * 40
class Random(random.Random):
    pass
named = Random(7)
bound = [named.random, named.choice]
ssl.RAND_bytes(8)
random.random()
print(json.dumps(id(random._inst) + 20), flush=True)
sys.stdin.read()
"""
NOTHING = "import sys; print('[]', flush=True); sys.stdin.read()"


@contextmanager
def running(executable: str, code: str) -> Iterator[tuple[int, object]]:
    """A process of another Python: its number, and what it printed."""
    command = [executable, "-c", code]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        try:
            yield child.pid, json.loads(child.stdout.readline())
        finally:
            child.kill()


def found_in(pid: int, number: int) -> tuple[list[Generator], list[Generator]]:
    """Generators of Python and of OpenSSL."""
    mappings = read_mappings(pid)
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:

        def read(address: int, size: int) -> bytes:
            return os.pread(memory.fileno(), size, address)

        return python_generators(pid, mappings, read), openssl_generators(pid, mappings, read, number)


EXECUTABLES = {found.name: str(found.executable) for found in asyncio.run(discover())}


@pytest.mark.parametrize("runtime", EXECUTABLES)
def test_the_generators_of_every_python_are_found_where_they_are(runtime: str) -> None:
    with running(EXECUTABLES[runtime], DRAWS) as (pid, state):
        python, openssl = found_in(pid, pid)
        assert python == [Generator("Python's random", state, 2496)]  # type: ignore[arg-type]  # an address
        assert {each.size for each in openssl} == {4}
        assert len(openssl) >= 2, "what seeds, and what is drawn from"
        # Seeded under another number it seeds itself again.
        assert found_in(pid, pid + 1)[1] == []


def test_who_never_drew_has_nothing_to_renew() -> None:
    with running(sys.executable, NOTHING) as (pid, _):
        assert found_in(pid, pid) == ([], [])


def test_what_is_not_known_is_named() -> None:
    def mapping(path: str) -> Mapping:
        return Mapping(4096, 8192, "r--p", 0, "00:00", 1, path, frozenset())

    mapped = [mapping("/usr/lib/libcrypto.so.3"), mapping("/usr/lib/libcrypto.so.1.1"), mapping("/lib/libgnutls.so.30")]
    assert unknown_generators("/usr/bin/python3", mapped) == ["a generator of OpenSSL 1", "a generator of GnuTLS"]
    assert unknown_generators("/usr/bin/node", mapped[:1]) == ["the generator of Math.random"]
    assert unknown_generators("/usr/bin/python3", mapped[:1]) == []
