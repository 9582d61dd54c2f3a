"""Descriptors of parameters: what `ros2 param describe` prints, and rclpy checks.

Each function makes one kind of descriptor. Does not know which parameters there are (`parameters`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor


def fixed(description: str) -> ParameterDescriptor:
    """A value that is read when the node is configured."""
    return ParameterDescriptor(description=description, read_only=True)


def changeable(description: str) -> ParameterDescriptor:
    """A value that is read for every question."""
    return ParameterDescriptor(description=description)


def choice(allowed: Sequence[str], description: str, read_only: bool = True) -> ParameterDescriptor:
    """One of several names; rclpy does not check them."""
    return ParameterDescriptor(
        description=description,
        read_only=read_only,
        additional_constraints="one of " + ", ".join(allowed),
    )


def count(description: str, low: int, high: int, read_only: bool = True) -> ParameterDescriptor:
    """A whole number from `low` to `high`."""
    allowed = IntegerRange(from_value=low, to_value=high, step=1)
    return ParameterDescriptor(
        description=description, read_only=read_only, integer_range=[allowed]
    )


def number(
    description: str, low: float, high: float, read_only: bool = False
) -> ParameterDescriptor:
    """A number from `low` to `high`."""
    allowed = FloatingPointRange(from_value=low, to_value=high, step=0.0)
    return ParameterDescriptor(
        description=description, read_only=read_only, floating_point_range=[allowed]
    )


def table_row(name: str, default: Any, descriptor: ParameterDescriptor) -> str:
    """A row of docs/parameters.md: name, default, range, when it may be changed, meaning."""
    ranges = [*descriptor.integer_range, *descriptor.floating_point_range]
    allowed = [f"{span.from_value:.10g} to {span.to_value:.10g}" for span in ranges]
    allowed += filter(None, [descriptor.additional_constraints])
    shown = f"`{str(default).lower() if isinstance(default, bool) else default}`"
    cells = (
        name,
        shown if default not in ("", [""]) else "empty",
        "; ".join(allowed),
        "at start" if descriptor.read_only else "running",
        descriptor.description,
    )
    return f"| {' | '.join(cells)} |"
