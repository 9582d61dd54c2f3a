"""Reads setup.cfg, where everything is declared, and adds the long description.

ament_cmake_python copies setup.cfg alone into its build directory, where README.md is missing;
therefore the long description is not declared there.
"""

from pathlib import Path

from setuptools import setup

setup(
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
)
