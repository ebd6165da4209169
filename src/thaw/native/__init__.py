"""The native part: one freestanding static program, built by gcc alone, that is first a sandbox or a template."""

from __future__ import annotations

from pathlib import Path

from thaw.errors import ConfigurationError

__all__ = ["binary"]


def binary() -> Path:
    """Path of the compiled program.

    Raises:
        ConfigurationError: it was never compiled.
    """
    path = Path(__file__).with_name("thaw-sandbox")
    if not path.exists():
        raise ConfigurationError(f"The native program {path} is missing because it was not compiled: run `make native`.")
    return path
