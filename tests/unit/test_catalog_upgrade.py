"""A catalog that an older Thaw wrote is brought up to date with everything in it."""

import json
import sqlite3

import sqlalchemy
from alembic import command
from alembic.config import Config

from thaw.catalog.attachments import Policy
from thaw.catalog.catalog import Catalog

ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"
# As the first version wrote it: no layers with content, no digest of what came later.
OLD = {
    "function_id": "0" * 32,
    "function_name": "f",
    "function_arn": ARN,
    "version": "$LATEST",
    "runtime": "python3.13",
    "role": "r",
    "handler": "a.b",
    "environment": {"A": "1"},
    "architectures": ["x86_64"],
    "layers": [],
    "code_key": "0" * 64,
    "revision_id": "x",
    "state": "Active",
    "last_update_status": "Successful",
}


def write_first_version(file):
    engine = sqlalchemy.create_engine(f"sqlite:///{file}")
    config = Config()
    config.set_main_option("script_location", "thaw.catalog:migrations")
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()
    with sqlite3.connect(file) as database:
        database.execute("INSERT INTO functions VALUES ('f', ?, '{}')", (OLD["function_id"],))
        row = ("f", 0, "Active", "Successful", OLD["code_key"], json.dumps(OLD), None)
        database.execute("INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        alias = {"function_name": "f", "name": "live", "alias_arn": f"{ARN}:live", "function_version": "$LATEST"}
        database.execute("INSERT INTO aliases VALUES ('f', 'live', ?)", (json.dumps(alias),))
    database.close()


async def test_functions_of_the_first_version_go_on(tmp_path):
    file = tmp_path / "catalog.db"
    write_first_version(file)
    catalog = Catalog(file, region="us-east-1", account_id="000000000000")
    await catalog.open()
    found = await catalog.resolve("f", "live")
    assert (found.environment, found.layers, found.reserved_concurrency) == ({"A": "1"}, (), None)
    statement = {"Sid": "s"}
    await catalog.attachments.change(Policy, "f", "live", lambda _, __: Policy(statements=(statement,)))
    await catalog.close()
    again = Catalog(file, region="us-east-1", account_id="000000000000")
    await again.open()
    assert (await again.attachments.get(Policy, "f", "live")).statements == (statement,)
    await again.close()
