"""The drawing contains every object's outline, box and text, and the pair's line."""

from __future__ import annotations

import numpy as np

from sdvlm_core.geometry.drawing import AXES, PAIR, SUPPORT, draw_measurements, length_text
from sdvlm_core.geometry.measure import measure
from sdvlm_core.geometry.scene import open_scene
from tests.core.geometry.test_measure import FAR, NEAR, table

OUTLINE = (255, 220, 0)


def drawn(width: int, things=(NEAR, FAR)):
    frame, regions = table(width=width, things=things)
    found, pairs = measure(frame, regions)
    return frame, found, draw_measurements(open_scene(frame), found, pairs)


def pixels_of(picture, colour) -> int:
    # Anti-aliased lines rarely have their full colour.
    return int((np.abs(picture.astype(int) - colour).max(axis=2) < 60).sum())


def test_objects_support_and_the_only_pair_are_drawn_in_their_colours():
    frame, _, picture = drawn(640)
    assert picture.shape == frame.rgb.shape
    for colour in (*AXES, SUPPORT, PAIR, OUTLINE):
        assert pixels_of(picture, colour) > 20, colour
    assert (frame.rgb == 128).all()  # a copy was drawn on


def test_a_subsampled_object_is_outlined_as_a_whole():
    _, (one,), picture = drawn(1280, things=(FAR,))
    assert one.pixels.step > 1
    across, down = np.ptp(one.pixels.columns), np.ptp(one.pixels.rows)
    assert pixels_of(picture, OUTLINE) > across + down


def test_lengths_are_written_in_the_most_readable_unit():
    assert length_text(0.0973, 0.0051) == "97 +-5 mm"
    assert length_text(1.4249, 0.031) == "1.42 +-0.03 m"
    assert length_text(float("nan"), float("nan")) == "?"
