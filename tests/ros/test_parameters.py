"""Parameters: what is declared is what the yaml repeats, what is read-only stays so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import rclpy
import yaml
from rclpy.node import Node
from rclpy.parameter import Parameter

from sdvlm_ros import parameters
from tests.ros.conftest import ROOT


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
    assert {"autostart": True, **written} == declared


def test_every_parameter_has_a_description() -> None:
    assert all(descriptor.description for _, descriptor in parameters.PARAMETERS.values())


def test_times_may_change_while_the_node_runs(node: Node) -> None:
    (result,) = node.set_parameters([Parameter("max_age", value=0.5)])
    assert result.successful
    assert parameters.read(node).max_age == 0.5


@pytest.mark.parametrize(
    ("name", "value"), [("model", "other"), ("queue_size", 3), ("timeout", -1.0), ("timeout", 0.0)]
)
def test_what_cannot_change_or_be_is_refused(node: Node, name: str, value: object) -> None:
    (result,) = node.set_parameters([Parameter(name, value=value)])
    assert not result.successful


def test_a_transport_that_does_not_exist_is_refused_by_name(context: rclpy.Context) -> None:
    node = rclpy.create_node(
        "parameters",
        context=context,
        parameter_overrides=[Parameter("depth_transport", value="theora")],
    )
    parameters.declare(node)
    with pytest.raises(ValueError, match=r"depth_transport is 'theora', not in .*compressedDepth"):
        parameters.read(node)
