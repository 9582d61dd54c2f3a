"""Crop: the part of the depth image around a region, subsampled where it is large.

Works on boxes, masks and pixels; does not know which objects they contain.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from sdvlm_core.errors import QueryError, shown
from sdvlm_core.frame import Region, is_in_image
from sdvlm_core.geometry.point_cloud import Cloud, DepthImage, Mask

#: Margin around a box, as a fraction of its sides; at least this fraction of the image's width.
_MARGIN_FRACTION, _MIN_MARGIN_FRACTION = 0.3, 0.015
#: Largest number of pixels in a crop; larger crops are subsampled. Bounds the time per region.
_MAX_PIXELS = 32_000


@dataclass(frozen=True, eq=False)
class Crop:
    """A part of the image around a region; all arrays have its shape (h, w).

    Attributes:
        top, left: first row and column of the crop in the image, pixels.
        step: every step-th row and column of the image is used.
        depth: float32 metres, 0 = no reading.
        inside: the region itself.
        box: (x1, y1, x2, y2) of the region, pixels of the image.
    """

    top: int
    left: int
    step: int
    depth: DepthImage
    inside: Mask
    box: tuple[int, int, int, int]

    @cached_property
    def valid(self) -> Mask:
        """Pixels with a reading."""
        return self.depth > 0

    @property
    def rows(self) -> slice:
        """Its rows of the image."""
        return slice(self.top, self.top + self.step * self.depth.shape[0], self.step)

    @property
    def columns(self) -> slice:
        """Its columns of the image."""
        return slice(self.left, self.left + self.step * self.depth.shape[1], self.step)

    @property
    def own_box(self) -> tuple[int, int, int, int]:
        """The region's box in this array's pixels, at least 1 pixel wide and high."""
        x1, y1, x2, y2 = self.box
        x1, x2 = (x1 - self.left) // self.step, -((self.left - x2) // self.step)
        y1, y2 = (y1 - self.top) // self.step, -((self.top - y2) // self.step)
        return x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)


def is_outside(region: Region, width: int, height: int) -> bool:
    """Whether a region has no pixel in a `width` x `height` image.

    Raises:
        QueryError: the region's mask is of another size.
    """
    if region.mask is not None:
        if region.mask.shape != (height, width):
            raise QueryError(
                f"the mask of region {shown(region.label)!r} is {region.mask.shape[1]}x"
                f"{region.mask.shape[0]} but the image is {width}x{height}"
            )
        return False
    if region.point is not None:
        return not is_in_image(*region.point, width, height)
    assert region.box is not None
    x1, y1, x2, y2 = region.box
    return x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0


def crop_region(cloud: Cloud, region: Region) -> Crop:
    """The crop around a region that is a box or a mask, inside the image."""
    height, width = cloud.depth.shape
    if region.mask is not None:
        x, y, w, h = cv2.boundingRect(region.mask.astype(np.uint8))
        box = (x, y, x + w, y + h)
    else:
        assert region.box is not None
        x1, y1, x2, y2 = region.box
        box = (
            max(0, int(np.floor(x1))),
            max(0, int(np.floor(y1))),
            min(width, int(np.ceil(x2))),
            min(height, int(np.ceil(y2))),
        )
    return crop_around(cloud, box, region.mask)


def crop_around(
    cloud: Cloud,
    box: tuple[int, int, int, int],
    mask: Mask | None = None,
    step: int | None = None,
) -> Crop:
    """The crop around a box (x1, y1, x2, y2) with its margin; subsampled if it is large."""
    height, width = cloud.depth.shape
    x1, y1, x2, y2 = box
    min_margin = _MIN_MARGIN_FRACTION * width
    across, down = (int(max(min_margin, _MARGIN_FRACTION * side)) for side in (x2 - x1, y2 - y1))
    top, bottom = max(0, y1 - down), min(height, y2 + down)
    left, right = max(0, x1 - across), min(width, x2 + across)
    if step is None:
        step = subsampling_step((bottom - top) * (right - left))
    top, left = top - top % step, left - left % step
    part = (slice(top, bottom, step), slice(left, right, step))
    depth = cloud.depth[part]
    crop = Crop(top, left, step, depth, np.zeros(depth.shape, bool), box)
    if mask is not None:
        crop.inside[:] = mask[part]
    else:
        x1, y1, x2, y2 = crop.own_box
        crop.inside[y1:y2, x1:x2] = True
    return crop


def subsampling_step(pixels: int) -> int:
    """Sampling interval in rows and columns for an area of that many pixels.

    A power of two, so that an image of twice the resolution is sampled at the same places.
    """
    return int(2 ** max(0, np.ceil(np.log2(max(1, pixels) / _MAX_PIXELS) / 2)))
