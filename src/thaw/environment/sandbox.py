"""One empty, ready sandbox."""

from __future__ import annotations


class Sandbox:
    """One empty, ready sandbox."""
