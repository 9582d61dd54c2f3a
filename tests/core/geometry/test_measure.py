"""Measurements of synthetic and real frames: sizes, distances, gaps and warnings."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import numpy.typing as npt
import pytest

from sdvlm_core.camera.image_files import read_frame
from sdvlm_core.cautions import INFORMATIVE, UNFIT, Caution
from sdvlm_core.errors import DepthError, IntrinsicsError, QueryError
from sdvlm_core.frame import CameraIntrinsics, Region, RgbdFrame
from sdvlm_core.geometry.measure import measure
from sdvlm_core.geometry.measured import Measured
from sdvlm_core.geometry.pairs import smallest_gap
from sdvlm_core.geometry.support_plane import Plane
from sdvlm_core.geometry.upright_box import upright_box
from tests.paths import ROOT, SHARED

REAL = SHARED / "realdata"
real = pytest.mark.skipif(not REAL.exists(), reason="../shared/realdata is absent")

#: Two boxes on a table: centre of the base x, y; half sizes x, y; height. Metres.
NEAR = (-0.12, -0.05, 0.06, 0.04, 0.10)
FAR = (0.15, 0.10, 0.05, 0.05, 0.18)


def camera(
    azimuth: float = 0.0, elevation: float = math.pi / 4, away: float = 0.64 * math.sqrt(2)
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Position of a camera that looks at the table's centre, and its axes as columns; radians."""
    level = np.array([math.sin(azimuth), -math.cos(azimuth), 0.0])
    back = math.cos(elevation) * level + math.sin(elevation) * np.array([0.0, 0.0, 1.0])
    right = np.array([math.cos(azimuth), math.sin(azimuth), 0.0])
    return away * back, np.stack([right, np.cross(right, back), -back], axis=1)


