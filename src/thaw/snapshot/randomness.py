"""Random generators in the memory of a process tree's processes, and how each clone gets streams of its own.

A restore is a fork as far as randomness is concerned, and libraries notice a fork by the process's number. In a tree
all numbers stay, so here the fork is made to be noticed: the clone's kernel writes random bytes over the number that a
generator of OpenSSL remembers (before its next draw it then takes entropy from the system), and over the whole state of
the generator behind Python's `random` functions and behind numpy's legacy ones. No code of the function is run for it.

The generators are found by what they look like in memory: no symbol leads to them, neither in a wheel that brings its
own OpenSSL nor in a child process that runs another Python.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from thaw.snapshot.plan import Program
from thaw.snapshot.process import PAGE, Mapping, present_pages

Read = Callable[[int, int], bytes]
"""Address, size; raises OSError where there is nothing."""

_PIECE: Final = 4 << 20  # bytes read at a time
_OVERLAP: Final = 64  # a name may lie across two pieces
_WORD: Final = struct.Struct("=Q")

# struct prov_drbg_st of OpenSSL 3 (providers/implementations/rands/drbg_local.h): `max_request` is 1 << 16, before it
# lie fork_id (32 bits), flags (16 bits, then padding), and strength (32 bits, then padding).
_MAX_REQUEST: Final = _WORD.pack(1 << 16)
_BEFORE_MAX_REQUEST = struct.Struct("=IHxxII")
_STRENGTHS: Final = (128, 192, 256)
_DRBG_FUNCTIONS: Final = 4  # instantiate, uninstantiate, reseed, generate lie one behind the other
_DRBG_HEAD: Final = 0x78  # bytes before fork_id

# Mersenne Twister: 624 words of 32 bits (Modules/_randommodule.c; numpy/random/src/mt19937).
_STATE_SIZE: Final = 624 * 4
# struct _typeobject: tp_name, tp_basicsize (Include/cpython/object.h), behind the head of a variable-size object.
_TYPE_NAME: Final = 24
_HEAD_SIZE: Final = 16
_TYPE_SIZES: Final = range(_STATE_SIZE, 4 * _STATE_SIZE)
_STATE_HOLDER_SIZES: Final = range(64, 4096)
# `random` and `numpy.random` bind each of their functions to their one generator: objects of a type `...method`, which
# hold it 24 bytes from their beginning (PyMethodObject, PyCFunctionObject).
_BOUND: Final = 10
_METHOD: Final = b"method"
_HOLDER: Final = 16
_PYTHON: Final = "Random"
_NUMPY_STATE: Final = "numpy.random.mtrand.RandomState"
_NUMPY_GENERATOR: Final = "numpy.random._mt19937.MT19937"
_NUMPY_FILES: Final = ("mtrand.", "_mt19937.")

_UNKNOWN: Final = {
    "libcrypto.so.1": "a generator of OpenSSL 1",
    "libgnutls.so": "a generator of GnuTLS",
    "libgcrypt.so": "a generator of Libgcrypt",
}
_UNKNOWN_PROGRAMS: Final = {"node": "the generator of Math.random"}


@dataclass(frozen=True, slots=True)
class Generator:
    """`size` bytes at `address` that each clone gets anew; `kind` says whose they are."""

    kind: str
    address: int
    size: int


def plan_renewal(generators: Iterable[Generator], enter: Program) -> None:
    """The steps that a clone's process takes when its memory is there."""
    for each in generators:
        enter.call("getrandom", each.address, each.size, 0, label=f"fresh randomness for {each.kind}")


def openssl_generators(pid: int, mappings: Sequence[Mapping], read: Read, number: int) -> list[Generator]:
    """The memory of every generator of OpenSSL 3 about `number`, the process's own, under which it was last seeded.

    One that was seeded under another number seeds itself again anyway.
    """
    code = [(each.start, each.end) for each in mappings if "x" in each.permissions]
    found: list[Generator] = []
    for base, data in _pieces(pid, mappings, read):
        for offset in _aligned(data, _MAX_REQUEST):
            if offset >= _DRBG_HEAD + _BEFORE_MAX_REQUEST.size and _is_drbg(data, offset, number, code):
                found.append(Generator("OpenSSL", base + offset - _BEFORE_MAX_REQUEST.size, 4))
    return list(dict.fromkeys(found))


def _is_drbg(data: bytes, offset: int, number: int, code: Sequence[tuple[int, int]]) -> bool:
    start = offset - _BEFORE_MAX_REQUEST.size
    fork_id, _, strength, padding = _BEFORE_MAX_REQUEST.unpack_from(data, start)
    if fork_id != number or strength not in _STRENGTHS or padding:
        return False
    words = struct.unpack_from(f"={_DRBG_HEAD // 8}Q", data, start - _DRBG_HEAD)
    in_code = [any(first <= word < end for first, end in code) for word in words]
    return any(all(in_code[at : at + _DRBG_FUNCTIONS]) for at in range(len(words) - _DRBG_FUNCTIONS))


def python_generators(pid: int, mappings: Sequence[Mapping], read: Read) -> list[Generator]:
    """The states behind the functions of `random` and of numpy's legacy interface, in CPython 3.9 and later.

    Generators that the function made for itself are left alone: a seed may have been chosen on purpose.
    """
    types = _types(pid, mappings, read)
    if not types:
        return []
    objects: dict[int, str] = {}
    for base, data in _pieces(pid, mappings, read):
        for address, name in types.items():
            objects |= {base + offset - 8: name for offset in _aligned(data, _WORD.pack(address)) if offset >= 8}
    states = dict(_states(objects, types, read))
    return [states[address] for address in sorted(_bound(pid, mappings, read, set(states)))]


