"""The function that `thaw doctor uniqueness` publishes: reports one value of every source of numbers that Python has.

What is made at module level is made once, in Init, and frozen; what the handler makes is made in a clone. Runs in the
function's interpreter, which may be as old as Python 3.9.
"""

from __future__ import annotations

import email.utils
import multiprocessing
import os
import random
import secrets
import ssl
import tempfile
import time
import uuid
from collections.abc import Callable
from typing import Any

try:
    import numpy
except ImportError:
    numpy = None
try:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
except ImportError:
    ec = None  # type: ignore[assignment]

# Everything is used once before the snapshot, so that nothing is fresh by accident.
own_generator = random.Random()
seeded_with_time = random.Random(time.time_ns())
system_generator = random.SystemRandom()
kept_id = uuid.uuid4()
kept_time = time.time_ns()
kept_name = next(tempfile._get_candidate_names())  # type: ignore[attr-defined]
client_context = ssl.create_default_context()
ssl.RAND_bytes(16)
random.random()
uuid.uuid1()
if numpy is not None:
    numpy.random.rand()
    numpy_generator = numpy.random.default_rng()
    numpy_state = numpy.random.RandomState()
if ec is not None:
    ec.generate_private_key(ec.SECP256R1())


def client_hello() -> str:
    """The random number and the key share that OpenSSL sends first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = client_context.wrap_bio(incoming, outgoing, server_hostname="example.com")
    try:
        connection.do_handshake()
    except ssl.SSLWantReadError:
        pass
    # Record header (5), handshake header (4), version (2), then 32 random bytes (RFC 8446, 4.1.2).
    return outgoing.read()[11:43].hex()


def public_key() -> str:
    """A new key of OpenSSL's, as cryptography carries it along."""
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint).hex()[:64]


SOURCES: dict[str, Callable[[], Any]] = {
    "os.urandom": lambda: os.urandom(16).hex(),
    "os.getrandom": lambda: os.getrandom(16).hex(),
    "secrets.token_hex": lambda: secrets.token_hex(16),
    "random.SystemRandom": lambda: system_generator.getrandbits(128),
    "uuid.uuid4": lambda: str(uuid.uuid4()),
    "uuid.uuid1": lambda: str(uuid.uuid1()),
    "random.random": lambda: random.random(),
    "random.Random() of Init": lambda: own_generator.random(),
    "random.Random(time) of Init": lambda: seeded_with_time.random(),
    "random.Random(time) of the call": lambda: random.Random(time.time_ns()).random(),
    "random.Random(os.getpid())": lambda: random.Random(os.getpid()).random(),
    "tempfile names": lambda: next(tempfile._get_candidate_names()),  # type: ignore[attr-defined]
    "tempfile name of Init": lambda: kept_name,
    "email.utils.make_msgid": lambda: email.utils.make_msgid(domain="x"),
    "multiprocessing authkey": lambda: bytes(multiprocessing.current_process().authkey).hex(),
    "ssl.RAND_bytes": lambda: ssl.RAND_bytes(16).hex(),
    "ssl client hello": client_hello,
    "uuid.uuid4 of Init": lambda: str(kept_id),
    "time of Init": lambda: kept_time,
    "hash of a string": lambda: hash("thaw"),
    "address of an object": lambda: id(client_context),
    "os.getpid": os.getpid,
}
if numpy is not None:
    SOURCES["numpy.random.rand"] = lambda: float(numpy.random.rand())
    SOURCES["numpy default_rng() of the call"] = lambda: float(numpy.random.default_rng().random())
    SOURCES["numpy default_rng() of Init"] = lambda: float(numpy_generator.random())
    SOURCES["numpy RandomState() of Init"] = lambda: float(numpy_state.rand())
if ec is not None:
    SOURCES["cryptography key"] = public_key
    SOURCES["cryptography AESGCM.generate_key"] = lambda: AESGCM.generate_key(128).hex()


def handler(event: object, context: object) -> dict[str, Any]:
    """{source: value}, one of each."""
    return {name: draw() for name, draw in SOURCES.items()}
