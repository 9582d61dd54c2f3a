"""RigidTransform: points, orientations and planes from one frame into another.

Made from a geometry_msgs/Transform with numpy alone, so that a target frame needs no tf2 package
beside tf2_ros. Does not know frames' names, stamps, or where a transform comes from. The
uncertainty of a transform is not known, so none is added.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from geometry_msgs.msg import Point, Pose, Quaternion, Transform
from scipy.spatial.transform import Rotation

from sdvlm_core.errors import TransformError


class RigidTransform:
    """p' = R p + t: a point p of the source frame becomes p' in the target frame, metres.

    Raises:
        TransformError: the rotation is no rotation, or the translation is not finite.
    """

    def __init__(self, transform: Transform) -> None:
        q, t = transform.rotation, transform.translation
        self._rotation = rotation((q.x, q.y, q.z, q.w))
        self._translation = np.array([t.x, t.y, t.z])
        if not np.isfinite(self._translation).all():
            raise TransformError(f"the transform's translation ({t.x}, {t.y}, {t.z}) is not finite")

    def point(self, point: Point) -> Point:
        """The same point in the target frame; NaN stays NaN."""
        moved = self._rotation.apply((point.x, point.y, point.z)) + self._translation
        return Point(**dict(zip("xyz", moved.tolist(), strict=True)))

    def orientation(self, orientation: Quaternion) -> Quaternion:
        """The same orientation in the target frame; NaN stays NaN."""
        values = (orientation.x, orientation.y, orientation.z, orientation.w)
        if not all(map(math.isfinite, values)):
            return orientation
        turned = (self._rotation * Rotation.from_quat(values)).as_quat()
        return Quaternion(**dict(zip("xyzw", turned.tolist(), strict=True)))

    def pose(self, pose: Pose) -> Pose:
        """The same pose in the target frame; NaN stays NaN."""
        return Pose(
            position=self.point(pose.position), orientation=self.orientation(pose.orientation)
        )

    def points(self, points: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The same points (N, 3) in the target frame."""
        moved = self._rotation.apply(points) + self._translation
        return moved.astype(np.float32)

    def plane(self, plane: Sequence[float]) -> npt.NDArray[np.float64]:
        """The same plane (a, b, c, d), a x + b y + c z + d = 0, in the target frame.

        From p = R^T (p' - t): n' = R n and d' = d - n' . t.
        """
        normal = self._rotation.apply(plane[:3])
        return np.array([*normal, plane[3] - normal @ self._translation])


def rotation(quaternion: tuple[float, float, float, float]) -> Rotation:
    """The rotation of a quaternion.

    Args:
        quaternion: x, y, z, w; of any length but 0.

    Raises:
        TransformError: the quaternion is no rotation: 0 or not finite.
    """
    length = math.hypot(*quaternion)
    if not math.isfinite(length) or length < 1e-6:
        raise TransformError(f"the transform's rotation {quaternion} is no unit quaternion")
    return Rotation.from_quat(quaternion)


def rotated_z(quaternion: tuple[float, float, float, float]) -> tuple[float, float, float]:
    """The unit vector that (0, 0, 1) becomes; arguments and errors as of `rotation`."""
    x, y, z = (float(value) for value in rotation(quaternion).apply((0.0, 0.0, 1.0)))
    return x, y, z