def _states(objects: dict[int, str], types: dict[int, str], read: Read) -> Iterator[tuple[int, Generator]]:
    """The state of everything that may be a generator to which functions are bound, by its count of references (the
    lower half of the word: CPython 3.12 has other things above it)."""
    sizes = {name: _word(read(kind + _TYPE_NAME + 8, 8)) for kind, name in types.items()}
    for address, name in objects.items():
        references = _word(read(address, 4))
        if references < _BOUND:
            continue
        if name == _PYTHON and 1 <= _word(read(address + _HEAD_SIZE, 4)) <= _STATE_SIZE // 4:
            yield address, Generator("Python's random", address + _HEAD_SIZE + 4, _STATE_SIZE)
        if name == _NUMPY_STATE:
            for inner in _words(read(address, sizes[name])):
                if objects.get(inner) == _NUMPY_GENERATOR:
                    for state in _inner_pointers(inner, sizes[_NUMPY_GENERATOR], read)[:1]:
                        yield address, Generator("numpy's random", state, _STATE_SIZE)


def _inner_pointers(address: int, size: int, read: Read) -> list[int]:
    """Where in itself an object points to: numpy's interface to C begins with the address of the state."""
    return [word for word in _words(read(address, size)) if address < word <= address + size - _STATE_SIZE]


def _bound(pid: int, mappings: Sequence[Mapping], read: Read, holders: set[int]) -> set[int]:
    """Those to which a module's functions are bound."""
    places: dict[int, tuple[int, int]] = {}
    for base, data in _pieces(pid, mappings, read) if holders else ():
        for holder in holders:
            for offset in _aligned(data, _WORD.pack(holder)):
                if offset >= _HOLDER:
                    places[base + offset] = holder, _word(data[offset - _HOLDER : offset])
    counts = Counter(places.values())
    return {holder for (holder, kind), count in counts.items() if count >= _BOUND and _is_method(kind, read)}


def _is_method(kind: int, read: Read) -> bool:
    """Whether a word is the address of a type for bound functions."""
    try:
        name = read(_word(read(kind + _TYPE_NAME, 8)), 64)
    except (OSError, OverflowError):
        return False  # no address, so no type
    return name.partition(b"\0")[0].endswith(_METHOD)


def _types(pid: int, mappings: Sequence[Mapping], read: Read) -> dict[int, str]:
    """Addresses of the type objects of interest, with their names."""
    names: dict[int, str] = {}
    libraries = [each for each in mappings if os.path.basename(each.path).startswith(_NUMPY_FILES)]
    for base, data in _pieces(pid, mappings, read, libraries):
        for name in (_PYTHON, *((_NUMPY_STATE, _NUMPY_GENERATOR) if libraries else ())):
            names |= {base + offset: name for offset in _occurrences(data, name.encode() + b"\0")}
    types: dict[int, str] = {}
    for base, data in _pieces(pid, mappings, read):
        for address, name in names.items():
            for offset in _aligned(data, _WORD.pack(address)):
                sizes = _STATE_HOLDER_SIZES if name == _NUMPY_STATE else _TYPE_SIZES
                if offset >= _TYPE_NAME and _word(data[offset + 8 : offset + 16].ljust(8, b"\0")) in sizes:
                    types[base + offset - _TYPE_NAME] = name
    return types


def unknown_generators(program: str, mappings: Sequence[Mapping]) -> list[str]:
    """What a process may have that goes on with the same numbers, because nobody here knows how it looks in memory."""
    files = {os.path.basename(mapping.path) for mapping in mappings}
    found = [what for name, what in _UNKNOWN.items() if any(file.startswith(name) for file in files)]
    return found + [what for name, what in _UNKNOWN_PROGRAMS.items() if os.path.basename(program) == name]


# --- memory -----------------------------------------------------------------------------------------------------------


def _pieces(
    pid: int, mappings: Sequence[Mapping], read: Read, also: Sequence[Mapping] = ()
) -> Iterator[tuple[int, bytes]]:
    """(address, bytes) of all private memory that can be written and holds something, and of the mappings `also`."""
    for mapping in mappings:
        if mapping.permissions.startswith("rw") and not mapping.shared and not mapping.special:
            for first, count in present_pages(pid, mapping, own=not mapping.anonymous):
                yield from _cut(mapping.start + first * PAGE, count * PAGE, read)
        elif mapping in also and mapping.permissions.startswith("r"):
            yield from _cut(mapping.start, mapping.size, read)


def _cut(address: int, size: int, read: Read) -> Iterator[tuple[int, bytes]]:
    """Pieces that overlap, so that nothing looked for lies across two of them only."""
    end = address + size
    for base in range(address, end, _PIECE):
        start = max(address, base - _STATE_SIZE)
        yield start, read(start, min(base + _PIECE + _OVERLAP, end) - start)


def _occurrences(data: bytes, pattern: bytes) -> Iterator[int]:
    offset = data.find(pattern)
    while offset >= 0:
        yield offset
        offset = data.find(pattern, offset + 1)


def _aligned(data: bytes, word: bytes) -> Iterator[int]:
    """Where a word lies; looked for by what is not zero at its end, because memory is full of zeros."""
    found = _occurrences(data, word.rstrip(b"\0"))
    return (offset for offset in found if offset % 8 == 0 and data[offset : offset + 8] == word)


def _word(data: bytes) -> int:
    return int.from_bytes(data[:8], "little")


def _words(data: bytes) -> tuple[int, ...]:
    return struct.unpack(f"={len(data) // 8}Q", data[: len(data) // 8 * 8])
