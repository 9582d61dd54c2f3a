"""Parameters: declared once with description, range and read_only, read as one frozen dataclass.

This file is the reference of what can be set: `python -m sdvlm_ros.parameters` writes
docs/parameters.md from it, and config/spatial_query.params.yaml repeats the defaults for people who
edit yaml. Does not know what the values are used for.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter

from sdvlm_core.errors import ParameterError
from sdvlm_core.geometry.sensor_noise import DEFAULT_SENSOR, SENSORS

if TYPE_CHECKING:
    from sdvlm_core.model.generation import Sampling

QOS = ("sensor_data", "reliable", "system_default")
CHOICES = {
    "rgb_transport": ("raw", "compressed"),
    "depth_transport": ("raw", "compressedDepth"),
    "rgb_qos": QOS,
    "depth_qos": QOS,
    "info_qos": QOS,
    "sensor": tuple(SENSORS),
}
# Below this, logits divided by it are no numbers any more.
COLDEST = 0.01


@dataclass(frozen=True)
class Settings:
    """The node's parameters; times in seconds."""

    model: str
    device: str
    dtype: str
    quantization: str
    attention: str
    depth_estimator: str
    allow_download: bool
    autostart: bool
    rgb_transport: str
    depth_transport: str
    rgb_qos: str
    depth_qos: str
    info_qos: str
    sensor: str
    buffer_size: int
    queue_size: int
    sync_slop: float
    max_age: float
    timeout: float
    tf_timeout: float
    max_new_tokens: int
    temperature: float
    top_k: int
    seed: int


def _fixed(description: str) -> ParameterDescriptor:
    return ParameterDescriptor(description=description, read_only=True)


def _choice(name: str, description: str) -> ParameterDescriptor:
    return ParameterDescriptor(
        description=description,
        read_only=True,
        additional_constraints="one of " + ", ".join(CHOICES[name]),
    )


def _count(description: str, low: int, high: int, read_only: bool = True) -> ParameterDescriptor:
    allowed = IntegerRange(from_value=low, to_value=high, step=1)
    return ParameterDescriptor(
        description=description, read_only=read_only, integer_range=[allowed]
    )


def _number(description: str, low: float, high: float) -> ParameterDescriptor:
    allowed = FloatingPointRange(from_value=low, to_value=high, step=0.0)
    return ParameterDescriptor(description=description, floating_point_range=[allowed])


# Name -> (default, descriptor). What is not read-only is read at every question.
PARAMETERS: dict[str, tuple[Any, ParameterDescriptor]] = {
    "model": (
        "nano",
        _fixed("The model: nano, a directory, or a name that `sdvlm download` has brought."),
    ),
    "device": (
        "auto",
        _fixed(
            "Where it runs: auto (CUDA if there is one), cpu, cuda, cuda:1, balanced (all GPUs)."
        ),
    ),
    "dtype": (
        "auto",
        _fixed(
            "Its numbers: float32, float16, bfloat16; auto = float16 on CUDA, float32 on the CPU."
        ),
    ),
    "quantization": ("none", _fixed("Of its weights: none, bnb-int8 or bnb-nf4.")),
    "attention": ("auto", _fixed("auto, eager, sdpa or flash_attention_2.")),
    "depth_estimator": (
        "",
        _fixed("Directory or name of a depth network; then no depth topic is subscribed to."),
    ),
    "allow_download": (
        False,
        _fixed("Download models that are not here when configured; never while answering."),
    ),
    "autostart": (True, _fixed("Configure and activate at start, without a lifecycle manager.")),
    "rgb_transport": ("raw", _choice("rgb_transport", "How colour arrives.")),
    "depth_transport": ("raw", _choice("depth_transport", "How depth arrives.")),
    "rgb_qos": (
        "sensor_data",
        _choice("rgb_qos", "Of the colour subscription; sensor_data also takes what is reliable."),
    ),
    "depth_qos": ("sensor_data", _choice("depth_qos", "Of the depth subscription.")),
    "info_qos": ("sensor_data", _choice("info_qos", "Of the camera_info subscription.")),
    "sensor": (
        DEFAULT_SENSOR,
        _choice("sensor", "The depth camera, for the uncertainty of measurements."),
    ),
    "buffer_size": (8, _count("Undecoded messages kept for each input.", 1, 300)),
    "queue_size": (8, _count("Questions that may wait; beyond it they are refused.", 1, 1000)),
    "sync_slop": (
        0.03,
        _number("How far apart the stamps of one frame may be, seconds.", 0.0, 10.0),
    ),
    "max_age": (1.0, _number("Refuse an image older than this, seconds.", 0.001, 1e6)),
    "timeout": (
        30.0,
        _number("Give up on a question after this, waiting included, seconds.", 0.001, 1e6),
    ),
    "tf_timeout": (
        0.2,
        _number("Wait this long for a transform to target_frame, seconds.", 0.0, 60.0),
    ),
    "max_new_tokens": (
        256,
        _count("An answer is cut after so many tokens.", 1, 4096, read_only=False),
    ),
    "temperature": (
        0.0,
        _number(
            f"0 takes the likeliest token each time; else tokens are drawn, from {COLDEST:g} on.",
            0.0,
            5.0,
        ),
    ),
    "top_k": (
        50,
        _count("Tokens are drawn from so many of the likeliest; 0 = all.", 0, 10**6, False),
    ),
    "seed": (0, _count("Of the draw.", 0, 2**31 - 1, read_only=False)),
}


