"""Assembly: decoded colour, depth and calibration -> one checked RgbdFrame.

The one way from a camera's data to a frame, for the node, a bag and image files: sizes, calibration
(`calibration`, `rectification`) and plausibility. Does not know how messages or files are found.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from sdvlm_core.camera.calibration import (
    Calibration,
    Projection,
    calibration_from_message,
    image_projection,
)
from sdvlm_core.camera.decoding import (
    color_from_message,
    depth_from_message,
    image_size,
    integer_depth,
)
from sdvlm_core.camera.messages import nanoseconds
from sdvlm_core.camera.pairing import Input
from sdvlm_core.camera.plausibility import (
    REGISTER,
    UNKNOWN_ORIGIN,
    FrameCaution,
    Origin,
    assumed_rectified,
    find_cautions,
)
from sdvlm_core.camera.protocols import AnyImage, CameraInfoLike
from sdvlm_core.camera.rectification import rectify
from sdvlm_core.camera.settings import DEFAULT_SETTINGS, CameraSettings
from sdvlm_core.cautions import Caution
from sdvlm_core.errors import DepthError, IntrinsicsError
from sdvlm_core.frame import RgbdFrame


def frame_from_messages(
    color: AnyImage,
    depth: AnyImage | None,
    info: CameraInfoLike,
    settings: CameraSettings = DEFAULT_SETTINGS,
    *,
    color_topic: str = "",
    depth_topic: str = "",
    depth_info: CameraInfoLike | None = None,
    up: tuple[float, float, float] | None = None,
) -> RgbdFrame:
    """One frame from its messages, with the colour image's stamp and frame_id.

    Args:
        settings: what the messages do not say, and the limits.
        color_topic, depth_topic: resolved names of the image topics; "" = unknown.
        depth_info: the depth camera's info; None = unknown.
        up: unit vector against gravity in the colour optical frame; None = unknown.

    Raises:
        FrameError: colour is truncated, too large, or has an unsupported encoding.
        DepthError: the same for depth; or its size differs from colour; or its readings cannot be
            right (`plausibility`).
        IntrinsicsError: the camera is not calibrated, the info is for another image size, or its
            values cannot be right (`plausibility`).
    """
    calibration = calibration_from_message(info)
    # The sizes first: whatever does not fit together is refused before it is decoded.
    color_size = image_size(color, settings, Input.COLOR)
    depth_size = None if depth is None else image_size(depth, settings, Input.DEPTH)
    _check_sizes(color_size, depth_size, calibration)
    unit_m = settings.depth_unit_m if depth is not None and integer_depth(depth) else None
    origin = Origin(
        color_id=color.header.frame_id,
        depth_id="" if depth is None else depth.header.frame_id,
        depth_unit_m=unit_m,
        depth_calibration=_if_calibrated(depth_info),
    )
    return assemble(
        color_from_message(color, settings),
        None if depth is None else depth_from_message(depth, settings),
        calibration,
        settings,
        origin,
        color_topic=color_topic,
        depth_topic=depth_topic,
        stamp_ns=nanoseconds(color.header.stamp),
        up=up,
    )


def _if_calibrated(info: CameraInfoLike | None) -> Calibration | None:
    """What a depth camera's info states; None = nothing, which is no error: depth needs none."""
    if info is None:
        return None
    try:
        calibration = calibration_from_message(info)
        _image_size(calibration)
    except IntrinsicsError:
        return None
    return calibration


def assemble(
    rgb: npt.NDArray[np.uint8],
    depth: npt.NDArray[np.float32] | None,
    calibration: Calibration | None,
    settings: CameraSettings,
    origin: Origin = UNKNOWN_ORIGIN,
    *,
    color_topic: str = "",
    depth_topic: str = "",
    stamp_ns: int = 0,
    up: tuple[float, float, float] | None = None,
) -> RgbdFrame:
    """One checked, rectified frame from decoded images; see `frame_from_messages`.

    Args:
        rgb: (H, W, 3) uint8.
        depth: (H, W) float32 metres, NaN = no reading; None = no depth.
        calibration: of the colour camera; None = unknown.
        origin: what is known about the source of the images.
    """
    depth_size = None if depth is None else depth.shape[1::-1]
    _check_sizes(rgb.shape[1::-1], depth_size, calibration)
    if calibration is None:
        cautions = find_cautions(rgb, depth, None, Projection.RECTIFIED, settings, origin)
        return _with_cautions(RgbdFrame(rgb, depth, stamp_ns=stamp_ns, up=up), cautions, origin)
    projection = image_projection(color_topic, calibration, settings)
    cautions = find_cautions(rgb, depth, calibration, projection, settings, origin)
    images = rectify(
        rgb, depth, calibration, settings, color_topic=color_topic, depth_topic=depth_topic
    )
    if Caution.ASSUMED_RECTIFIED in images.cautions:
        cautions += (assumed_rectified(calibration, color_topic, depth_topic),)
    frame = RgbdFrame(
        rgb=images.rgb,
        depth=images.depth,
        intrinsics=images.intrinsics,
        stamp_ns=stamp_ns,
        up=up,
        lens=images.lens,
    )
    return _with_cautions(frame, cautions, origin)


def _with_cautions(
    frame: RgbdFrame, cautions: tuple[FrameCaution, ...], origin: Origin
) -> RgbdFrame:
    """The frame with each caution once, and with every reason."""
    return replace(
        frame,
        frame_id=origin.color_id,
        cautions=tuple(dict.fromkeys(found.caution for found in cautions)),
        reasons=tuple(found.reason for found in cautions),
    )


def _check_sizes(
    color: tuple[int, ...], depth: tuple[int, ...] | None, calibration: Calibration | None
) -> None:
    """Raise an error with all three sizes (width, height) unless they are equal."""
    image = color if calibration is None else _image_size(calibration)
    found = f"camera_info is {_size(image)}{_window(calibration)}"
    if depth is not None and depth != color:
        also = "" if calibration is None else f" (and {found})"
        raise DepthError(f"depth is {_size(depth)} but colour is {_size(color)}{also}; {REGISTER}")
    if image != color:
        also = "" if depth is None else f" (and depth is {_size(depth)})"
        raise IntrinsicsError(
            f"{found} but colour is {_size(color)}{also}; use the camera_info topic, or the "
            "intrinsics file, of the colour image"
        )


def _image_size(calibration: Calibration) -> tuple[int, int]:
    """(width, height) of the images that a calibration describes."""
    image = calibration.intrinsics(Projection.RAW)
    return image.width, image.height


def _size(size: tuple[int, ...]) -> str:
    return f"{size[0]}x{size[1]}"


def _window(calibration: Calibration | None) -> str:
    """Names the region of interest and binning that make a camera_info's size."""
    window = None if calibration is None else calibration.window
    if window is None:
        return ""
    return (
        f" (region of interest {window.width}x{window.height} at {window.x}, {window.y}; binning "
        f"{window.bin_x}x{window.bin_y})"
    )
