"""What is expected of every source of numbers, who sees to it, and what the function's author has to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Expected = Literal["differs", "by the clock", "by chance", "repeats"]

RESEED = "Thaw, before after-restore hooks"
KERNEL = "the kernel, at each draw"
OPENSSL = "OpenSSL: the process number changed"
ENGINE = "Thaw, before the process goes on"
IN_A_HOOK = "make or seed it again in an after-restore hook"


@dataclass(frozen=True, slots=True)
class Source:
    """`by` says who makes it differ, or why it repeats; `advice` is for the author, "" where there is nothing to do."""

    name: str
    expected: Expected
    by: str
    advice: str = ""


SOURCES = {
    source.name: source
    for source in (
        Source("os.urandom", "differs", KERNEL),
        Source("os.getrandom", "differs", KERNEL),
        Source("secrets.token_hex", "differs", KERNEL),
        Source("random.SystemRandom", "differs", KERNEL),
        Source("uuid.uuid4", "differs", KERNEL),
        Source("uuid.uuid1", "differs", RESEED),
        Source("random.random", "differs", RESEED),
        Source("random.Random() of Init", "repeats", "its state is in the snapshot", IN_A_HOOK),
        Source("random.Random(time) of Init", "repeats", "its state is in the snapshot", IN_A_HOOK),
        Source("random.Random(time) of the call", "by the clock", "the clock", "two calls in one tick would be equal"),
        Source("random.Random(os.getpid())", "by chance", "the process number", "seed from os.urandom"),
        Source("tempfile names", "differs", "tempfile: the process number changed"),
        Source("tempfile name of Init", "repeats", "it is in the snapshot, and each clone's /tmp is its own"),
        Source("email.utils.make_msgid", "differs", RESEED),
        Source("multiprocessing authkey", "repeats", "it is in the snapshot",
               "set current_process().authkey in an after-restore hook"),
        Source("ssl.RAND_bytes", "differs", OPENSSL),
        Source("ssl client hello", "differs", OPENSSL),
        Source("cryptography key", "differs", OPENSSL),
        Source("cryptography AESGCM.generate_key", "differs", KERNEL),
        Source("numpy.random.rand", "differs", RESEED),
        Source("numpy default_rng() of the call", "differs", KERNEL),
        Source("numpy default_rng() of Init", "repeats", "its state is in the snapshot", IN_A_HOOK),
        Source("numpy RandomState() of Init", "repeats", "its state is in the snapshot", IN_A_HOOK),
        Source("os.urandom in a child process", "differs", KERNEL),
        Source("secrets.token_hex in a child process", "differs", KERNEL),
        Source("uuid.uuid4 in a child process", "differs", KERNEL),
        Source("uuid.uuid1 in a child process", "by the clock", "the clock", "two calls in one tick would be equal"),
        Source("ssl.RAND_bytes in a child process", "differs", ENGINE),
        Source("random.random in a child process", "differs", ENGINE),
        Source("numpy.random.rand in a child process", "differs", ENGINE),
        Source("random.Random() of a child process", "repeats", "its state is in the snapshot",
               "make it anew for each task"),
        Source("uuid.uuid4 of Init", "repeats", "it is in the snapshot", "make it in the handler"),
        Source("time of Init", "repeats", "it is in the snapshot", "ask for the time in the handler"),
        Source("hash of a string", "repeats", "its key is chosen when Python starts",
               "publish again to change it"),
        Source("address of an object", "repeats", "a clone has its template's addresses", "take no id() for an id"),
        Source("os.getpid", "by chance", "sandboxes count from different numbers, which may meet",
               "take no process number for an id"),
    )
}  # fmt: skip
# What a server that does not reseed leaves to repeat; ids and message numbers still have the clock in them.
RESEEDED = tuple(source.name for source in SOURCES.values() if source.by in (RESEED, ENGINE))
