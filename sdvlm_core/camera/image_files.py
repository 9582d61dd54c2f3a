"""Image files and intrinsics.json -> RgbdFrame.

Does not know messages or bags.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sdvlm_core.camera.assembly import assemble
from sdvlm_core.camera.image_header import check_size, read_header
from sdvlm_core.camera.intrinsics_file import StatedCalibration, read_intrinsics
from sdvlm_core.camera.plausibility import UNKNOWN_ORIGIN, Origin
from sdvlm_core.camera.settings import DEFAULT_SETTINGS, CameraSettings
from sdvlm_core.errors import DepthError, FrameError
from sdvlm_core.frame import RgbdFrame, depth_in_metres

# The header of a JPEG follows its metadata, which may be long.
_HEADER_BYTES = 4 << 20

Array = npt.NDArray[Any]


def read_frame(
    rgb_path: Path,
    depth_path: Path | None = None,
    intrinsics_path: Path | None = None,
    depth_scale: float | None = None,
    *,
    settings: CameraSettings = DEFAULT_SETTINGS,
    up: tuple[float, float, float] | None = None,
) -> RgbdFrame:
    """Read a frame from image files: an 8-bit colour image and a uint16 depth PNG.

    Images with lens distortion in the intrinsics file are rectified, unless `settings` say that
    they are rectified already.

    Args:
        depth_scale: metres = stored value x `depth_scale`; a stored 0 means "no reading". None =
            as the intrinsics file states, else `settings.depth_unit_m`.
        up: unit vector against gravity in the colour optical frame; None = unknown.

    Raises:
        FrameError: a file is missing, not an image, or of the wrong type; names the file.
        DepthError: the same for depth; or `depth_scale` is not what the intrinsics file states.
        IntrinsicsError: the intrinsics file is not understood, or is for another image size.
    """
    import cv2

    stated = None if intrinsics_path is None else read_intrinsics(Path(intrinsics_path))
    # The Exif orientation would rotate colour only, not depth and intrinsics.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    bgr = _read_image(Path(rgb_path), flags, settings, FrameError, max_bits=8)
    depth, origin = None, UNKNOWN_ORIGIN
    if depth_path is not None:
        unit_m = _depth_unit(depth_scale, stated, settings)
        origin = Origin(depth_unit_m=unit_m)
        raw = _read_image(Path(depth_path), cv2.IMREAD_UNCHANGED, settings, DepthError)
        if raw.dtype != np.uint16 or raw.ndim != 2:
            raise DepthError(
                f"{depth_path} must be a single-channel uint16 image (0 = no reading), "
                f"found {raw.dtype} with shape {raw.shape}"
            )
        depth = depth_in_metres(raw, unit_m)
    rgb = np.ascontiguousarray(bgr[..., ::-1])
    return assemble(rgb, depth, stated.calibration if stated else None, settings, origin, up=up)


def _depth_unit(
    given: float | None, stated: StatedCalibration | None, settings: CameraSettings
) -> float:
    """Metres per unit of the depth image."""
    if given is not None and not (math.isfinite(given) and given > 0):
        raise DepthError(f"depth scale must be positive metres per unit, got {given}")
    in_file = None if stated is None else stated.depth_unit_m
    if given is not None and in_file is not None and not math.isclose(given, in_file, rel_tol=0.01):
        raise DepthError(
            f"the depth scale is {given:g}, but the intrinsics file states {in_file:g} metres per "
            "unit; correct one of them"
        )
    return given or in_file or settings.depth_unit_m


def _read_image(
    path: Path,
    flags: int,
    settings: CameraSettings,
    refusal: type[FrameError],
    max_bits: int = 16,
) -> Array:
    """The decoded PNG or JPEG; its size and bits per channel are checked before it is decoded."""
    import cv2

    try:
        with path.open("rb") as file:
            header = read_header(file.read(_HEADER_BYTES))
    except OSError as error:
        raise refusal(f"{path} cannot be read: {error.strerror}") from error
    if header is None:
        raise refusal(f"{path} is not a PNG or JPEG image, or its header is damaged")
    check_size(header.width, header.height, settings, str(path), refusal)
    if header.bits > max_bits:
        raise refusal(
            f"{path} has {header.bits} bits per channel, but a colour image has {max_bits}: give "
            "the colour image, not depth, or convert it"
        )
    try:
        image = cv2.imread(str(path), flags)
    except cv2.error as error:
        raise refusal(
            f"{path} cannot be decoded; give the complete image in the camera's resolution: {error}"
        ) from error
    if image is None:
        raise refusal(f"{path} is damaged: OpenCV cannot decode it")
    return image
