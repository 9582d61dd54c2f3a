"""Rectification: removes lens distortion from colour, depth and regions.

Colour is interpolated linearly. Depth takes the nearest reading, because a mean over an edge is no
surface, and is interpolated only where it differs little from it: the nearest reading of a slanted
surface is up to half a pixel off. Holes stay NaN; what the raw image does not show is black and
NaN. Maps are cached by
lens and size. A camera_info's R and P are not applied to a raw image: R turns the axes, and then
results would not be in the frame of header.frame_id. Does not know messages, and does not find out
how a lens distorts (`distortion`, `calibration`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from sdvlm_core.camera.calibration import (
    Calibration,
    Projection,
    depth_projection,
    image_projection,
)
from sdvlm_core.camera.distortion import Slopes, raw_pixels, undistort
from sdvlm_core.camera.settings import CameraSettings
from sdvlm_core.cautions import Caution
from sdvlm_core.errors import IntrinsicsError
from sdvlm_core.frame import CameraIntrinsics, Lens, Region, RgbdFrame

Color = npt.NDArray[np.uint8]
Depth = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

#: The smallest factor from the raw image's focal length to the rectified one's. A fisheye's whole
#: view would leave few pixels for what is in the middle.
_MIN_SCALE = 0.5
# Maps have 14 bytes per pixel. Together the cached ones have at most this many pixels (one 4K
# image, 117 MB); those of a larger image are computed for each frame.
_MAX_CACHED_PIXELS = 1 << 23
# Pixels of one computation, which takes about 50 bytes per pixel: what a core's cache holds.
_BAND_PIXELS = 1 << 15
_MAX_SIDE = 32_000  # fixed-point maps hold 16-bit coordinates
_STEPS_PER_PX = 32  # of OpenCV's fixed-point maps
_OUTSIDE = -16.0  # a coordinate outside of every raw image, in their range
# Interpolated depth is used up to this difference from the nearest reading, as a fraction of depth:
# half a pixel of a surface at 80 degrees to the view. Edges between objects are larger.
_SAME_SURFACE = 0.005
_OUTLINE_POINTS = 17  # per side of a box
#: A box that no frame contains.
_NOWHERE = (-2.0, -2.0, -1.0, -1.0)


@dataclass(frozen=True, eq=False)
class Rectified:
    """The images of a frame in one rectified projection; see `RgbdFrame` for the attributes."""

    rgb: Color
    depth: Depth | None
    intrinsics: CameraIntrinsics
    lens: Lens | None
    cautions: tuple[Caution, ...]


@np.errstate(all="ignore")  # rays that no image shows are NaN
def rectify(
    rgb: Color,
    depth: Depth | None,
    calibration: Calibration,
    settings: CameraSettings,
    *,
    color_topic: str = "",
    depth_topic: str = "",
) -> Rectified:
    """Colour and registered depth of one size, without the lens's distortion.

    Without distortion, or if they are rectified, the arrays are returned as they are.

    Args:
        calibration: of the colour camera, for images of this size.
        color_topic, depth_topic: resolved names; they tell raw from rectified images.

    Raises:
        IntrinsicsError: the distortion is not supported, or the raw and the rectified image have
            other axes.
    """
    color = image_projection(color_topic, calibration, settings)
    of_depth = depth_projection(depth_topic, color, calibration, settings)
    found = (color,) if depth is None else (color, of_depth)
    assumed = Projection.ASSUMED_RECTIFIED in found
    cautions = (Caution.ASSUMED_RECTIFIED,) if assumed else ()
    lens = calibration.lens() if Projection.RAW in found else None
    if lens is None:
        return Rectified(rgb, depth, calibration.intrinsics(color), None, cautions)
    if set(found) == {Projection.RAW}:
        target = rectified_intrinsics(lens)
    else:  # into the projection of the one that is rectified
        target = calibration.intrinsics(Projection.RECTIFIED)
        if calibration.rotated:
            raise IntrinsicsError(
                f"{'colour' if color is Projection.RAW else 'depth'} is raw but the other image is "
                "rectified, and the rotation R of camera_info is not the identity; use rectified "
                f"topics for both (colour {color_topic!r}, depth {depth_topic!r})"
            )
    if depth is not None and of_depth is Projection.RAW:
        depth = _rectified_depth(depth, lens, target)
    if color is not Projection.RAW:
        return Rectified(rgb, depth, target, None, cautions)
    return Rectified(
        _remapped(rgb, lens, target, linear=True, outside=0), depth, target, lens, cautions
    )


@lru_cache(maxsize=32)
def rectified_intrinsics(lens: Lens) -> CameraIntrinsics:
    """Intrinsics of the rectified image: the raw image's size and principal point.

    The focal length is the raw one times a factor between 0.5 and 1: the largest one with which the
    middles of the raw image's four edges are in view. So a wide lens keeps its content, and nothing
    is magnified.
    """
    k = lens.intrinsics
    across, down = (k.width - 1) / 2, (k.height - 1) / 2
    edges = np.array([(0.0, down), (k.width - 1.0, down), (across, 0.0), (across, k.height - 1.0)])
    rays = undistort(lens, _slopes(k, edges))
    factor = 1.0
    for room, ray, focal in (
        (k.cx, -rays[0, 0], k.fx),
        (k.width - 1 - k.cx, rays[1, 0], k.fx),
        (k.cy, -rays[2, 1], k.fy),
        (k.height - 1 - k.cy, rays[3, 1], k.fy),
    ):
        if not ray * focal * factor <= room:  # also NaN: more than 87 degrees from the axis
            factor = max(_MIN_SCALE, float(room / (ray * focal)) if ray > 0 else _MIN_SCALE)
    return replace(k, fx=k.fx * factor, fy=k.fy * factor)


@np.errstate(all="ignore")  # rays that no image shows are NaN
def rectified_regions(frame: RgbdFrame, regions: Iterable[Region]) -> tuple[Region, ...]:
    """Regions in pixels of the camera's image -> regions in pixels of the frame.

    They differ only in a frame that was rectified here. A box becomes the box around its curved
    outline; what the frame does not show lies outside of it.
    """
    if frame.lens is None or frame.intrinsics is None:
        return tuple(regions)
    return tuple(_rectified_region(region, frame.lens, frame.intrinsics) for region in regions)


@np.errstate(all="ignore")
def hidden_border(frame: RgbdFrame) -> Mask | None:
    """(H, W) pixels that the raw image does not show; None = it shows every pixel of the frame.

    An object that ends there may continue: it is truncated by the border of the raw image.
    """
    if frame.lens is None or frame.intrinsics is None:
        return None
    shape = frame.lens.intrinsics.height, frame.lens.intrinsics.width
    seen = _remapped(np.ones(shape, np.uint8), frame.lens, frame.intrinsics, False, 0)
    return None if seen.all() else seen == 0


def _rectified_region(region: Region, lens: Lens, target: CameraIntrinsics) -> Region:
    k = lens.intrinsics
    if region.mask is not None:
        if region.mask.shape != (k.height, k.width):
            return region  # measuring refuses it with both sizes
        mask = _remapped(region.mask.astype(np.uint8), lens, target, False, 0)
        return replace(region, mask=mask > 0)
    if region.point is not None:
        u, v = region.point
        if not (-0.5 <= u <= k.width - 0.5 and -0.5 <= v <= k.height - 0.5):
            return region  # outside of both images, which have one size
        ((u, v),) = _frame_pixels(lens, target, np.array([region.point]))
        return replace(region, point=(float(u), float(v)) if np.isfinite(u) else _NOWHERE[:2])
    assert region.box is not None
    x1, y1, x2, y2 = np.clip(region.box, 0, (k.width, k.height) * 2)
    if not (x1 < x2 and y1 < y2):
        return region  # outside of both images
    # A box ends between pixels, and pixel centres are at integers.
    along = np.linspace(0, 1, _OUTLINE_POINTS)
    across, down = x1 + (x2 - x1) * along - 0.5, y1 + (y2 - y1) * along - 0.5
    sides = [(u, v) for u in across for v in (y1 - 0.5, y2 - 0.5)]
    sides += [(u, v) for u in (x1 - 0.5, x2 - 0.5) for v in down]
    outline = _frame_pixels(lens, target, np.array(sides))
    outline = outline[np.isfinite(outline[:, 0])] + 0.5
    if not len(outline):
        return replace(region, box=_NOWHERE)
    (left, top), (right, bottom) = outline.min(axis=0), outline.max(axis=0)
    if not (left < right and top < bottom):
        return replace(region, box=_NOWHERE)
    return replace(region, box=(float(left), float(top), float(right), float(bottom)))


def _frame_pixels(lens: Lens, target: CameraIntrinsics, pixels: Slopes) -> Slopes:
    """Raw pixels (N, 2) -> pixels of the rectified image; NaN = not seen by a pinhole camera."""
    rays = undistort(lens, _slopes(lens.intrinsics, pixels))
    return rays * (target.fx, target.fy) + (target.cx, target.cy)


def _slopes(k: CameraIntrinsics, pixels: Slopes) -> Slopes:
    return (pixels - (k.cx, k.cy)) / (k.fx, k.fy)


def _rectified_depth(depth: Depth, lens: Lens, target: CameraIntrinsics) -> Depth:
    """Depth interpolated on a surface, and the nearest reading at its edges."""
    import cv2

    _check_side(depth)
    out = np.empty(depth.shape, np.float32)
    for band in _maps(lens, target):
        nearest = out[band.rows]
        between = np.empty(nearest.shape, np.float32)
        _remap(depth, band, nearest, linear=False, outside=np.nan)
        _remap(depth, band, between, linear=True, outside=np.nan)
        difference = cv2.absdiff(between, nearest)
        limit = cv2.multiply(nearest, _SAME_SURFACE)
        cv2.copyTo(between, cv2.compare(difference, limit, cv2.CMP_LE), nearest)  # NaN: never
    return out


@dataclass(frozen=True, eq=False)
class _Band:
    """Maps of some rows: where each rectified pixel is in the raw image.

    OpenCV is fastest with fixed-point maps for 8-bit colour, and with float maps for depth.

    Attributes:
        rows: of the rectified image.
        corner, fraction: (h, W, 2) int16 and (h, W) uint16, of OpenCV's form CV_16SC2.
        pixels: (h, W, 2) float32.
    """

    rows: slice
    corner: npt.NDArray[np.int16]
    fraction: npt.NDArray[np.uint16]
    pixels: npt.NDArray[np.float32]


_Key = tuple[Lens, CameraIntrinsics]
_cache: OrderedDict[_Key, Sequence[_Band]] = OrderedDict()
_cache_lock = threading.Lock()


def _remapped(
    image: npt.NDArray[Any], lens: Lens, target: CameraIntrinsics, linear: bool, outside: float
) -> npt.NDArray[Any]:
    """A raw image in the rectified projection; `outside` where the raw image shows nothing."""
    _check_side(image)
    out = np.empty(image.shape, image.dtype)
    for band in _maps(lens, target):
        _remap(image, band, out[band.rows], linear, outside)
    return out


def _remap(
    image: npt.NDArray[Any], band: _Band, out: npt.NDArray[Any], linear: bool, outside: float
) -> None:
    """Write the rows of one band into `out`."""
    import cv2

    fixed = linear and image.dtype == np.uint8
    first, second = (band.corner, band.fraction) if fixed else (band.pixels, None)
    cv2.remap(
        image,
        first,
        second,
        cv2.INTER_LINEAR if linear else cv2.INTER_NEAREST,
        dst=out,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(outside,) * 4,
    )


def _check_side(image: npt.NDArray[Any]) -> None:
    if max(image.shape[:2]) > _MAX_SIDE:
        raise IntrinsicsError(
            f"an image of {image.shape[1]}x{image.shape[0]} cannot be rectified here: the limit is "
            f"{_MAX_SIDE} pixels a side; use rectified topics"
        )


def _maps(lens: Lens, target: CameraIntrinsics) -> Iterable[_Band]:
    """The maps from the cache; of a large image one band after the other, not cached."""
    if target.width * target.height > _MAX_CACHED_PIXELS:
        return _bands(lens, target)
    key = lens, target
    with _cache_lock:  # a second thread waits for the maps instead of computing them as well
        if key not in _cache:
            _cache[key] = tuple(_bands(lens, target))
            while sum(k.width * k.height for _, k in _cache) > _MAX_CACHED_PIXELS:
                _cache.popitem(last=False)
        _cache.move_to_end(key)
        return _cache[key]


def _bands(lens: Lens, target: CameraIntrinsics) -> Iterator[_Band]:
    import cv2

    step = max(1, _BAND_PIXELS // target.width)
    for top in range(0, target.height, step):
        rows = slice(top, min(top + step, target.height))
        pixels = np.clip(raw_pixels(lens, target, rows), _OUTSIDE, _MAX_SIDE + 1)
        # In the steps of the fixed-point map: a smaller weight of the surface behind an edge could
        # pass for a difference on one surface.
        pixels = np.round(pixels * _STEPS_PER_PX) / np.float32(_STEPS_PER_PX)
        corner, fraction = cv2.convertMaps(pixels, None, cv2.CV_16SC2)
        yield _Band(rows, corner, fraction, pixels)
