"""Finds in Python source what a snapshot would copy into every clone: random values, ids, times, secrets, connections,
temporary files, threads and child processes that are made while a module is imported, and kept.

::

    from thaw.lint import check, check_paths

    for finding in check(source, "app.py"):     # one module
        print(finding.path, finding.line, finding.code, finding.sentence)
    findings = check_paths([Path("src")])       # a function's folder: modules that its handlers import

`rules` has the codes and what triggers them; `scope` resolves imports and aliases; `values` is what is known of a
value; `evaluate` and `execute` run a module's import in the abstract, with the functions and classes of the project
that it calls; `hooks` finds what snapshot hooks make anew; `check` joins them; `sarif` is one form of the result.

The folder imports nothing of Thaw, so that it can be used anywhere.
"""

from __future__ import annotations

from thaw.lint.check import Finding, check, check_paths
from thaw.lint.rules import RULES, Rule

__all__ = ["RULES", "Finding", "Rule", "check", "check_paths"]
