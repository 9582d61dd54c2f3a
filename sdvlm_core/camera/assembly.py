"""Assembly: decoded colour, depth and calibration -> one checked RgbdFrame.

The one way from a camera's data to a frame, for the node, a bag and image files: sizes, calibration
(`calibration`, `rectification`) and plausibility. Does not know how messages or files are found.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sdvlm_core.camera.calibration import Calibration, Projection, calibration_from_message
from sdvlm_core.camera.decoding import color_from_message, depth_from_message
from sdvlm_core.camera.messages import nanoseconds
from sdvlm_core.camera.protocols import AnyImage, CameraInfoLike
from sdvlm_core.camera.rectification import rectify
from sdvlm_core.camera.settings import DEFAULT_SETTINGS, CameraSettings
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
        FrameError: colour is truncated or has an unsupported encoding.
        DepthError: the same for depth; or its size differs from colour; or it has no reading.
        IntrinsicsError: the camera is not calibrated, or the info is for another image size.
    """
    rgb = color_from_message(color)
    metres = None if depth is None else depth_from_message(depth, settings)
    return assemble(
        rgb,
        metres,
        calibration_from_message(info),
        settings,
        color_topic=color_topic,
        depth_topic=depth_topic,
        stamp_ns=nanoseconds(color.header.stamp),
        frame_id=color.header.frame_id,
        up=up,
    )


def assemble(
    rgb: npt.NDArray[np.uint8],
    depth: npt.NDArray[np.float32] | None,
    calibration: Calibration | None,
    settings: CameraSettings,
    *,
    color_topic: str = "",
    depth_topic: str = "",
    stamp_ns: int = 0,
    frame_id: str = "",
    up: tuple[float, float, float] | None = None,
) -> RgbdFrame:
    """One checked, rectified frame from decoded images; see `frame_from_messages`.

    Args:
        rgb: (H, W, 3) uint8.
        depth: (H, W) float32 metres, NaN = no reading; None = no depth.
        calibration: of the colour camera; None = unknown.
    """
    _check_registered(rgb, depth, calibration)
    if depth is not None and np.isnan(depth).all():
        raise DepthError(
            f"depth has no usable reading: all {depth.size} pixels are zero, NaN or Inf; is the "
            "sensor covered, too close, or its depth stream off?"
        )
    if calibration is None:
        return RgbdFrame(rgb, depth, None, stamp_ns, frame_id, up=up)
    images = rectify(
        rgb, depth, calibration, settings, color_topic=color_topic, depth_topic=depth_topic
    )
    return RgbdFrame(
        rgb=images.rgb,
        depth=images.depth,
        intrinsics=images.intrinsics,
        stamp_ns=stamp_ns,
        frame_id=frame_id,
        up=up,
        cautions=images.cautions,
        lens=images.lens,
    )


def _check_registered(
    rgb: npt.NDArray[np.uint8],
    depth: npt.NDArray[np.float32] | None,
    calibration: Calibration | None,
) -> None:
    """Raise an error with all three sizes unless they are equal."""
    height, width = rgb.shape[:2]
    color_text = info_text = f"{width}x{height}"
    if calibration is not None:
        intrinsics = calibration.intrinsics(Projection.RAW)
        info_text = f"{intrinsics.width}x{intrinsics.height}"
    depth_text = color_text if depth is None else f"{depth.shape[1]}x{depth.shape[0]}"
    if depth_text != color_text:
        raise DepthError(
            f"depth is {depth_text} but colour is {color_text} (and camera_info is {info_text}); "
            "register depth to the colour camera (RealSense: align_depth.enable, OpenNI: "
            "depth_registration)"
        )
    if info_text != color_text:
        also = "" if depth is None else f" (and depth is {depth_text})"
        raise IntrinsicsError(
            f"camera_info is {info_text} but colour is {color_text}{also}; use the camera_info "
            "topic of the colour image"
        )
