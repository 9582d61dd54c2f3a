"""sdvlm/Region messages -> regions: boxes, points and masks of a request.

Does not know what is asked about a region.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sdvlm_core.camera.decoding import image_pixels
from sdvlm_core.camera.image_header import check_size
from sdvlm_core.camera.protocols import RegionLike
from sdvlm_core.camera.settings import DEFAULT_SETTINGS, CameraSettings
from sdvlm_core.errors import FrameError, QueryError, shown
from sdvlm_core.frame import Region

#: Largest number of regions in a request unless the caller sets another; measuring one takes a few
#: milliseconds.
MAX_REGIONS = 64
#: Largest length of a label, characters.
MAX_LABEL = 200


def regions_from_messages(
    messages: Sequence[RegionLike],
    max_regions: int = MAX_REGIONS,
    settings: CameraSettings = DEFAULT_SETTINGS,
) -> tuple[Region, ...]:
    """sdvlm/Region messages -> regions: the mask if there is one, else the roi; size 0 is a point.

    Raises:
        QueryError: too many regions, a label that is too long or repeated, or a mask that is not
            mono8 or larger than an image may be.
    """
    if len(messages) > max_regions:
        raise QueryError(
            f"{len(messages)} regions in one request; at most {max_regions} are accepted "
            "(parameter max_regions)"
        )
    seen: set[str] = set()
    for message in messages:
        if len(message.label) > MAX_LABEL:
            raise QueryError(
                f"the label '{shown(message.label)}' has {len(message.label)} characters; at most "
                f"{MAX_LABEL} are accepted"
            )
        if message.label in seen:
            raise QueryError(
                f"the labels of regions must differ, got '{shown(message.label)}' twice"
            )
        seen.add(message.label)
    return tuple(_region(message, settings) for message in messages)


def _region(message: RegionLike, settings: CameraSettings) -> Region:
    mask, roi = message.mask, message.roi
    if len(mask.data):
        what = f"the mask of region '{shown(message.label)}'"
        if mask.encoding != "mono8":
            raise QueryError(f"{what} has encoding '{shown(mask.encoding)}', not mono8")
        try:
            check_size(mask.width, mask.height, settings, what, FrameError)
            pixels = image_pixels(mask, np.uint8, 1, what, FrameError)
        except FrameError as error:
            raise QueryError(str(error)) from error
        return Region(message.label, mask=pixels[..., 0] > 0)
    if roi.width == 0 and roi.height == 0:
        return Region(message.label, point=(float(roi.x_offset), float(roi.y_offset)))
    x, y = float(roi.x_offset), float(roi.y_offset)
    return Region(message.label, box=(x, y, x + roi.width, y + roi.height))
