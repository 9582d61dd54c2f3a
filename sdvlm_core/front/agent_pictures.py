"""Picture: what a tool of agents knows of a captured frame, and the pixels that the agent sees.

An agent sees a picture of limited size, and gives pixels of this picture; a backend takes those of
the camera's image. Holds no images. Does not know tools or backends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from sdvlm_core.camera.as_taken import project
from sdvlm_core.errors import FrameError, shown
from sdvlm_core.frame import Lens, Region, is_in_image
from sdvlm_core.front.agent_arguments import Box, PlaceArgument, Point
from sdvlm_core.front.agent_results import RegionResult
from sdvlm_core.front.backend import Shot

#: Longest side of a picture, pixels. Larger images are scaled down.
MAX_SIDE = 1280
_JPEG_QUALITY = 90


@dataclass(frozen=True)
class Picture:
    """A captured frame without its images.

    Attributes:
        stamp_ns, frame_id, cautions, camera: as in `Shot`.
        width, height: of the camera's image, pixels.
    """

    stamp_ns: int
    frame_id: str
    cautions: tuple[str, ...]
    camera: Lens | None
    width: int
    height: int

    @property
    def scale(self) -> float:
        """Pixels of the camera's image per pixel of the picture; at least 1."""
        return max(1.0, max(self.width, self.height) / MAX_SIDE)

    def region(self, place: PlaceArgument) -> Region:
        """A region of the picture in pixels of the camera's image."""
        scale = self.scale
        box = point = None
        if place.box is not None:
            x1, y1, x2, y2 = place.box
            box = (x1 * scale, y1 * scale, x2 * scale, y2 * scale)
        if place.point is not None:  # pixel centres are at integers
            u, v = place.point
            point = ((u + 0.5) * scale - 0.5, (v + 0.5) * scale - 0.5)
        return Region(place.label, box=box, point=point)

    def shown_point(self, point: Point) -> Point:
        """A pixel of the camera's image in the picture."""
        u, v = point
        return (u + 0.5) / self.scale - 0.5, (v + 0.5) / self.scale - 0.5

    def of_frame(self, cautions: Sequence[str] | None = None) -> dict[str, Any]:
        """The fields of `agent_results.OfFrame`; without cautions those of the frame."""
        codes = self.cautions if cautions is None else cautions
        stamp, frame_id = str(self.stamp_ns), shown(self.frame_id)
        return {"stamp": stamp, "frame_id": frame_id, "cautions": [*codes]}

    def pixel_of(self, position: dict[str, float]) -> Point | None:
        """The pixel of the camera's image that shows a position; None = none does."""
        if self.camera is None:
            return None
        u, v = project(self.camera, np.array([[position[axis] for axis in "xyz"]]))[0]
        return (float(u), float(v)) if is_in_image(u, v, self.width, self.height) else None

    def outline(self, measured: RegionResult) -> Box | None:
        """The rectangle around the measured box in the picture; None = a part is not in view."""
        sides = (measured.length_m, measured.width_m, measured.height_m)
        numbers = (*sides, *measured.position_m, *measured.orientation_xyzw)
        if self.camera is None or None in numbers:
            return None
        half = np.array([sides], dtype=np.float64) / 2
        corners = np.array([*product((-1, 1), repeat=3)]) * half
        turned = Rotation.from_quat(measured.orientation_xyzw).apply(corners)
        pixels = project(self.camera, turned + np.array(measured.position_m))
        if not np.isfinite(pixels).all():
            return None
        size = (self.width, self.height)
        (x1, y1), (x2, y2) = (
            np.clip(end(axis=0), 0, size) / self.scale for end in (pixels.min, pixels.max)
        )
        return float(x1), float(y1), float(x2), float(y2)


def picture_of(shot: Shot) -> Picture:
    """What is remembered of a frame."""
    height, width = shot.rgb.shape[:2]
    return Picture(shot.stamp_ns, shot.frame_id, shot.cautions, shot.camera, width, height)


def jpeg(shot: Shot, scale: float) -> tuple[bytes, tuple[int, int]]:
    """The picture as JPEG, and its width and height.

    Raises:
        FrameError: it cannot be written.
    """
    rgb = shot.rgb
    if scale > 1:
        height, width = (round(side / scale) for side in rgb.shape[:2])
        rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    written, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not written:
        raise FrameError("the picture cannot be written as JPEG")
    return data.tobytes(), (rgb.shape[1], rgb.shape[0])
