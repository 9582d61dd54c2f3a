"""sdvlm/Region messages -> regions: boxes, points and masks of a request.

Does not know what is asked about a region.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sdvlm_core.camera.decoding import image_pixels
from sdvlm_core.camera.protocols import RegionLike
from sdvlm_core.errors import FrameError, QueryError
from sdvlm_core.frame import Region

#: Largest number of regions in a request; measuring a region takes a few milliseconds.
MAX_REGIONS = 64


def regions_from_messages(messages: Sequence[RegionLike]) -> tuple[Region, ...]:
    """sdvlm/Region messages -> regions: the mask if there is one, else the roi; size 0 is a point.

    Raises:
        QueryError: too many regions, a repeated label, or a mask that is not mono8.
    """
    if len(messages) > MAX_REGIONS:
        raise QueryError(
            f"{len(messages)} regions in one request; at most {MAX_REGIONS} are accepted"
        )
    labels = [message.label for message in messages]
    if len(set(labels)) != len(labels):
        raise QueryError(f"the labels of regions must differ, got {labels}")
    return tuple(_region(message) for message in messages)


def _region(message: RegionLike) -> Region:
    mask, roi = message.mask, message.roi
    if len(mask.data):
        if mask.encoding != "mono8":
            raise QueryError(
                f"the mask of region {message.label!r} has encoding {mask.encoding!r}, not mono8"
            )
        try:
            pixels = image_pixels(mask, np.uint8, 1, FrameError)
        except FrameError as error:
            raise QueryError(f"the mask of region {message.label!r}: {error}") from error
        return Region(message.label, mask=pixels[..., 0] > 0)
    if roi.width == 0 and roi.height == 0:
        return Region(message.label, point=(float(roi.x_offset), float(roi.y_offset)))
    x, y = float(roi.x_offset), float(roi.y_offset)
    return Region(message.label, box=(x, y, x + roi.width, y + roi.height))
