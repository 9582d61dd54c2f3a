"""Lets pip and ament_cmake_python read setup.cfg; everything is declared there."""

from setuptools import setup

setup()