def declare(node: Node) -> None:
    """Declare every parameter; overrides from the command line and yaml apply here.

    Raises:
        ParameterError: an override has the wrong type, range or choice, or names no parameter.
    """
    node.add_on_set_parameters_callback(_check)
    for name, (default, descriptor) in PARAMETERS.items():
        try:
            node.declare_parameter(name, default, descriptor)
        except ParameterException as error:
            raise ParameterError(f"parameter {name}: {error}") from error
    # rclpy has no public list of what was given and not declared. QoS overrides are declared when
    # their topic is subscribed to.
    given = node._parameter_overrides
    unknown = [n for n in given if not node.has_parameter(n) and not n.startswith("qos_overrides.")]
    if unknown:
        raise ParameterError("; ".join(map(_unknown, sorted(unknown))))


def _unknown(name: str) -> str:
    near = get_close_matches(name, PARAMETERS, 1)
    hint = f"did you mean {near[0]}?" if near else "docs/parameters.md lists those there are"
    return f"there is no parameter {name!r}, {hint}"


def _check(changed: list[Parameter[Any]]) -> SetParametersResult:
    """What a range cannot say."""
    for parameter in changed:
        choices = CHOICES.get(parameter.name)
        if choices is not None and parameter.value not in choices:
            reason = f"{parameter.value!r} is not one of {', '.join(choices)}"
            return SetParametersResult(successful=False, reason=reason)
        if parameter.name == "temperature" and 0 < parameter.value < COLDEST:
            reason = f"temperature must be 0 or at least {COLDEST:g}, not {parameter.value:g}"
            return SetParametersResult(successful=False, reason=reason)
    return SetParametersResult(successful=True)


def read(node: Node) -> Settings:
    """The current values."""
    return Settings(**{name: node.get_parameter(name).value for name in PARAMETERS})


@dataclass(frozen=True)
class Generation:
    """How an answer is generated: keyword arguments of `FrameSession.ask`."""

    max_new_tokens: int
    sampling: Sampling | None


def read_generation(node: Node) -> Generation:
    """As the parameters are now; a question keeps what it was asked with."""
    from sdvlm_core.model.generation import Sampling  # imports torch

    limit, temperature, top_k, seed = (
        node.get_parameter(name).value
        for name in ("max_new_tokens", "temperature", "top_k", "seed")
    )
    return Generation(limit, Sampling(temperature, top_k, seed) if temperature else None)


def document() -> str:
    """docs/parameters.md: a table of every parameter, from the declarations."""
    lines = [
        "# Parameters of the node",
        "",
        "Written by `python -m sdvlm_ros.parameters > docs/parameters.md` from the declarations in",
        "`sdvlm_ros/parameters.py`; `ros2 param describe /spatial_query NAME` says the same.",
        "A name that is not here is an error at start. *Running* ones may be changed at any time",
        "and hold from the next question on; the others are read when the node is configured.",
        "`qos_overrides.*` and `use_sim_time` are every ROS 2 node's.",
        "",
        "| name | default | range | changed | meaning |",
        "|---|---|---|---|---|",
    ]
    for name, (default, descriptor) in PARAMETERS.items():
        ranges = [*descriptor.integer_range, *descriptor.floating_point_range]
        allowed = [f"{span.from_value:.10g} to {span.to_value:.10g}" for span in ranges]
        allowed += filter(None, [descriptor.additional_constraints])
        shown = f"`{str(default).lower() if isinstance(default, bool) else default}`"
        cells = (
            name,
            shown if default != "" else "empty",
            "; ".join(allowed),
            "at start" if descriptor.read_only else "running",
            descriptor.description,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(document(), end="")
