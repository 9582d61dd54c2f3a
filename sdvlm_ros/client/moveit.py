"""A measured box as the dictionary of a moveit_msgs/CollisionObject, without MoveIt.

    from rosidl_runtime_py.set_message import set_message_fields
    set_message_fields(message := CollisionObject(), collision_object(region, response.header))

(CollisionObject.operation keeps its default, ADD.) Does not know planning scenes or the yaw of the
object: the box contains the object at any yaw.
"""

from __future__ import annotations

import math
from typing import Any

from std_msgs.msg import Header

from sdvlm.msg import RegionMeasurement
from sdvlm_core.cautions import UNFIT
from sdvlm_ros.client.messages import NoMeasurement

#: shape_msgs/SolidPrimitive.BOX
BOX = 1
_UNFIT = frozenset(code.value for code in UNFIT)


def collision_object(
    region: RegionMeasurement,
    header: Header,
    *,
    up: tuple[float, float, float] = (0.0, 0.0, 1.0),
    std_devs: float = 2.0,
) -> dict[str, Any]:
    """A box around the measured object, with its height along `up`.

    Args:
        region: a region of the response to ~/measure_regions.
        header: header of the same response; its frame is the frame of the collision object.
        up: direction away from the support, in that frame; the default suits frames such as
            base_link. Required in an optical frame.
        std_devs: margin on every side, in standard deviations of size and position.

    Raises:
        NoMeasurement: a side or the position is unknown, or the measurement is unfit to act on.
        ValueError: `up` has zero length, or is missing for an optical frame.
    """
    if header.frame_id.endswith(("optical", "optical_frame")) and up == (0.0, 0.0, 1.0):
        raise ValueError(
            f"z of {header.frame_id} is the viewing direction, not up: measure with "
            "target_frame='base_link', or pass `up` in this frame"
        )
    centre = (region.position.x, region.position.y, region.position.z)
    spread = region.position_std_dev
    sides = [
        side + std_devs * deviation + 2 * std_devs * spread
        for side, deviation in (
            (region.length, region.length_std_dev),
            (region.width, region.width_std_dev),
            (region.height, region.height_std_dev),
        )
    ]
    if not all(map(math.isfinite, (*centre, *sides))):
        raise NoMeasurement(
            f"no collision box for {region.label}, its size or position is unknown: "
            + (", ".join(region.warnings) or "no reading")
        )
    unfit = [code for code in region.warnings if code in _UNFIT]
    if unfit:
        raise NoMeasurement(
            f"no collision box for {region.label}, its measurement is unfit to act on: "
            + ", ".join(unfit)
        )
    length, width, height = sides
    across = math.hypot(length, width)  # contains the object at any yaw
    x, y, z, w = _rotation_of_z_to(up)
    pose = {
        "position": dict(zip("xyz", centre, strict=True)),
        "orientation": {"x": x, "y": y, "z": z, "w": w},
    }
    return {
        "header": {
            "stamp": {"sec": header.stamp.sec, "nanosec": header.stamp.nanosec},
            "frame_id": header.frame_id,
        },
        "id": region.label,
        "pose": pose,
        "primitives": [{"type": BOX, "dimensions": [across, across, height]}],
        # Relative to `pose`.
        "primitive_poses": [
            {
                "position": {"x": 0.0, "y": 0.0, "z": 0.0},
                "orientation": {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0},
            }
        ],
    }


def _rotation_of_z_to(direction: tuple[float, float, float]) -> tuple[float, float, float, float]:
    """Quaternion (x, y, z, w) of the shortest rotation of +z onto a direction."""
    length = math.hypot(*direction)
    if not length > 0 or not math.isfinite(length):
        raise ValueError(f"up is {direction}; it must be a direction, such as (0, 0, 1)")
    x, y, z = direction
    across = math.hypot(x, y)
    half = math.atan2(across, z) / 2
    if across == 0:
        return (0.0, 0.0, 0.0, 1.0) if z > 0 else (1.0, 0.0, 0.0, 0.0)
    # Divided first: the inverse of a tiny length is infinite.
    sine = math.sin(half)
    return -y / across * sine, x / across * sine, 0.0, math.cos(half)
