"""Randomness that was warmed up before the snapshot: no two clones, and no clone and its original, draw the same."""

import os
import random
import secrets
import ssl
import uuid


def draw():
    return {
        "urandom": os.urandom(16).hex(), "openssl": ssl.RAND_bytes(16).hex(), "secrets": secrets.token_hex(16),
        "uuid4": uuid.uuid4().hex, "system": random.SystemRandom().getrandbits(128),
    }  # fmt: skip


def prepare():
    return draw()


def check(before):
    return [before, draw()]
