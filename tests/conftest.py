"""For all tests: markers by path, optional packages, the device, the examples of hypothesis.

pytest -m "not ros"                     without ROS 2
pytest -m "not slow"                    the first answer while you work
HYPOTHESIS_PROFILE=thorough pytest      ten times the examples
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

HERE = Path(__file__).parent

# On a machine with a GPU too: tolerances are those of float32 on the CPU, and answers of several
# processes are compared. Processes that a test starts inherit it.
os.environ["CUDA_VISIBLE_DEVICES"] = ""

# A busy machine makes an example slow, not wrong.
settings.register_profile("ci", max_examples=20, deadline=None)
settings.register_profile("thorough", max_examples=200, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

#: Files and folders of tests -> markers.
MARKERS = {
    "core/camera/test_bag_bounds.py": ("slow",),
    "core/camera/test_rectification.py": ("slow",),
    "core/cli/test_malformed_files.py": ("slow",),
    "core/front/test_agents.py": ("slow",),
    "ros": ("ros",),
    "ros/client/test_client.py": ("slow",),
    "ros/test_bag_player.py": ("slow",),
    "ros/test_examples.py": ("slow",),
    "ros/test_faults.py": ("slow",),
    "ros/test_launch.py": ("slow",),
    "ros/test_live_backend.py": ("slow",),
    "ros/test_model_choices.py": ("slow",),
    "ros/test_node.py": ("slow",),
    "ros/test_replay_parity.py": ("slow",),
    "situations": ("slow",),
    "situations/test_live.py": ("ros",),
    "situations/test_node.py": ("ros",),
    "training": ("training",),
    "training/ablate": ("slow",),
    "training/build/test_build.py": ("slow",),
    "training/build/test_malformed_scenes.py": ("slow",),
    "training/build/test_roles.py": ("slow",),
    "training/evaluate/test_evaluate.py": ("slow",),
    "training/finetune/test_finetune.py": ("slow",),
    "training/nano/test_training.py": ("slow",),
    "training/scenes": ("slow",),
    "training/simulate/test_simulate.py": ("slow",),
}

#: Imported to find out: mujoco may be installed where there is no headless OpenGL.
RENDERER = "training.simulate.renderer"
#: Files and folders of tests -> modules without which their tests are skipped.
NEEDS = {
    "demo": ("pyarrow",),
    "ros": ("rclpy", "sdvlm.srv"),
    "situations/test_live.py": ("rclpy", "sdvlm.srv"),
    "situations/test_node.py": ("rclpy", "sdvlm.srv"),
    "training": ("pyarrow",),
    "training/ablate": (RENDERER,),
    "training/build/test_build.py": ("embreex", "trimesh", RENDERER),
    "training/build/test_endpoint.py": ("openai",),
    "training/build/test_roles.py": ("embreex", "trimesh", "openai"),
    "training/evaluate/test_evaluate.py": (RENDERER,),
    "training/evaluate/test_judges.py": ("openai",),
    "training/finetune": (RENDERER,),
    "training/nano": (RENDERER,),
    "training/scenes": ("embreex", "trimesh"),
    "training/simulate": (RENDERER,),
}


def _of(path: Path, table: dict[str, tuple[str, ...]]) -> Iterator[str]:
    """The entries of a table for a file of tests, and for the folders that hold it."""
    inside = path.relative_to(HERE)
    for name in (inside, *inside.parents):
        yield from table.get(name.as_posix(), ())


@cache
def _missing(module: str) -> bool:
    try:
        if module == RENDERER:
            importlib.import_module(module)
        return importlib.util.find_spec(module) is None
    # AttributeError: PyOpenGL without its library.
    except (ImportError, AttributeError, OSError, RuntimeError):
        return True


class SkippedFile(pytest.File):
    """A file of tests that is not imported, because a module that it needs is missing."""

    missing: list[str]

    def collect(self) -> list[pytest.Item]:
        names = ", ".join(self.missing)
        pytest.skip(f"cannot import {names} (`make setup` installs it)", allow_module_level=True)


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Collector | None:
    missing = [module for module in _of(module_path, NEEDS) if _missing(module)]
    if not missing:
        return None
    skipped = SkippedFile.from_parent(parent, path=module_path)
    skipped.missing = missing
    return skipped


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not item.path.is_relative_to(HERE):
            continue
        for marker in _of(item.path, MARKERS):
            item.add_marker(marker)
