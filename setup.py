"""Compiles the native binary into the package, so that an installed wheel or editable checkout has it.

All else about the project is in pyproject.toml; how the binary is compiled is in src/thaw/native/Makefile.
"""

import shutil
import subprocess
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

NATIVE = Path(__file__).parent / "src" / "thaw" / "native"


class BuildWithNative(build_py):
    """`build_py` that runs `make` in the native folder first (the binary is package data)."""

    def run(self) -> None:
        for tool in ("make", "gcc"):
            if shutil.which(tool) is None:
                raise SystemExit(f"Thaw needs {tool} to build its native part: install {tool} and try again.")
        subprocess.run(["make", "-C", str(NATIVE)], check=True)
        super().run()


class PlatformWheel(bdist_wheel):
    """A wheel for any Python 3 on this platform: the binary is static and links to no interpreter."""

    def get_tag(self) -> tuple[str, str, str]:
        return ("py3", "none", super().get_tag()[2])


class NativeDistribution(Distribution):
    """A distribution that is bound to its platform although it has no extension module."""

    def has_ext_modules(self) -> bool:
        return True


setup(cmdclass={"build_py": BuildWithNative, "bdist_wheel": PlatformWheel}, distclass=NativeDistribution)
