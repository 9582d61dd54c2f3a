"""Measured boxes and support planes as dictionaries of moveit_msgs/CollisionObject, without MoveIt.

    from rosidl_runtime_py.set_message import set_message_fields
    set_message_fields(message := CollisionObject(), collision_object(region, response.header))

(CollisionObject.operation keeps its default, ADD.) Does not know planning scenes. The measurement
has no standard deviation of the orientation: the box of an object whose length and width are about
equal may be turned about its vertical axis.
"""

from __future__ import annotations

import math
from typing import Any

from std_msgs.msg import Header

from sdvlm.msg import RegionMeasurement
from sdvlm_ros.client.messages import NoMeasurement, unfit_codes

#: shape_msgs/SolidPrimitive.BOX
BOX = 1
_ORIGIN = {"x": 0.0, "y": 0.0, "z": 0.0}
_NO_ROTATION = {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}


def collision_object(
    region: RegionMeasurement, header: Header, *, std_devs: float = 2.0
) -> dict[str, Any]:
    """The measured box with a margin, in the frame of the header: any frame, optical ones too.

    The dimensions are length, width and height; z of the pose is up, away from the support.

    Args:
        region: a region of the response to ~/measure_regions.
        header: header of the same response; its frame is the frame of the collision object.
        std_devs: margin of every dimension, in standard deviations of the size, plus the same
            number of standard deviations of the position on each side.

    Raises:
        NoMeasurement: a side, the position or the orientation is unknown, or the measurement is
            unfit to act on.
    """
    position, orientation = region.pose.position, region.pose.orientation
    centre = {name: getattr(position, name) for name in "xyz"}
    turned = {name: getattr(orientation, name) for name in "xyzw"}
    spread = region.position_std_dev
    sides = [
        side + std_devs * deviation + 2 * std_devs * spread
        for side, deviation in (
            (region.length, region.length_std_dev),
            (region.width, region.width_std_dev),
            (region.height, region.height_std_dev),
        )
    ]
    if not all(map(math.isfinite, (*centre.values(), *turned.values(), *sides))):
        raise NoMeasurement(
            f"no collision box for {region.label}, its size, position or orientation is unknown: "
            + (", ".join(region.warnings) or "no reading")
        )
    _check_fit(region, "box")
    return {
        "header": _header_fields(header),
        "id": region.label,
        "pose": {"position": centre, "orientation": turned},
        "primitives": [{"type": BOX, "dimensions": sides}],
        # Relative to `pose`.
        "primitive_poses": [{"position": _ORIGIN, "orientation": _NO_ROTATION}],
    }


def support_collision_object(region: RegionMeasurement, header: Header) -> dict[str, Any]:
    """The unbounded plane of the surface that carries the object, in the frame of the header.

    Args:
        region: a region of the response to ~/measure_regions.
        header: header of the same response; its frame is the frame of the collision object.

    Returns:
        A collision object with the id "support of LABEL". It has no margin. A robot that stands on
        the same surface is in collision with it.

    Raises:
        NoMeasurement: no support plane was found, or the measurement is unfit to act on.
    """
    coefficients = [float(value) for value in region.support_plane]
    if not all(map(math.isfinite, coefficients)):
        raise NoMeasurement(
            f"no collision plane for {region.label}, its support plane is unknown: "
            + (", ".join(region.warnings) or "no plane was found")
        )
    _check_fit(region, "plane")
    return {
        "header": _header_fields(header),
        "id": f"support of {region.label}",
        "pose": {"position": _ORIGIN, "orientation": _NO_ROTATION},
        "planes": [{"coef": coefficients}],
        # Relative to `pose`.
        "plane_poses": [{"position": _ORIGIN, "orientation": _NO_ROTATION}],
    }


def _check_fit(region: RegionMeasurement, what: str) -> None:
    if unfit := unfit_codes(region.warnings):
        raise NoMeasurement(
            f"no collision {what} for {region.label}, its measurement is unfit to act on: "
            + ", ".join(unfit)
        )


def _header_fields(header: Header) -> dict[str, Any]:
    stamp = {"sec": header.stamp.sec, "nanosec": header.stamp.nanosec}
    return {"stamp": stamp, "frame_id": header.frame_id}
