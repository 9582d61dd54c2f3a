"""Plane: a horizontal surface of a frame that objects stand on (floor, table, seat).

Heights above it, and its outline in the image. Does not know how it is found (`plane_search`),
regions or objects.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from sdvlm_core.geometry.point_cloud import Cloud, DepthImage, Points

#: The image's up axis, where nothing better is known (REP-103: Y is down).
IMAGE_UP = (0.0, -1.0, 0.0)
#: Readings of a plane are this near to it, as a fraction of the distance.
BAND_FRACTION = 0.008


@dataclass(frozen=True)
class Plane:
    """The points p with normal . p + offset = 0. The camera is on the positive side.

    Attributes:
        normal: unit vector, up.
        offset: the camera's height above the plane, metres.
        spread: robust standard deviation of its readings along the normal, per metre of distance.
        detected: False for the replacement plane that has only an up axis.
        share: fraction of the frame's readings that lie on it.
    """

    normal: tuple[float, float, float]
    offset: float
    spread: float
    detected: bool = True
    share: float = 0.0

    def heights(self, points: Points) -> Points:
        """Heights (N,) above the plane of points (N, 3), metres."""
        return points @ np.array(self.normal) + self.offset

    def height_image(self, cloud: Cloud, rows: slice, columns: slice) -> DepthImage:
        """Heights above the plane of a part of the image, metres; valid where depth > 0."""
        nx, ny, nz = self.normal
        across = (nx * cloud.ray_x[columns]).astype(np.float32)
        down = (ny * cloud.ray_y[rows] + nz).astype(np.float32)
        heights = across + down[:, None]  # per metre of depth
        heights *= cloud.depth[rows, columns]
        heights += np.float32(self.offset)
        return heights

    def raised(self, height: float, spread: float | None = None) -> Plane:
        """The parallel plane that is `height` metres higher."""
        return replace(
            self,
            offset=self.offset - height,
            spread=self.spread if spread is None else spread,
        )


def no_plane(up: tuple[float, float, float] = IMAGE_UP) -> Plane:
    """The replacement without a detected support: an up axis through the camera."""
    return Plane(up, 0.0, 0.0, detected=False)


def plane_outline(cloud: Cloud, plane: Plane) -> list[npt.NDArray[np.int32]]:
    """Pixel polygons (M, 2) around the parts of the image that show the plane.

    Parts smaller than 1 % of the image are left out.
    """
    everywhere = slice(None)
    height = plane.height_image(cloud, everywhere, everywhere)
    near = np.abs(height) < np.maximum(BAND_FRACTION, 3 * plane.spread) * cloud.depth
    closed = cv2.morphologyEx(
        (near & (cloud.depth > 0)).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8)
    )
    contours, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_TC89_L1)
    min_area = 0.01 * cloud.depth.size
    return [contour[:, 0] for contour in contours if cv2.contourArea(contour) >= min_area]


def points_on(cloud: Cloud, plane: Plane, outline: npt.NDArray[np.int32]) -> Points:
    """Intersections (M, 3) of the rays of pixels (M, 2) with a plane, metres."""
    columns, rows = outline.T
    rays = np.stack([cloud.ray_x[columns], cloud.ray_y[rows], np.ones(len(outline))], axis=1)
    return rays * (-plane.offset / (rays @ np.array(plane.normal)))[:, None]
