"""A frame as the camera took it: its images and its projection before lens distortion was removed.

Callers' regions are in pixels of the camera's image, so people must see that image. It is made from
the rectified one, which has less at the corners. Does not know what is drawn into it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sdvlm_core.camera.distortion import distort, undistort
from sdvlm_core.frame import Lens, RgbdFrame


def images_as_taken(
    frame: RgbdFrame,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32] | None]:
    """Colour (H, W, 3) and depth (H, W) in pixels of the camera's image.

    The frame's own arrays, unless it was rectified here. What the rectified image does not show is
    black, and without a reading.
    """
    if frame.lens is None or frame.intrinsics is None:
        return frame.rgb, frame.depth
    import cv2

    k, to = frame.lens.intrinsics, frame.intrinsics
    u, v = np.meshgrid(np.arange(k.width), np.arange(k.height))
    seen = np.stack([(u - k.cx) / k.fx, (v - k.cy) / k.fy], axis=-1).reshape(-1, 2)
    pixels = undistort(frame.lens, seen) * (to.fx, to.fy) + (to.cx, to.cy)
    maps = np.nan_to_num(pixels, nan=-1e6).astype(np.float32).reshape(k.height, k.width, 2)
    rgb = cv2.remap(frame.rgb, maps, None, cv2.INTER_LINEAR)
    if frame.depth is None:
        return rgb, None
    outside = (float("nan"),) * 4
    depth = cv2.remap(frame.depth, maps, None, cv2.INTER_NEAREST, borderValue=outside)
    return rgb, depth


def projection_as_taken(frame: RgbdFrame) -> Lens | None:
    """The projection of the camera's image; without coefficients, a pinhole's. None = unknown."""
    if frame.lens is not None or frame.intrinsics is None:
        return frame.lens
    return Lens(frame.intrinsics, "", ())


def project(camera: Lens, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Points (N, 3) metres in the optical frame -> pixels (N, 2).

    NaN for a point that is not in front of the camera, or that its image does not show.
    """
    k = camera.intrinsics
    with np.errstate(all="ignore"):
        slopes = np.where(points[:, 2:] > 0, points[:, :2] / points[:, 2:], np.nan)
        if camera.coefficients:
            slopes = distort(camera, slopes)
        return slopes * (k.fx, k.fy) + (k.cx, k.cy)
