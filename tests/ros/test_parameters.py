"""Parameters: the yaml repeats the declared defaults, and read-only parameters do not change."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import rclpy
import yaml
from rclpy.node import Node
from rclpy.parameter import Parameter

from sdvlm_core.errors import ParameterError
from sdvlm_ros import parameters
from tests.ros.conftest import ROOT
from tests.waiting import PATIENCE_S


@pytest.fixture
def node(context: rclpy.Context) -> Iterator[Node]:
    node = rclpy.create_node("parameters", context=context)
    parameters.declare(node)
    yield node
    node.destroy_node()


def test_the_yaml_repeats_every_default() -> None:
    text = (ROOT / "config" / "spatial_query.params.yaml").read_text(encoding="utf-8")
    written = yaml.safe_load(text)["/**"]["ros__parameters"]
    declared = {name: default for name, (default, _) in parameters.PARAMETERS.items()}
    assert written == declared


def test_every_parameter_has_a_description() -> None:
    assert all(descriptor.description for _, descriptor in parameters.PARAMETERS.values())


def test_the_table_in_the_docs_equals_the_declarations() -> None:
    written = (ROOT / "docs" / "parameters.md").read_text(encoding="utf-8")
    assert written == parameters.document(), "python -m sdvlm_ros.parameters > docs/parameters.md"


def test_times_may_change_while_the_node_runs(node: Node) -> None:
    (result,) = node.set_parameters([Parameter("max_age", value=0.5)])
    assert result.successful
    assert parameters.read(node).max_age == 0.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "other"),
        ("queue_size", 3),
        ("rgb_qos", "reliable"),
        ("timeout", -1.0),
        ("timeout", 0.0),
        ("timeout", math.nan),
        ("temperature", -0.1),
        ("temperature", 1e-6),
        ("temperature", math.inf),
        ("max_new_tokens", 0),
        ("max_new_tokens", "many"),
        ("top_k", -1),
    ],
)
def test_read_only_and_invalid_values_are_refused(node: Node, name: str, value: object) -> None:
    (result,) = node.set_parameters([Parameter(name, value=value)])
    assert not result.successful


def test_generation_changes_while_the_node_runs(node: Node) -> None:
    assert parameters.read_generation(node).sampling is None
    results = node.set_parameters(
        [
            Parameter("temperature", value=0.7),
            Parameter("top_k", value=5),
            Parameter("seed", value=3),
        ]
    )
    assert all(result.successful for result in results)
    drawn = parameters.read_generation(node).sampling
    assert drawn is not None
    assert (drawn.temperature, drawn.top_k, drawn.seed) == (0.7, 5, 3)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("max_agee", 1.0, "no parameter 'max_agee', did you mean max_age?"),
        ("zebra", 1, "no parameter 'zebra', see docs/parameters.md"),
        ("max_age", 1, "parameter max_age: .*max_age; write it with a decimal point"),
        ("queue_size", 0, "parameter queue_size: .*out of range"),
        ("temperature", 1e-6, "parameter temperature: .*at least 0.01"),
        ("depth_transport", "theora", "depth_transport: .*'theora' is not one of raw, compressedD"),
        ("rgb_qos", "best_effort", "rgb_qos: .*'best_effort' is not one of sensor_data"),
        ("sensor", "kinekt", "sensor: .*'kinekt' is not one of realsense"),
    ],
)
def test_an_invalid_parameter_at_start_is_an_error_that_names_it(
    context: rclpy.Context, name: str, value: object, text: str
) -> None:
    node = rclpy.create_node(
        "parameters", context=context, parameter_overrides=[Parameter(name, value=value)]
    )
    with pytest.raises(ParameterError, match=text):
        parameters.declare(node)
    node.destroy_node()


def test_the_node_ends_with_status_2_on_a_yaml_with_an_unknown_parameter(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("/**:\n  ros__parameters:\n    use_sim_time: false\n    sync_slob: 0.1\n")
    command = [sys.executable, "-m", "sdvlm_ros.node", "--ros-args", "--params-file", str(file)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)
    assert ended.returncode == 2, ended.stderr
    assert "'sync_slob', did you mean sync_slop?" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("name", ["use_sim_time", "start_type_description_service"])
def test_parameters_of_every_ros_node_are_not_reported_as_unknown(
    context: rclpy.Context, name: str
) -> None:
    given = [
        Parameter(name, value=True),
        Parameter("qos_overrides./rgb/image_rect_color.subscription.depth", value=3),
    ]
    node = rclpy.create_node("parameters", context=context, parameter_overrides=given)
    parameters.declare(node)
    node.destroy_node()
