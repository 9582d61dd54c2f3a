"""The point cloud and the support planes of a frame are computed once and shared."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest

from sdvlm_core.answer import Measurement, Quantity, SpatialAnswer
from sdvlm_core.errors import DepthError
from sdvlm_core.frame import RgbdFrame
from sdvlm_core.geometry import scene as scene_module
from sdvlm_core.geometry.drawing import draw_measurements
from sdvlm_core.geometry.measure import measure
from sdvlm_core.geometry.scene import open_scene
from sdvlm_core.verification import verify
from tests.core.geometry.test_measure import NEAR, table


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the expensive functions, one entry per call."""
    calls: list[str] = []
    for name in ("make_cloud", "find_support_planes"):
        original = getattr(scene_module, name)

        def counted(argument, name=name, original=original):
            calls.append(name)
            return original(argument)

        monkeypatch.setattr(scene_module, name, counted)
    return calls


def test_measuring_verifying_and_drawing_one_frame_build_its_cloud_once(built):
    frame, regions = table(width=320)
    found, pairs = measure(frame, regions)
    said = Measurement(Quantity.HEIGHT, NEAR[4], objects=(regions[0].label,))
    answer = SpatialAnswer("How tall is it?", "0.1 m", measurements=(said,))
    _, (check,) = verify(SimpleNamespace(frame=frame), answer, regions[:1])
    assert check.agrees
    draw_measurements(open_scene(frame), found, pairs)
    assert sorted(built) == ["find_support_planes", "make_cloud"]


def test_threads_that_open_one_frame_at_the_same_time_share_one_cloud(built):
    frame, _ = table(width=320)
    start = threading.Barrier(4)

    def opened(_: int):
        start.wait(timeout=120)
        return open_scene(frame).cloud

    with ThreadPoolExecutor(4) as pool:
        clouds = list(pool.map(opened, range(4)))
    assert all(cloud is clouds[0] for cloud in clouds)
    assert built.count("make_cloud") == 1


def test_another_frame_with_equal_content_has_a_separate_scene(built):
    frame, _ = table(width=320)
    assert open_scene(frame).cloud is not open_scene(replace(frame)).cloud
    assert built.count("make_cloud") == 2


def test_a_scene_does_not_keep_its_frame_alive():
    frame, _ = table(width=320)
    cloud, dead = weakref.ref(open_scene(frame).cloud), weakref.ref(frame)
    del frame
    gc.collect()
    assert dead() is None
    assert cloud() is None


def test_a_frame_that_cannot_be_opened_is_refused_every_time():
    frame, _ = table(width=320)
    without = RgbdFrame(frame.rgb, None, frame.intrinsics)
    for _ in range(2):
        with pytest.raises(DepthError, match="this frame has none"):
            open_scene(without)
