"""The drawing contains every object's outline, box and text, and the pair's line."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sdvlm_core.cautions import Caution
from sdvlm_core.frame import Region
from sdvlm_core.geometry.drawing import (
    AXES,
    PAIR,
    SUPPORT,
    draw_measurements,
    length_text,
    pair_texts,
    supports,
)
from sdvlm_core.geometry.measure import measure
from sdvlm_core.geometry.scene import open_scene
from tests.core.geometry.test_measure import FAR, NEAR, table

OUTLINE, WARNING = (255, 220, 0), (255, 190, 60)


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


def test_the_frames_cautions_are_written_once_at_the_lower_border():
    frame, regions = table(width=640)
    doubtful = replace(frame, cautions=(Caution.IMPLAUSIBLE_DEPTH,))
    plain, pairs = measure(frame, regions)
    # The same values: the standard deviations of a doubtful frame are larger.
    found = [replace(one, warnings=(*doubtful.cautions, *one.warnings)) for one in plain]
    drawn = draw_measurements(open_scene(doubtful), found, pairs)
    without = draw_measurements(open_scene(frame), plain, pairs)
    changed = np.nonzero((drawn != without).any(axis=2))
    assert changed[0].min() > 450
    assert changed[1].max() < 320


def test_a_region_outside_the_image_is_named_and_nothing_else_of_it_is_drawn():
    frame, regions = table(width=640)
    away = [
        Region("far", box=(-1e300, -50.0, -1.0, 1e300)),
        Region("gone", point=(1e300, 5.0)),
    ]
    plain, _ = measure(frame, regions)
    found, pairs = measure(frame, [*regions, *away])
    drawn = draw_measurements(open_scene(frame), found, pairs)
    changed = np.nonzero((drawn != draw_measurements(open_scene(frame), plain)).any(axis=2))
    assert len(changed[0])
    assert changed[0].min() > 450


@pytest.mark.parametrize("code", [Caution.AMBIGUOUS_EXTENT, Caution.EXTENT_FROM_COLOUR])
def test_a_warning_of_a_region_or_of_the_pair_is_written_beside_it(code):
    frame, regions = table(width=640)
    scene = open_scene(frame)
    found, (pair,) = measure(frame, regions)
    found, pair = [replace(one, warnings=()) for one in found], replace(pair, warnings=())
    doubtful = [replace(found[0], warnings=(code,)), found[1]]
    doubtful_pair = replace(pair, warnings=(code,))

    plain = draw_measurements(scene, found, [pair])

    def is_written(objects, pair) -> bool:
        drawn = draw_measurements(scene, objects, [pair])
        new = np.where((drawn != plain).any(axis=2, keepdims=True), drawn, 0)
        return pixels_of(new, WARNING) > 20

    assert not is_written(found, pair)
    assert is_written(doubtful, pair)
    assert is_written(found, doubtful_pair)
    assert pair_texts(doubtful_pair)[1:] == [code.value.replace("_", " ")]
    assert pair_texts(doubtful_pair, cautions=(code,)) == pair_texts(pair)


def test_the_plane_that_carries_the_object_is_outlined():
    _, found, _ = drawn(640)
    for plane in supports(found):
        assert plane.detected
        assert plane.offset == pytest.approx(0.64, abs=0.01)
    assert [one.support_plane for one in found] == supports(found) * len(found)