def table(
    scale: float = 1.0, width: int = 320, noise: float = 0.0, things=(NEAR, FAR), seen_from=None
) -> tuple[RgbdFrame, list[Region]]:
    """A ray-cast table with every length multiplied by `scale`; by default seen from 0.9 m at 45
    degrees.

    A sixth value of a box is its height above the table.
    """
    k = CameraIntrinsics(600.0, 600.0, 319.5, 239.5, 640, 480).scaled(width, width * 3 // 4)
    v, u = np.mgrid[0 : k.height, 0 : k.width]
    eye, turn = seen_from or camera()
    ray = k.back_project(u, v, 1.0) @ turn.T
    depth = -eye[2] / ray[..., 2]
    owner = np.zeros(depth.shape, int)
    with np.errstate(divide="ignore", invalid="ignore"):
        for index, (x, y, hx, hy, height, *lift) in enumerate(things, start=1):
            low, high = np.array([x - hx, y - hy, 0.0]), np.array([x + hx, y + hy, height])
            low[2], high[2] = np.array([0.0, height]) + sum(lift)
            one, other = (low - eye) / ray, (high - eye) / ray
            enter = np.minimum(one, other).max(axis=-1)
            hit = (enter < np.maximum(one, other).min(axis=-1)) & (enter < depth)
            depth[hit], owner[hit] = enter[hit], index
    depth = depth * scale
    depth += np.random.default_rng(0).normal(0, noise, depth.shape) if noise else 0
    regions = []
    for index in range(1, len(things) + 1):
        rows, columns = np.nonzero(owner == index)
        x1, y1, x2, y2 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        slack = 0.08 * (x2 - x1)
        box = (float(x1 - slack), float(y1 - slack), float(x2 + slack), float(y2 + slack))
        regions.append(Region(f"thing {index}", box=box))
    rgb = np.full((k.height, k.width, 3), 128, np.uint8)
    return RgbdFrame(rgb, depth.astype(np.float32), k), regions


def sizes(one: Measured) -> npt.NDArray[np.float64]:
    return np.array([one.length_m, one.width_m, one.height_m])


def test_boxes_on_a_table_have_their_sizes_and_distance():
    frame, regions = table(width=640, noise=0.001)
    (near, far), (pair,) = measure(frame, regions)
    np.testing.assert_allclose(sizes(near), (0.12, 0.08, 0.10), atol=0.006)
    np.testing.assert_allclose(sizes(far), (0.10, 0.10, 0.18), atol=0.006)
    true = np.linalg.norm([0.27, 0.15, 0.04])
    assert pair.distance_m == pytest.approx(true, abs=0.006)
    assert pair.gap_m == pytest.approx(math.hypot(0.27 - 0.11, 0.15 - 0.09), abs=0.01)
    assert near.warnings == ()


def test_the_position_is_the_middle_of_the_box_in_the_optical_frame():
    frame, regions = table(width=640)
    (near, _), _ = measure(frame, regions)
    x, y, z = NEAR[0], NEAR[1] + 0.64, NEAR[4] / 2 - 0.64
    half = math.sqrt(0.5)
    np.testing.assert_allclose(near.position_m, (x, -half * (y + z), half * (y - z)), atol=0.006)
    assert near.camera_distance_m == pytest.approx(np.linalg.norm(near.position_m))


def test_a_point_on_an_object_measures_the_whole_object():
    frame, regions = table(width=640)
    x1, y1, x2, y2 = regions[0].box
    (one,), _ = measure(frame, [Region("it", point=((x1 + x2) / 2, (y1 + y2) / 2))])
    np.testing.assert_allclose(sizes(one), (0.12, 0.08, 0.10), atol=0.006)


HANGING = (0.0, 0.0, 0.08, 0.05, 0.12, 0.3)
FROM_LOW = camera(elevation=math.radians(20), away=1.5)


@pytest.mark.parametrize("hint", ["box", "point"])
def test_a_hanging_object_ends_at_its_lowest_visible_point(hint):
    frame, (region,) = table(width=640, things=(HANGING,), seen_from=FROM_LOW, noise=0.001)
    x1, y1, x2, y2 = region.box
    if hint == "point":
        region = Region("it", point=((x1 + x2) / 2, (y1 + y2) / 2))
    (one,), _ = measure(frame, [region])
    eye, turn = FROM_LOW
    assert one.height_m == pytest.approx(0.12, abs=0.01)
    np.testing.assert_allclose(one.position_m, (np.array([0, 0, 0.36]) - eye) @ turn, atol=0.05)


def test_an_object_with_a_hidden_base_stands_and_has_a_larger_std_dev():
    before = (0.0, -0.3, 0.2, 0.05, 0.2)
    behind = (0.0, 0.1, 0.08, 0.05, 0.4)
    frame, regions = table(width=640, things=(before, behind), seen_from=FROM_LOW)
    (_, one), _ = measure(frame, regions)
    (free,), _ = measure(*table(width=640, things=(behind,), seen_from=FROM_LOW))
    assert one.height_m == pytest.approx(0.4, abs=0.01)
    assert one.sources.base > 0
    assert free.sources.base == 0
    assert one.std_dev["height_m"] > 1.5 * free.std_dev["height_m"]


def test_a_region_that_reaches_the_ground_may_contain_legs_without_readings():
    top = (0.0, 0.0, 0.2, 0.15, 0.02, 0.3)
    frame, (region,) = table(width=640, things=(top,), seen_from=FROM_LOW)
    x1, y1, x2, y2 = region.box
    (one,), _ = measure(frame, [Region("table", box=(x1, y1, x2, y2 + 130))])
    assert one.height_m == pytest.approx(0.32, abs=0.02)
    assert Caution.UNSEEN_EXTENT in one.warnings


def test_a_point_on_an_object_with_holes_uses_its_valid_pixels():
    frame, regions = table(width=1280, things=(NEAR,), noise=0.004)
    depth = frame.depth.copy()
    holes = np.random.default_rng(0).random(depth.shape) < 0.7
    holes[::8, ::8] = False  # the subsampling of the whole image
    depth[holes] = np.nan
    x1, y1, x2, y2 = regions[0].box
    region = Region("it", point=((x1 + x2) / 2, (y1 + y2) / 2))
    (one,), _ = measure(RgbdFrame(frame.rgb, depth, frame.intrinsics), [region])
    assert np.isfinite(sizes(one)).all()


def test_a_mask_measures_the_pixels_that_it_covers():
    frame, regions = table(width=640)
    x1, y1, x2, y2 = (round(value) for value in regions[0].box)
    mask = np.zeros((frame.height, frame.width), bool)
    mask[y1:y2, x1:x2] = True
    (one,), _ = measure(frame, [Region("it", mask=mask)])
    np.testing.assert_allclose(sizes(one), (0.12, 0.08, 0.10), atol=0.006)


def test_the_hidden_half_of_a_can_is_inferred():
    turn = np.linspace(np.pi, 2 * np.pi, 200)  # the side that faces the camera
    heights = np.linspace(0.0, 0.1, 40)
    angle, height = (part.ravel() for part in np.meshgrid(turn, heights))
    points = np.stack([0.03 * np.cos(angle), 0.2 - height, 0.8 + 0.03 * np.sin(angle)], axis=1)
    box = upright_box(points, Plane((0.0, -1.0, 0.0), 0.2, 0.001))
    np.testing.assert_allclose(box.size, (0.06, 0.06, 0.1), atol=0.002)
    np.testing.assert_allclose(box.centre, (0, 0.15, 0.8), atol=0.002)
    assert box.inferred_depth == pytest.approx(0.03, abs=0.002)


def test_mixed_readings_at_the_outline_do_not_shorten_a_gap():
    side = np.stack(np.meshgrid(np.linspace(-0.05, 0.05, 60), np.linspace(0, 0.1, 60)), -1)
    face = side.reshape(-1, 2)
    plane = Plane((0.0, -1.0, 0.0), 0.2, 0.001)
    near = np.column_stack([face[:, 0], 0.2 - face[:, 1], np.full(len(face), 0.8)])
    stray = np.array([(0.05, 0.15, z) for z in (1.05, 1.1, 1.15, 1.19)])
    far = near + np.array([0.0, 0.0, 0.4])
    clean, mixed = (
        smallest_gap(upright_box(points, plane).surface, upright_box(far, plane).surface)
        for points in (near, np.concatenate([near, stray]))
    )
    assert clean == pytest.approx(0.4, abs=0.05)
    assert mixed == pytest.approx(clean, abs=0.01)


def test_the_gap_is_between_the_nearest_surfaces():
    side = np.stack(np.meshgrid(np.linspace(0, 0.1, 60), np.linspace(0, 0.1, 60)), -1)
    flat = side.reshape(-1, 2)
    a = np.column_stack([np.zeros(len(flat)), flat])
    b = np.column_stack([np.full(len(flat), 0.05), flat])
    assert smallest_gap(a, b) == pytest.approx(0.05, abs=0.001)


@pytest.mark.parametrize("value", [np.nan, 0.0, 1.0])
def test_a_frame_without_readings_or_of_a_wall_has_a_warning(value):
    k = CameraIntrinsics(100.0, 100.0, 39.5, 29.5, 80, 60)
    depth = np.full((60, 80), value, np.float32)
    frame = RgbdFrame(np.zeros((60, 80, 3), np.uint8), depth, k)
    (one,), _ = measure(frame, [Region("it", box=(20, 20, 60, 50))])
    assert one.warnings


@pytest.mark.parametrize(("x", "hidden"), [(0.12, True), (0.02, False)])
def test_a_hidden_end_makes_an_object_doubtful_and_a_hidden_middle_does_not(x, hidden):
    tall, behind = (x, -0.02, 0.04, 0.03, 0.2), (0.02, 0.1, 0.10, 0.04, 0.12)
    frame, regions = table(width=640, things=(tall, behind))
    (_, one), _ = measure(frame, regions)
    (free,), _ = measure(*table(width=640, things=(behind,)))
    doubts = {Caution.OCCLUDED, Caution.AMBIGUOUS_EXTENT}
    assert bool(doubts.intersection(one.warnings)) == hidden
    assert free.warnings == ()
    assert (one.std_dev["length_m"] > 2 * free.std_dev["length_m"]) == hidden


def test_missing_readings_in_the_middle_are_reported_as_transparent():
    frame, regions = table(width=640)
    x1, y1, x2, y2 = (round(value) for value in regions[0].box)
    depth = frame.depth.copy()
    depth[y1 + 5 : y2 - 5, x1 + 5 : x2 - 5] = np.nan
    (one,), _ = measure(RgbdFrame(frame.rgb, depth, frame.intrinsics), regions[:1])
    assert Caution.TRANSPARENT_OR_REFLECTIVE in one.warnings


def test_a_point_on_the_bare_table_has_the_warning_nothing_stands_out():
    frame, _ = table(width=640)
    (one,), _ = measure(frame, [Region("it", point=(320.0, 430.0))])
    assert Caution.NOTHING_STANDS_OUT in one.warnings


def test_without_a_floor_the_height_is_along_the_image_and_has_a_warning():
    k = CameraIntrinsics(300.0, 300.0, 79.5, 59.5, 160, 120)
    v, u = np.mgrid[0:120, 0:160]
    away = np.hypot(u - k.cx, v - k.cy) / k.fx  # from the optical axis, at one metre
    depth = np.full((120, 160), np.nan, np.float32)
    ball = away < 0.1
    depth[ball] = 1.1 - np.sqrt(0.1**2 - away[ball] ** 2)
    frame = RgbdFrame(np.zeros((120, 160, 3), np.uint8), depth, k)
    (one,), _ = measure(frame, [Region("it", box=(45, 25, 115, 95))])
    assert Caution.NO_SUPPORT_PLANE in one.warnings
    assert one.height_m == pytest.approx(0.2, rel=0.15)


def test_depth_without_metres_is_refused_and_estimated_metres_are_marked():
    frame, regions = table()
    relative = RgbdFrame(
        frame.rgb, frame.depth, frame.intrinsics, depth_source="estimated_relative"
    )
    with pytest.raises(DepthError, match="no metres"):
        measure(relative, regions)
    metric = RgbdFrame(frame.rgb, frame.depth, frame.intrinsics, depth_source="estimated_metric")
    found, _ = measure(metric, regions)
    assert all(Caution.ESTIMATED_DEPTH in one.warnings for one in found)


def test_a_frame_without_depth_or_intrinsics_and_a_mask_of_another_size_are_refused():
    frame, regions = table()
    with pytest.raises(DepthError):
        measure(RgbdFrame(frame.rgb, None, frame.intrinsics), regions)
    with pytest.raises(IntrinsicsError):
        measure(RgbdFrame(frame.rgb, frame.depth, None), regions)
    with pytest.raises(QueryError, match="is 4x3 but the image is 320x240"):
        measure(frame, [Region("it", mask=np.ones((3, 4), bool))])
    with pytest.raises(QueryError, match="realsense"):
        measure(frame, regions, sensor="crystal ball")


@real
def test_ycb_products_in_real_frames_have_their_heights():
    ratios = []
    for path in sorted(REAL.glob("ycb_*/questions.json")):
        known = json.loads(path.read_text())
        frame = read_frame(
            path.parent / known["rgb"],
            path.parent / known["depth"],
            path.parent / "intrinsics.json",
        )
        asked = {
            question["targets"][0]: question["answer_m"]
            for question in known["questions"]
            if question["type"] == "height" and question["basis"] == "cad+pose"
        }
        regions = [
            Region(item["label"], box=tuple(item["bbox_xyxy"]))
            for item in known["objects"]
            if item["label"] in asked
        ]
        found, _ = measure(frame, regions)
        ratios += [one.height_m / asked[one.label] for one in found]
    assert len(ratios) >= 8
    assert np.mean(np.abs(np.log(ratios)) < math.log(1.25)) >= 0.9
    assert np.median(np.abs(np.array(ratios) - 1)) < 0.06


@real
def test_a_glass_has_a_warning_and_an_opaque_case_has_none():
    folder = REAL / "cleargrasp_080"
    known = json.loads((folder / "questions.json").read_text())
    frame = read_frame(folder / known["rgb"], folder / known["depth"], folder / "intrinsics.json")
    asked = [question for question in known["questions"] if "transparent" in question]
    regions = [
        Region(question["targets"][0], point=tuple(map(float, question["points_px"][0])))
        for question in asked
    ]
    found, _ = measure(frame, regions)
    for question, one in zip(asked, found, strict=True):
        assert (Caution.TRANSPARENT_OR_REFLECTIVE in one.warnings) == question["transparent"]
        assert bool(one.warnings) == question["transparent"]


def test_every_warning_is_declared_either_unfit_or_informative():
    assert set(Caution) == UNFIT | INFORMATIVE
    assert not UNFIT & INFORMATIVE


def test_the_documentation_lists_every_warning_with_whether_it_is_unfit():
    text = (ROOT / "docs" / "geometry.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (unfit|informative) \|", text, re.MULTILINE)
    documented = {code: verdict == "unfit" for code, verdict in rows}
    assert documented == {code.value: code in UNFIT for code in Caution}
