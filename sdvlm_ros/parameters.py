"""Parameters: declared once with description, range and read_only, read as one frozen dataclass.

This file is the reference of what can be set; config/spatial_query.params.yaml repeats the
defaults for people who edit yaml. Does not know what the values are used for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from sdvlm_core.noise import DEFAULT_SENSOR, SENSORS, sensor_noise

RGB_TRANSPORTS = ("raw", "compressed")
DEPTH_TRANSPORTS = ("raw", "compressedDepth")


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
    sensor: str
    buffer_size: int
    sync_slop: float
    queue_size: int
    max_age: float
    timeout: float
    tf_timeout: float


def _text(description: str) -> ParameterDescriptor:
    return ParameterDescriptor(description=description, read_only=True)


def _count(description: str, low: int, high: int) -> ParameterDescriptor:
    allowed = IntegerRange(from_value=low, to_value=high, step=1)
    return ParameterDescriptor(description=description, read_only=True, integer_range=[allowed])


def _seconds(description: str, low: float, high: float) -> ParameterDescriptor:
    allowed = FloatingPointRange(from_value=low, to_value=high, step=0.0)
    return ParameterDescriptor(
        description=f"{description} Seconds; may be changed while the node runs.",
        floating_point_range=[allowed],
    )


# Name -> (default, descriptor). Those in seconds are dynamic: they are read at every question.
PARAMETERS: dict[str, tuple[Any, ParameterDescriptor]] = {
    "model": (
        "nano",
        _text("The model: nano, a directory, or a name that `sdvlm download` has brought."),
    ),
    "device": (
        "auto",
        _text("Where it runs: auto (CUDA if there is one), cpu, cuda, cuda:1, balanced (all GPUs)"),
    ),
    "dtype": (
        "auto",
        _text(
            "Its numbers: float32, float16, bfloat16; auto = float16 on CUDA, float32 on the CPU"
        ),
    ),
    "quantization": ("none", _text("Of its weights: none, int8, int4, bnb-int8 or bnb-nf4.")),
    "attention": ("auto", _text("auto, eager, sdpa or flash_attention_2.")),
    "depth_estimator": (
        "",
        _text("Directory or name of a depth network; then no depth topic is subscribed to."),
    ),
    "allow_download": (
        False,
        _text("Download models that are not here when configured; never while answering."),
    ),
    "autostart": (True, _text("Configure and activate at start, without a lifecycle manager.")),
    "rgb_transport": ("raw", _text(f"Colour arrives as: {', '.join(RGB_TRANSPORTS)}.")),
    "depth_transport": ("raw", _text(f"Depth arrives as: {', '.join(DEPTH_TRANSPORTS)}.")),
    "sensor": (
        DEFAULT_SENSOR,
        _text(f"The depth camera, for the uncertainty of measurements: {', '.join(SENSORS)}."),
    ),
    "buffer_size": (8, _count("Undecoded messages kept for each input.", 1, 300)),
    "queue_size": (8, _count("Questions that may wait; beyond it they are refused.", 1, 1000)),
    "sync_slop": (0.03, _seconds("How far apart the stamps of one frame may be.", 0.0, 10.0)),
    "max_age": (1.0, _seconds("Refuse an image older than this.", 0.001, 1e6)),
    "timeout": (30.0, _seconds("Give up on a question after this, waiting included.", 0.001, 1e6)),
    "tf_timeout": (0.2, _seconds("Wait this long for a transform to target_frame.", 0.0, 60.0)),
}


def declare(node: Node) -> None:
    """Declare every parameter; overrides from the command line and yaml apply here."""
    for name, (default, descriptor) in PARAMETERS.items():
        node.declare_parameter(name, default, descriptor)


def read(node: Node) -> Settings:
    """The current values.

    Raises:
        ValueError: a transport that does not exist; says which there are.
        QueryError: a sensor that does not exist.
    """
    settings = Settings(**{name: node.get_parameter(name).value for name in PARAMETERS})
    if settings.rgb_transport not in RGB_TRANSPORTS:
        raise ValueError(f"rgb_transport is {settings.rgb_transport!r}, not in {RGB_TRANSPORTS}")
    if settings.depth_transport not in DEPTH_TRANSPORTS:
        raise ValueError(
            f"depth_transport is {settings.depth_transport!r}, not in {DEPTH_TRANSPORTS}"
        )
    sensor_noise(settings.sensor)  # raises on a name that does not exist
    return settings
