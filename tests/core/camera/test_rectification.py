"""Images of a lens with distortion are rectified: straight, holes kept, and measured right."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdvlm_core import tabletop
from sdvlm_core.camera import rectification
from sdvlm_core.camera.assembly import assemble, frame_from_messages
from sdvlm_core.camera.calibration import Calibration
from sdvlm_core.camera.rectification import (
    hidden_border,
    rectified_intrinsics,
    rectified_regions,
    rectify,
)
from sdvlm_core.camera.settings import DEFAULT_SETTINGS, CameraSettings
from sdvlm_core.cautions import Caution
from sdvlm_core.errors import IntrinsicsError
from sdvlm_core.frame import CameraIntrinsics, Region, RgbdFrame
from sdvlm_core.geometry.measure import measure_in
from sdvlm_core.geometry.measured import Measured
from sdvlm_core.geometry.scene import open_scene
from tests import bags, lenses
from tests.lenses import CAMERAS, Camera, pinhole

WIDE = CAMERAS["plumb_bob 4"]
#: Three sizes and the distance from the camera: what is compared.
LENGTHS = ("length_m", "width_m", "height_m", "camera_distance_m")


def calibration(camera: Camera, **changes) -> Calibration:
    stated = Calibration(k=camera.k, model=camera.model, coefficients=camera.d)
    return replace(stated, **changes)


def enlarged(camera: Camera) -> Camera:
    """The camera with 1.5 times the resolution: a pixel is at most 2 % of the smallest object."""
    k = camera.k
    half = 0.5 * 0.5  # pixel centres are at integers
    return replace(
        camera,
        k=CameraIntrinsics(1.5 * k.fx, 1.5 * k.fy, 1.5 * k.cx + half, 1.5 * k.cy + half, 960, 720),
    )


def measured(frame: RgbdFrame, boxes) -> tuple[Measured, ...]:
    regions = rectified_regions(frame, [Region(name, box=box) for name, box in boxes.items()])
    return measure_in(open_scene(frame), regions, "simulated")[0]


def relative_errors(found, expected) -> np.ndarray:
    values = [
        [[getattr(one, name) for name in LENGTHS] for one in each] for each in (found, expected)
    ]
    return np.abs(np.array(values[0]) / np.array(values[1]) - 1)


def camera_messages(camera: Camera, rgb, depth):
    """The messages of a driver that publishes raw images with their distortion."""
    info = bags.camera_info(bags.START_NS, camera.k.width, camera.k.height)
    info.k[:] = (camera.k.fx, 0, camera.k.cx, 0, camera.k.fy, camera.k.cy, 0, 0, 1)
    info.p[:] = (camera.k.fx, 0, camera.k.cx, 0, 0, camera.k.fy, camera.k.cy, 0, 0, 0, 1, 0)
    info.d, info.distortion_model = np.array(camera.d), camera.model
    metres = bags.image(depth.astype(np.float32), "32FC1", bags.START_NS)
    return bags.image(rgb, "rgb8", bags.START_NS), metres, info


@pytest.mark.parametrize("name", CAMERAS)
def test_lengths_seen_through_a_lens_are_those_without_it_to_two_percent(name: str) -> None:
    camera = enlarged(CAMERAS[name])
    rgb, depth, boxes = lenses.table(camera)
    frame = frame_from_messages(
        *camera_messages(camera, rgb, depth), color_topic="/rgb/image_raw", depth_topic="/depth"
    )
    assert frame.lens is not None
    assert Caution.ASSUMED_RECTIFIED not in frame.cautions
    straight_rgb, straight_depth, straight_boxes = lenses.table(pinhole(camera.k))
    straight = assemble(
        straight_rgb,
        straight_depth.astype(np.float32),
        Calibration(k=camera.k),
        DEFAULT_SETTINGS,
    )
    errors = relative_errors(measured(frame, boxes), measured(straight, straight_boxes))
    assert errors.max() < 0.02, errors.round(3)


@pytest.mark.parametrize("name", CAMERAS)
def test_a_rectified_pixel_has_the_depth_of_its_ray(name: str) -> None:
    camera = CAMERAS[name]
    rgb, depth, _ = lenses.table(camera)
    depth = depth.astype(np.float32)
    found = rectify(rgb, depth, calibration(camera), DEFAULT_SETTINGS)
    truth = tabletop.render(pinhole(found.intrinsics).rays)[1]
    off = np.abs(found.depth - truth)
    # What is farther than this is within a pixel of the outline of an object.
    assert np.nanmean(off > 0.005 * truth) < 0.02
    assert np.nanmedian(off) < 2e-4


def test_an_image_without_distortion_is_returned_as_it_is() -> None:
    rgb, depth = np.zeros((480, 640, 3), np.uint8), np.ones((480, 640), np.float32)
    camera = pinhole(WIDE.k)
    for topic in ("", "/rgb/image_raw", "/rgb/image_rect_color"):
        found = rectify(rgb, depth, calibration(camera), DEFAULT_SETTINGS, color_topic=topic)
        assert found.rgb is rgb
        assert found.depth is depth
        assert (found.intrinsics, found.lens, found.cautions) == (camera.k, None, ())


def test_holes_stay_holes_and_grow_by_at_most_a_pixel() -> None:
    depth = np.full((480, 640), 1.5, np.float32)
    depth[200:220, 300:330] = np.nan
    rgb = np.zeros((480, 640, 3), np.uint8)
    found = rectify(rgb, depth, calibration(WIDE), DEFAULT_SETTINGS)
    frame = RgbdFrame(rgb, found.depth, found.intrinsics, lens=found.lens)
    (hole,) = rectified_regions(frame, [Region("hole", box=(300, 200, 330, 220))])
    x1, y1, x2, y2 = (round(value) for value in hole.box)
    assert np.isnan(found.depth[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2]).all()
    around = found.depth[y1 - 20 : y2 + 20, x1 - 20 : x2 + 20].copy()
    around[18:-18, 18:-18] = 1.5
    np.testing.assert_array_equal(around, 1.5)


def test_no_depth_lies_between_an_object_and_its_background() -> None:
    depth = np.full((480, 640), 2.0, np.float32)
    depth[150:350, 200:400] = 1.0
    found = rectify(np.zeros((480, 640, 3), np.uint8), depth, calibration(WIDE), DEFAULT_SETTINGS)
    assert set(np.unique(found.depth[np.isfinite(found.depth)])) == {1.0, 2.0}


def test_what_the_raw_image_does_not_show_is_black_without_depth_and_known() -> None:
    camera = CAMERAS["plumb_bob 5"]  # its corners bend inwards
    rgb, depth = np.full((480, 640, 3), 200, np.uint8), np.ones((480, 640), np.float32)
    found = rectify(rgb, depth, calibration(camera), DEFAULT_SETTINGS)
    hidden = hidden_border(RgbdFrame(found.rgb, found.depth, found.intrinsics, lens=found.lens))
    assert hidden is not None
    assert 0.001 < hidden.mean() < 0.2
    np.testing.assert_array_equal(np.isnan(found.depth), hidden)
    assert found.rgb[~hidden].min() >= 100  # linear at the border
    assert found.rgb[hidden].max() <= 100
    assert hidden_border(RgbdFrame(rgb, depth, camera.k)) is None


def test_an_object_that_the_raw_image_cuts_off_is_truncated() -> None:
    # The can's upper half is above the raw image; the rectified image continues above it.
    camera = replace(WIDE, k=replace(WIDE.k, cy=100.0))
    rgb, depth, boxes = lenses.table(camera)
    assert boxes["green can"][1] == 0
    found = rectify(rgb, depth.astype(np.float32), calibration(camera), DEFAULT_SETTINGS)
    assert np.isnan(found.depth[:8, 300:360]).all()
    frame = RgbdFrame(found.rgb, found.depth, found.intrinsics, up=tabletop.UP, lens=found.lens)
    (can,) = measured(frame, {"green can": boxes["green can"]})
    assert Caution.TRUNCATED in can.warnings
    (box,) = measured(frame, {"blue box": boxes["blue box"]})
    assert Caution.TRUNCATED not in box.warnings


def test_beyond_a_polynomials_fold_nothing_is_shown() -> None:
    # It folds at a slope of 1.6, outside of the raw image, but not of the wider rectified one.
    camera = Camera(
        CameraIntrinsics(420, 420, 319.5, 239.5, 640, 480), "plumb_bob", (-0.13, 0, 0, 0)
    )
    slope = (3 * 0.13) ** -0.5
    rgb, depth = np.full((480, 640, 3), 200, np.uint8), np.ones((480, 640), np.float32)
    found = rectify(rgb, depth, calibration(camera), DEFAULT_SETTINGS)
    x, y = np.meshgrid(*found.intrinsics.ray_slopes())
    assert np.isnan(found.depth[np.hypot(x, y) > slope]).all()


def test_the_middles_of_the_edges_stay_in_view_and_nothing_is_magnified() -> None:
    for camera in CAMERAS.values():
        k = rectified_intrinsics(calibration(camera).lens())
        assert 0.5 <= k.fx / camera.k.fx <= 1
        assert k.fx / k.fy == pytest.approx(camera.k.fx / camera.k.fy)
        assert (k.width, k.height, k.cx, k.cy) == (640, 480, camera.k.cx, camera.k.cy)
        edges = np.array([(0, 239.5), (639, 239.5), (319.5, 0), (319.5, 479)])
        seen = (edges - (camera.k.cx, camera.k.cy)) / (camera.k.fx, camera.k.fy)
        u, v = (lenses.invert(camera.model, camera.d, seen) * (k.fx, k.fy) + (k.cx, k.cy)).T
        assert -1e-3 <= u.min() <= u.max() <= 639.001
        assert -1e-3 <= v.min() <= v.max() <= 479.001


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(sorted(CAMERAS)), st.floats(30, 600), st.floats(30, 450))
def test_a_point_of_the_raw_image_is_where_its_ray_meets_the_frame(
    name: str, u: float, v: float
) -> None:
    camera = CAMERAS[name]
    lens = calibration(camera).lens()
    k = rectified_intrinsics(lens)
    blank = np.zeros((480, 640, 3), np.uint8)
    (point,) = rectified_regions(RgbdFrame(blank, None, k, lens=lens), [Region("it", point=(u, v))])
    np.testing.assert_allclose(camera.pixels(k.back_project(*point.point, 1.0)), (u, v), atol=0.02)


def test_regions_follow_the_image_in_all_their_forms() -> None:
    rgb, depth, boxes = lenses.table(WIDE)
    frame = assemble(rgb, depth.astype(np.float32), calibration(WIDE), DEFAULT_SETTINGS)
    truth = tabletop.render(pinhole(frame.intrinsics).rays)[2] == 2  # the blue box
    raw = tabletop.render(WIDE.rays)[2] == 2
    box, mask = rectified_regions(
        frame, [Region("b", box=boxes["blue box"]), Region("m", mask=raw)]
    )
    assert np.mean(mask.mask != truth) < 0.002
    rows, columns = np.nonzero(truth)
    outline = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    np.testing.assert_allclose(box.box, outline, atol=8)  # it holds the curved outline
    assert box.box[0] <= outline[0] + 1
    assert box.box[3] >= outline[3] - 1


def test_regions_outside_of_the_raw_image_stay_outside() -> None:
    frame = RgbdFrame(
        np.zeros((480, 640, 3), np.uint8),
        None,
        rectified_intrinsics(calibration(WIDE).lens()),
        lens=calibration(WIDE).lens(),
    )
    given = [Region("box", box=(700, 10, 800, 40)), Region("point", point=(-5, 9))]
    assert rectified_regions(frame, given) == tuple(given)


def test_regions_of_a_frame_that_was_not_rectified_here_are_unchanged() -> None:
    frame = RgbdFrame(np.zeros((480, 640, 3), np.uint8), None, WIDE.k)
    regions = (Region("box", box=(1, 2, 3, 4)),)
    assert rectified_regions(frame, regions) == regions


def test_raw_colour_is_brought_into_the_projection_of_rectified_depth() -> None:
    p = replace(WIDE.k, fx=400.0, fy=401.0)
    straight = tabletop.render(pinhole(p).rays)[1].astype(np.float32)
    rgb = lenses.table(WIDE)[0]
    found = rectify(
        rgb,
        straight,
        calibration(WIDE, p=p),
        DEFAULT_SETTINGS,
        color_topic="/rgb/image_raw",
        depth_topic="/depth_registered/image_rect",
    )
    assert found.depth is straight
    assert found.intrinsics == p
    assert found.lens is not None  # boxes are in pixels of the raw colour image
    assert found.cautions == (Caution.ASSUMED_RECTIFIED,)  # depth is, by its name
    expected = tabletop.render(pinhole(p).rays)[0].astype(int)
    shown = found.rgb.any(axis=-1)
    assert np.median(np.abs(found.rgb.astype(int) - expected)[shown]) <= 2


def test_raw_depth_is_brought_into_the_projection_of_rectified_colour() -> None:
    p = replace(WIDE.k, fx=400.0, fy=401.0)
    rgb = tabletop.render(pinhole(p).rays)[0]
    depth = lenses.table(WIDE)[1].astype(np.float32)
    found = rectify(
        rgb,
        depth,
        calibration(WIDE, p=p),
        DEFAULT_SETTINGS,
        color_topic="/rgb/image_rect_color",
        depth_topic="/aligned_depth/image_raw",
    )
    assert found.rgb is rgb
    assert (found.intrinsics, found.lens) == (p, None)  # boxes are in pixels of rectified colour
    truth = tabletop.render(pinhole(p).rays)[1]
    assert np.nanmedian(np.abs(found.depth - truth)) < 5e-4


def test_raw_and_rectified_images_with_other_axes_are_refused() -> None:
    with pytest.raises(IntrinsicsError, match=r"rotation R.*rectified topics for both"):
        rectify(
            np.zeros((480, 640, 3), np.uint8),
            np.ones((480, 640), np.float32),
            calibration(WIDE, p=WIDE.k, rotated=True),
            DEFAULT_SETTINGS,
            color_topic="/rgb/image_raw",
            depth_topic="/depth/image_rect",
        )


def test_never_and_always_override_the_topics_name_without_a_caution() -> None:
    rgb = np.zeros((480, 640, 3), np.uint8)
    for rectify_setting, topic in (("never", "/rgb/image_raw"), ("always", "/rgb/image_rect")):
        found = rectify(
            rgb, None, calibration(WIDE), CameraSettings(rectify=rectify_setting), color_topic=topic
        )
        assert (found.lens is None) == (rectify_setting == "never")
        assert found.cautions == ()


def test_the_maps_of_a_large_image_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    rgb, depth = np.full((480, 640, 3), 9, np.uint8), np.ones((480, 640), np.float32)
    kept = rectify(rgb, depth, calibration(WIDE), DEFAULT_SETTINGS)
    monkeypatch.setattr(rectification, "_MAX_CACHED_PIXELS", 1000)
    monkeypatch.setattr(rectification, "_BAND_PIXELS", 640 * 7)
    again = rectify(rgb, depth, calibration(WIDE), DEFAULT_SETTINGS)
    np.testing.assert_array_equal(kept.rgb, again.rgb)
    np.testing.assert_array_equal(kept.depth, again.depth)


def test_the_cached_maps_are_bounded_and_shared_by_threads() -> None:
    rgb = np.zeros((1200, 1600, 3), np.uint8)
    found = []

    def decode(focal: float) -> None:
        k = CameraIntrinsics(focal, focal, 800, 600, 1600, 1200)
        camera = Calibration(k=k, model="plumb_bob", coefficients=WIDE.d)
        found.append(rectify(rgb, None, camera, DEFAULT_SETTINGS).intrinsics)

    threads = [threading.Thread(target=decode, args=(1200 + n % 6,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 12
    assert sum(k.width * k.height for _, k in rectification._cache) <= 1 << 23


def test_an_image_too_long_for_the_maps_is_refused() -> None:
    k = CameraIntrinsics(30_000, 30_000, 16_499, 1, 33_000, 3)
    camera = Calibration(k=k, model="plumb_bob", coefficients=(-0.01, 0, 0, 0))
    with pytest.raises(IntrinsicsError, match=r"33000x3 .*rectified topics"):
        rectify(np.zeros((3, 33_000, 3), np.uint8), None, camera, DEFAULT_SETTINGS)
