"""Image files and intrinsics.json -> RgbdFrame.

Does not know messages or bags.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sdvlm_core.camera.settings import DEFAULT_SETTINGS, CameraSettings
from sdvlm_core.errors import DepthError, FrameError
from sdvlm_core.frame import CameraIntrinsics, RgbdFrame, depth_in_metres

Array = npt.NDArray[Any]


def read_frame(
    rgb_path: Path,
    depth_path: Path | None = None,
    intrinsics_path: Path | None = None,
    depth_scale: float = 0.001,
    *,
    settings: CameraSettings = DEFAULT_SETTINGS,
    up: tuple[float, float, float] | None = None,
) -> RgbdFrame:
    """Read a frame from image files: an 8-bit colour image and a uint16 depth PNG.

    Metres = stored value x `depth_scale`; a stored 0 means "no reading".

    Raises:
        FrameError: a file is missing, not an image, or of the wrong type; names the file.
    """
    import cv2

    # The Exif orientation would rotate colour only, not depth and intrinsics.
    bgr = _read_image(rgb_path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION, FrameError)
    depth = None
    if depth_path is not None:
        if not (math.isfinite(depth_scale) and depth_scale > 0):
            raise DepthError(f"depth scale must be positive metres per unit, got {depth_scale}")
        raw = _read_image(depth_path, cv2.IMREAD_UNCHANGED, DepthError)
        if raw.dtype != np.uint16 or raw.ndim != 2:
            raise DepthError(
                f"{depth_path} must be a single-channel uint16 image (0 = no reading), "
                f"found {raw.dtype} with shape {raw.shape}"
            )
        depth = depth_in_metres(raw, depth_scale)
    intrinsics = CameraIntrinsics.from_json(intrinsics_path) if intrinsics_path else None
    return RgbdFrame(np.ascontiguousarray(bgr[..., ::-1]), depth, intrinsics, up=up)


def _read_image(path: Path, flags: int, refusal: type[FrameError]) -> Array:
    import cv2

    try:
        image = cv2.imread(str(path), flags)
    except cv2.error as error:
        raise refusal(
            f"{path} cannot be decoded; give the complete image in the camera's resolution: {error}"
        ) from error
    if image is None:
        raise refusal(f"{path} is missing or not an image that OpenCV can read")
    return image
