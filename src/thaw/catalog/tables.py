"""The catalog's tables. A change here needs a migration beside the others in `migrations/versions`."""

from __future__ import annotations

from sqlalchemy import Column, Float, ForeignKey, Integer, LargeBinary, MetaData, String, Table, Text

metadata = MetaData()

functions = Table(
    "functions",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("function_id", String(32), nullable=False, unique=True),
    Column("tags", Text, nullable=False),
)

# Lambda never gives a version number twice, not even after a function was deleted and created again: the counters
# outlive the functions.
counters = Table(
    "counters",
    metadata,
    Column("function_name", String(64), primary_key=True),
    Column("last_version", Integer, nullable=False),
)

# Number 0 is $LATEST. `document` is the Configuration as JSON; `serving` is the one that calls of $LATEST get while an
# update of it is in progress or has failed. The other columns repeat what queries look for.
versions = Table(
    "versions",
    metadata,
    Column("function_name", String(64), ForeignKey("functions.name", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("state", String(32), nullable=False, index=True),
    Column("last_update_status", String(16), nullable=True, index=True),
    Column("code_key", String(64), nullable=False, index=True),
    Column("document", Text, nullable=False),
    Column("serving", Text, nullable=True),
)

aliases = Table(
    "aliases",
    metadata,
    Column("function_name", String(64), ForeignKey("functions.name", ondelete="CASCADE"), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("document", Text, nullable=False),
)

# Layer versions are never numbered twice either.
layer_counters = Table(
    "layer_counters",
    metadata,
    Column("layer_name", String(140), primary_key=True),
    Column("last_version", Integer, nullable=False),
)

layer_versions = Table(
    "layer_versions",
    metadata,
    Column("layer_name", String(140), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("content_key", String(64), nullable=False, index=True),
    Column("document", Text, nullable=False),
)

# What hangs on a function, a version or an alias and is not part of a configuration: policies, URLs and the like.
# `kind` names the dataclass in `attachments.py` whose JSON `document` is; `lookup` is a second name (a URL's id).
attachments = Table(
    "attachments",
    metadata,
    Column("function_name", String(64), ForeignKey("functions.name", ondelete="CASCADE"), primary_key=True),
    Column("qualifier", String(128), primary_key=True),
    Column("kind", String(32), primary_key=True, index=True),
    Column("lookup", String(64), nullable=True, unique=True),
    Column("document", Text, nullable=False),
)

# Asynchronous calls that were accepted and not ended yet, in the order of their coming. `due` is when the next attempt
# may begin (seconds since the epoch), `document` all the rest of the Event as JSON.
events = Table(
    "events",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("request_id", String(64), nullable=False),
    Column("due", Float, nullable=False, index=True),
    Column("document", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)

# When a version with a snapshot was called last (seconds since the epoch), to within about an hour.
uses = Table(
    "uses",
    metadata,
    Column("function_id", String(32), primary_key=True),
    Column("version", String(16), primary_key=True),
    Column("last_used", Float, nullable=False),
)
