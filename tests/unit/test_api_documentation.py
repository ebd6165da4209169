"""docs/api-operations.md is held against the code."""

import re
from pathlib import Path

from clients.front import Front
from thaw.api.protocol.model import lambda_model

PAGE = Path(__file__).parents[2] / "docs" / "api-operations.md"


def operations(text):
    """The first cell of each row of the tables."""
    return re.findall(r"^\| ([A-Z]\w+) \|", text, re.MULTILINE)


async def test_the_page_lists_what_is_implemented_and_what_is_not(tmp_path):
    front = await Front.open(tmp_path)
    await front.catalog.close()
    listed = PAGE.read_text().replace("| Operation |", "")
    implemented, _, missing = listed.partition("## Not implemented")
    assert sorted(operations(implemented)) == sorted(front.application.implemented)
    known = set(lambda_model().operations)
    assert not set(operations(missing)) & front.application.implemented
    assert known <= set(operations(listed)), "botocore knows operations that the page does not list: add them"
