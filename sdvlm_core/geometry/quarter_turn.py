"""QuarterTurn: an image turned by a multiple of 90 degrees, so that up is nearest to its top.

Geometry has rules with a direction: an object touches its support at its lower end, and its view
ends at the sides and below. They are written once, for an upright image. A camera that is mounted
sideways or upside-down is turned here, exactly and without resampling, and what was found is turned
back. Knows pixels, vectors and regions. Does not know which way is up (`scene`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sdvlm_core.frame import CameraIntrinsics, Region, RgbdFrame

Points = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.intp]
Vector = tuple[float, float, float]
Box = tuple[float, float, float, float]
#: One counter-clockwise quarter turn of the optical frame: x' = y, y' = -x.
_QUARTER = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class QuarterTurn:
    """`turns` quarter turns, counter-clockwise, of a `width` x `height` image.

    "Upright" is the turned image and its optical frame, "own" is the camera's.
    """

    turns: int
    width: int
    height: int

    @property
    def _rotation(self) -> Points:
        """(3, 3) from the own to the upright optical frame."""
        return np.linalg.matrix_power(_QUARTER, self.turns)

    @property
    def back(self) -> QuarterTurn:
        """The turn from upright to own."""
        width, height = (self.width, self.height)[:: -1 if self.turns % 2 else 1]
        return QuarterTurn(-self.turns % 4, width, height)

    def image(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """An image (H, W, ...) upright; a view."""
        return np.rot90(image, self.turns)

    def vector(self, vector: Vector) -> Vector:
        """A vector in the own frame -> in the upright frame."""
        x, y, z = (float(value) for value in self._rotation @ np.array(vector))
        return x, y, z

    def points(self, points: Points) -> Points:
        """Points (N, 3) in the own frame -> in the upright frame, metres."""
        turned: Points = points @ self._rotation.T
        return turned

    def pixels(self, rows: Pixels, columns: Pixels) -> tuple[Pixels, Pixels]:
        """Rows and columns (N,) of the own image -> of the upright one."""
        last_column, last_row = self.width - 1, self.height - 1
        if self.turns == 1:
            return last_column - columns, rows
        if self.turns == 2:
            return last_row - rows, last_column - columns
        if self.turns == 3:
            return columns, last_row - rows
        return rows, columns

    def box(self, box: Box) -> Box:
        """A box (x1, y1, x2, y2), pixels, x2 and y2 exclusive -> in the upright image."""
        x1, y1, x2, y2 = box
        if self.turns == 1:
            return y1, self.width - x2, y2, self.width - x1
        if self.turns == 2:
            return self.width - x2, self.height - y2, self.width - x1, self.height - y1
        if self.turns == 3:
            return self.height - y2, x1, self.height - y1, x2
        return box

    def point(self, point: tuple[float, float]) -> tuple[float, float]:
        """A pixel position (u, v) -> in the upright image."""
        u, v = point
        if self.turns == 1:
            return v, self.width - 1 - u
        if self.turns == 2:
            return self.width - 1 - u, self.height - 1 - v
        if self.turns == 3:
            return self.height - 1 - v, u
        return point

    def region(self, region: Region) -> Region:
        """A region of the own image -> of the upright one."""
        if self.turns == 0:
            return region
        if region.box is not None:
            return replace(region, box=self.box(region.box))
        if region.point is not None:
            return replace(region, point=self.point(region.point))
        assert region.mask is not None
        return replace(region, mask=self.image(region.mask))

    def intrinsics(self, own: CameraIntrinsics) -> CameraIntrinsics:
        """The intrinsics of the own image -> of the upright one."""
        cx, cy = self.point((own.cx, own.cy))
        fx, fy = (own.fx, own.fy)[:: -1 if self.turns % 2 else 1]
        return CameraIntrinsics(fx, fy, cx, cy, self.back.width, self.back.height)

    def frame(self, frame: RgbdFrame) -> RgbdFrame:
        """The frame upright: the same rays and readings; colour and depth are views."""
        if self.turns == 0:
            return frame
        return replace(
            frame,
            rgb=self.image(frame.rgb),
            depth=None if frame.depth is None else self.image(frame.depth),
            intrinsics=None if frame.intrinsics is None else self.intrinsics(frame.intrinsics),
            up=None if frame.up is None else self.vector(frame.up),
            lens=None,
        )


def turns_to_upright(up: Vector) -> int:
    """Quarter turns that bring an up vector, in the optical frame, nearest to the image's top.

    0 for a vector along the optical axis: no turn is nearer.
    """
    x, y, _ = up
    return int(np.argmax((-y, x, y, -x)))
