"""Findings as SARIF 2.1.0 (OASIS), which code hosts and editors read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from thaw.lint.check import Finding
from thaw.lint.rules import RULES

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def sarif(findings: Sequence[Finding], version: str) -> dict[str, Any]:
    """The document; `version` is that of the tool."""
    rules = [
        {"id": rule.code, "name": rule.title.title().replace(" ", ""), "shortDescription": {"text": rule.sentence}}
        for rule in RULES.values()
    ]
    driver = {"name": "thaw lint", "version": version, "rules": rules}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": _results(findings)}],
    }


def _results(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    return [
        {
            "ruleId": one.code,
            "level": "warning",
            "message": {"text": one.sentence},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": one.path},
                        "region": {"startLine": one.line, "startColumn": one.column},
                    }
                }
            ],
        }
        for one in findings
    ]
