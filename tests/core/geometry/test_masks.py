"""Masks: exact in colour, but a depth camera shows nearer things too wide."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from sdvlm_core.frame import Region, RgbdFrame
from sdvlm_core.geometry.measure import measure
from tests.core.geometry.test_measure import camera, table

#: A low box with a higher one on it, beside it and before it; see `test_measure.NEAR`. Metres.
LOW = (0.0, 0.0, 0.10, 0.08, 0.06)
HIGHER = {
    "on it": (0.02, 0.02, 0.03, 0.03, 0.12, 0.06),
    "beside it": (0.14, 0.0, 0.04, 0.08, 0.16),
    "before it": (0.03, -0.18, 0.02, 0.02, 0.25),
}
ELEVATIONS = [math.radians(degrees) for degrees in (30, 45)]


def widened(frame: RgbdFrame, radius: int) -> RgbdFrame:
    """The frame of a camera that shows nearer things wider by some pixels."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
    return replace(frame, depth=cv2.erode(frame.depth, kernel))


@pytest.mark.parametrize("elevation", ELEVATIONS)
@pytest.mark.parametrize("higher", HIGHER.values(), ids=HIGHER)
def test_a_nearer_thing_whose_readings_reach_into_a_mask_adds_nothing(higher, elevation):
    frame, alone = (
        table(1.0, 640, 0.001, things, camera(0.0, elevation, 1.0))[0]
        for things in ((LOW, higher), (higher,))
    )
    mask = np.abs(frame.depth - alone.depth) > 1e-6
    (one,), _ = measure(widened(frame, 2), [Region("it", mask=mask)])
    assert one.height_m == pytest.approx(0.06, rel=0.25)
    assert one.length_m == pytest.approx(0.20, rel=0.15)
