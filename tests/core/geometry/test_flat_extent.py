"""Flat objects: their extent from colour, on rendered tables with texture, shading and shadow."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdvlm_core.camera.image_files import read_frame
from sdvlm_core.cautions import UNFIT, Caution
from sdvlm_core.frame import CameraIntrinsics, Region, RgbdFrame
from sdvlm_core.geometry.crops import Crop, crop_region
from sdvlm_core.geometry.flat_extent import FlatObject, flat_object, flat_points
from sdvlm_core.geometry.measure import measure
from sdvlm_core.geometry.point_cloud import Cloud, Mask, make_cloud
from sdvlm_core.geometry.scene import open_scene
from sdvlm_core.geometry.support_plane import Plane
from sdvlm_core.geometry.upright_box import UprightBox, upright_box
from tests.core.geometry.test_measure import camera
from tests.paths import SHARED

Polygon = npt.NDArray[np.float64]
WOOD, GREY, WHITE = (150, 110, 70), (120, 120, 120), (225, 225, 220)
#: Pixels per metre of the table's picture, and its half side in metres.
_PER_METRE, _HALF = 2000, 0.6


def rod(length: float, width: float, degrees: float) -> Polygon:
    """Corners (4, 2) of a rod around the origin, metres."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (length / 2, width / 2)
    return turned(corners, degrees)


def turned(corners: Polygon, degrees: float) -> Polygon:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return corners @ np.array([[c, s], [-s, c]])


