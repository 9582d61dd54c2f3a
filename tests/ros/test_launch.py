"""The launch files, where launch is installed: they load, and document every argument."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

import pytest

from tests.ros.conftest import ROOT

reason = "launch is not installed; it comes with ROS and not as a wheel"
launch_actions = pytest.importorskip("launch.actions", reason=reason)
pytest.importorskip("launch_ros", reason=reason)
index = pytest.importorskip("ament_index_python.packages")


def arguments(name: str) -> dict[str, Any]:
    spec = spec_from_file_location("launch_file", ROOT / "launch" / name)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    description = module.generate_launch_description()
    return {
        entity.name: entity
        for entity in description.entities
        if isinstance(entity, launch_actions.DeclareLaunchArgument)
    }


@pytest.mark.parametrize("name", ["spatial_query.launch.py", "demo.launch.py"])
def test_every_launch_argument_says_what_it_is(name: str) -> None:
    found = arguments(name)
    assert found
    assert all(argument.description for argument in found.values())


def test_the_node_has_the_arguments_everyone_expects() -> None:
    expected = {"namespace", "params_file", "use_sim_time", "autostart", "log_level"}
    assert expected <= set(arguments("spatial_query.launch.py"))
