"""Packaging: `cli/` at the top level installs as `nblstm.cli`; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["nblstm", "nblstm.*"]), "nblstm.cli"],
    package_dir={"nblstm": "nblstm", "nblstm.cli": "cli"},
)