@dataclass(frozen=True)
class Table:
    """A picture of a table from above, painted with shapes, and its camera."""

    colour: tuple[int, int, int] = WOOD
    grain: float = 0.0
    checks: bool = False

    def painted(
        self,
        shapes: list[tuple[Polygon, tuple[int, int, int]]],
        shadow: Polygon | None = None,
    ) -> npt.NDArray[np.float32]:
        side = int(2 * _HALF * _PER_METRE)
        picture = np.empty((side, side, 3), np.float32)
        picture[:] = self.colour
        y, x = np.mgrid[0:side, 0:side] / _PER_METRE
        picture *= (0.85 + 0.3 * x / (2 * _HALF)).astype(np.float32)[..., None]  # shading
        if self.grain:
            rng = np.random.default_rng(0)
            stripes = np.cumsum(rng.normal(0, 1, side))
            stripes = stripes - cv2.blur(stripes[:, None], (1, 301))[:, 0]
            picture *= (1 + self.grain * stripes / stripes.std()).astype(np.float32)[:, None, None]
        if self.checks:
            odd = ((x // 0.03).astype(int) + (y // 0.03).astype(int)) % 2 == 1
            picture[odd] *= np.float32(0.45)
        if shadow is not None:
            dark = np.ones((side, side), np.float32)
            cv2.fillPoly(dark, [_pixels(shadow)], 0.65)
            picture *= cv2.blur(dark, (9, 9))[..., None]
        for corners, colour in shapes:
            cv2.fillPoly(picture, [_pixels(corners)], colour)
        return picture


def _pixels(corners: Polygon) -> npt.NDArray[np.int32]:
    return np.round((corners + _HALF) * _PER_METRE).astype(np.int32)


@dataclass(frozen=True, eq=False)
class View:
    """What `flat_object` gets, rendered from a table's picture."""

    frame: RgbdFrame
    cloud: Cloud
    crop: Crop
    plane: Plane

    def found(self, depth_mask: Mask | None = None) -> FlatObject | None:
        height = self.plane.height_image(self.cloud, self.crop.rows, self.crop.columns)
        if depth_mask is None:
            depth_mask = np.zeros(self.crop.depth.shape, bool)
        return flat_object(self.frame.rgb, self.cloud, self.crop, self.plane, height, depth_mask)

    def box(self, flat: FlatObject) -> UprightBox:
        points = flat_points(self.cloud, self.crop, self.plane, flat)
        rim = 0.5 * self.crop.step * self.cloud.pixel_angle * points[:, 2].mean()
        return upright_box(points, self.plane, rim, whole=True)


def view(
    picture: npt.NDArray[np.float32],
    outline: Polygon,
    elevation: float = 55.0,
    scale: float = 1.0,
    loose: float = 0.05,
) -> View:
    """The table from 0.7 m at an elevation in degrees, with a box around an outline (N, 2)."""
    k = CameraIntrinsics(600.0, 600.0, 319.5, 239.5, 640, 480)
    eye, turn = camera(elevation=math.radians(elevation), away=0.7)
    v, u = np.mgrid[0:480, 0:640]
    ray = k.back_project(u, v, 1.0) @ turn.T
    depth = -eye[2] / ray[..., 2]
    at = (eye + ray * depth[..., None])[..., :2]
    x, y = ((at[..., axis] + _HALF) * _PER_METRE for axis in (0, 1))
    image = cv2.remap(
        picture,
        x.astype(np.float32),
        y.astype(np.float32),
        cv2.INTER_AREA,
        borderValue=(90, 90, 90),
    )
    rng = np.random.default_rng(1)
    image = cv2.blur(image, (2, 2)) + rng.normal(0, 3, image.shape)
    depth = scale * (depth + rng.normal(0, 0.001, depth.shape))
    frame = RgbdFrame(np.clip(image, 0, 255).astype(np.uint8), depth.astype(np.float32), k)
    corners = (np.column_stack([outline, np.zeros(len(outline))]) - eye) @ turn
    px = k.project(corners)
    (x1, y1), (x2, y2) = px.min(axis=0), px.max(axis=0)
    dx, dy = loose * (x2 - x1) + 1, loose * (y2 - y1) + 1
    cloud = make_cloud(frame)
    crop = crop_region(cloud, Region("thing", box=(x1 - dx, y1 - dy, x2 + dx, y2 + dy)))
    plane = Plane(tuple(turn[2]), scale * eye[2], 0.001)
    return View(frame, cloud, crop, plane)


TABLES = {
    "plain": Table(GREY),
    "wood": Table(WOOD, grain=0.06),
    "white": Table(WHITE, grain=0.01),
    "checks": Table((200, 190, 180), checks=True),
}


@pytest.mark.parametrize("degrees", [0, 25, 50, 90, 130])
@pytest.mark.parametrize("table", TABLES)
def test_the_length_of_a_lying_rod_is_within_a_tenth(table, degrees):
    shape = rod(0.15, 0.012, degrees)
    seen = view(TABLES[table].painted([(shape, (20, 60, 160))]), shape)
    flat = seen.found()
    assert flat is not None
    assert seen.box(flat).size[0] == pytest.approx(0.15, rel=0.1)


@pytest.mark.parametrize("degrees", [20, 70, 120])
def test_a_black_rod_ends_at_its_end_and_not_at_its_shadow(degrees):
    shape = rod(0.15, 0.014, degrees)
    shadow = np.concatenate([shape, shape + np.array([0.02, 0.012])])
    shadow = cv2.convexHull(shadow.astype(np.float32))[:, 0].astype(np.float64)
    seen = view(TABLES["white"].painted([(shape, (15, 15, 18))], shadow), shape)
    flat = seen.found()
    assert flat is not None
    length, width = seen.box(flat).size[:2]
    assert length == pytest.approx(0.15, rel=0.1)
    assert width < 0.03


@pytest.mark.parametrize("degrees", [10, 60, 100, 150])
@pytest.mark.parametrize("table", ["wood", "white", "checks"])
def test_scissors_of_two_materials_are_measured_from_end_to_end(table, degrees):
    blades = turned(np.array([[-0.1, 0.0], [0.02, 0.012], [0.02, -0.012]]), degrees)
    handles = [
        turned(np.array([[0.0, s * 0.002], [0.1, s * 0.04], [0.1, s * 0.015]]), degrees)
        for s in (-1, 1)
    ]
    shapes = [(blades, (90, 105, 135)), *((handle, (230, 90, 30)) for handle in handles)]
    outline = np.concatenate([blades, *handles])
    seen = view(TABLES[table].painted(shapes), outline)
    flat = seen.found()
    assert flat is not None
    assert seen.box(flat).size[0] == pytest.approx(0.2, rel=0.1)


@pytest.mark.parametrize("table", TABLES)
def test_an_empty_table_has_no_object(table):
    seen = view(TABLES[table].painted([]), rod(0.15, 0.012, 40))
    assert seen.found() is None


@pytest.mark.parametrize("table", TABLES)
def test_a_shadow_alone_has_no_sure_object(table):
    patch = rod(0.15, 0.03, 30)
    seen = view(TABLES[table].painted([], patch), rod(0.2, 0.06, 30))
    assert seen.found() is None


def test_an_object_of_the_tables_colour_is_not_found():
    shape = rod(0.15, 0.012, 30)
    colour = tuple(int(1.01 * value) for value in WOOD)
    assert view(TABLES["wood"].painted([(shape, colour)]), shape).found() is None


def test_a_box_much_larger_than_the_object_gives_no_result():
    picture = TABLES["wood"].painted([(rod(0.1, 0.012, 30), (20, 60, 160))])
    assert view(picture, rod(0.2, 0.012, 30)).found() is None


def test_what_depth_found_is_part_of_the_object():
    shape = rod(0.15, 0.02, 20)
    seen = view(TABLES["wood"].painted([(shape, (20, 60, 160))]), shape)
    alone = seen.found()
    assert alone is not None
    half = alone.mask.copy()
    half[:, : half.shape[1] // 2] = False
    both = seen.found(half)
    assert both is not None
    assert both.by_depth.any()
    assert both.by_colour.any()
    assert not (both.by_depth & both.by_colour).any()
    assert seen.box(both).size[0] == pytest.approx(0.15, rel=0.1)


@given(st.floats(0.05, 20.0), st.floats(0, 180))
@settings(derandomize=True, max_examples=8, deadline=None)
def test_a_scene_twice_as_large_gives_lengths_twice_as_large(scale, degrees):
    shape = rod(0.15, 0.015, degrees)
    picture = TABLES["wood"].painted([(shape, (20, 60, 160))])
    one, other = view(picture, shape), view(picture, shape, scale=scale)
    flat, scaled = one.found(), other.found()
    assert flat is not None
    assert scaled is not None
    assert (flat.mask == scaled.mask).all()
    np.testing.assert_allclose(other.box(scaled).size, scale * one.box(flat).size, rtol=1e-4)


@pytest.mark.parametrize("table", ["plain", "wood", "white"])
def test_a_point_on_a_flat_rod_measures_the_rod_and_one_beside_it_nothing(table):
    shape = rod(0.15, 0.016, 30)
    frame = view(TABLES[table].painted([(shape, (20, 60, 160))]), shape).frame
    regions = [Region("rod", point=(320.0, 240.0)), Region("table", point=(320.0, 300.0))]
    (on, beside), _ = measure(frame, regions)
    assert Caution.EXTENT_FROM_COLOUR in on.warnings
    assert on.length_m == pytest.approx(0.15, rel=0.1)
    assert Caution.NOTHING_STANDS_OUT in beside.warnings


@pytest.mark.skipif(not (SHARED / "realdata").exists(), reason="../shared/realdata is absent")
def test_scissors_on_a_real_table_are_measured_where_depth_shows_only_the_table():
    folder = SHARED / "realdata" / "ycb_realsense_3"
    known = json.loads((folder / "questions.json").read_text())
    frame = read_frame(folder / known["rgb"], folder / known["depth"], folder / "intrinsics.json")
    (thing,) = (item for item in known["objects"] if item["label"] == "pair of scissors")
    (truth,) = (
        question["answer_m"]
        for question in known["questions"]
        if question["type"] == "size" and question["targets"] == ["pair of scissors"]
    )
    plane, depth = open_scene(frame).upright.planes[0], frame.depth.copy()
    x1, y1, x2, y2 = (round(value) for value in thing["bbox_xyxy"])
    part = (slice(y1 - 10, y2 + 10), slice(x1 - 10, x2 + 10))
    v, u = np.mgrid[part]
    table = -plane.offset / (frame.intrinsics.back_project(u, v, 1.0) @ np.array(plane.normal))
    depth[part] = table * (1 + np.random.default_rng(0).normal(0, 0.001, table.shape))
    (one,), _ = measure(
        replace(frame, depth=depth), [Region("scissors", box=tuple(thing["bbox_xyxy"]))]
    )
    assert Caution.EXTENT_FROM_COLOUR in one.warnings
    assert not set(one.warnings) & UNFIT
    assert one.length_m == pytest.approx(truth, rel=0.1)
