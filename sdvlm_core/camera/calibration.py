"""Calibration: what camera_info or a file states about a camera -> intrinsics of its images.

Does not know how images are decoded.
"""

from __future__ import annotations

from sdvlm_core.camera.protocols import CameraInfoLike
from sdvlm_core.errors import IntrinsicsError
from sdvlm_core.frame import CameraIntrinsics


def intrinsics_from_message(message: CameraInfoLike) -> CameraIntrinsics:
    """Pinhole intrinsics of the image of a camera info, after binning and region of interest.

    From P, which describes the rectified image, if it is set; else from K.

    Raises:
        IntrinsicsError: not calibrated (focal length 0), not finite, or without a size.
    """
    p, k = message.p, message.k
    fx, fy, cx, cy = (p[0], p[5], p[2], p[6]) if p[0] else (k[0], k[4], k[2], k[5])
    if not fx or not fy:
        raise IntrinsicsError(
            "camera_info is not calibrated: its focal length is 0; calibrate the camera, or set "
            "the driver's calibration file"
        )
    bin_x, bin_y = max(1, message.binning_x), max(1, message.binning_y)
    roi = message.roi
    return CameraIntrinsics(
        fx=float(fx) / bin_x,
        fy=float(fy) / bin_y,
        cx=(float(cx) - roi.x_offset) / bin_x,
        cy=(float(cy) - roi.y_offset) / bin_y,
        width=(roi.width or message.width) // bin_x,
        height=(roi.height or message.height) // bin_y,
    )
