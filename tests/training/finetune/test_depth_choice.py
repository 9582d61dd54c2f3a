"""Each image is trained with the depth that the configuration chooses, and remembers which."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from sdvlm_core.errors import DepthError
from sdvlm_core.frame import CameraIntrinsics
from sdvlm_core.model import depth_estimation
from training.data.conversations import Sample
from training.finetune.depth_choice import DEPTHS, DepthChoice

K = CameraIntrinsics(30.0, 30.0, 15.5, 11.5, 32, 24)


@pytest.fixture
def estimator(monkeypatch):
    """A network that sees 3 everywhere, and counts."""
    asked = []

    def estimated(frame, network):
        asked.append(frame)
        depth = np.full(frame.rgb.shape[:2], 3.0, np.float32)
        return dataclasses.replace(frame, depth=depth, depth_source=network.source)

    monkeypatch.setattr(depth_estimation, "with_estimated_depth", estimated)
    return SimpleNamespace(source="estimated_relative", asked=asked)


def _sample(seed: int, *, depth: bool = True) -> Sample:
    rgb = np.random.default_rng(seed).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    return Sample(rgb, (), (), np.full((24, 32), 1500, np.uint16) if depth else None, K)


@pytest.mark.parametrize(
    ("kind", "with_depth", "without"),
    [
        ("sensor", {"sensor"}, {"estimated_relative"}),
        ("estimated", {"estimated_relative"}, {"estimated_relative"}),
        ("mixed", {"sensor", "estimated_relative"}, {"estimated_relative"}),
    ],
)
def test_the_source_of_a_depth_is_the_chosen_one(estimator, kind, with_depth, without):
    choice = DepthChoice(kind, estimator)
    assert {choice.frame(_sample(n), "it").depth_source for n in range(20)} == with_depth
    bare = {choice.frame(_sample(n, depth=False), "it").depth_source for n in range(5)}
    assert bare == without


def test_mixed_takes_half_and_depends_on_the_image_alone(estimator):
    choice = DepthChoice("mixed", estimator)
    sources = [choice.frame(_sample(n), "it").depth_source for n in range(200)]
    assert 70 < sources.count("sensor") < 130
    again = [choice.frame(_sample(n), "moved").depth_source for n in reversed(range(200))]
    assert again[::-1] == sources


def test_a_sensor_s_depth_is_in_metres_and_the_estimator_is_not_asked(estimator):
    frame = DepthChoice("sensor", estimator).frame(_sample(0), "it")
    assert np.allclose(frame.depth, 1.5)
    assert frame.intrinsics == K
    assert not estimator.asked


@pytest.mark.parametrize("kind", DEPTHS)
def test_an_image_that_needs_an_estimator_is_refused_by_name_without_one(kind):
    with pytest.raises(DepthError, match=r"row 7 has no depth .*key `estimator`"):
        DepthChoice(kind).frame(_sample(0, depth=False), "row 7")
    if kind == "estimated":
        with pytest.raises(DepthError, match=r"row 7 needs an estimated depth \(depth: estimated"):
            DepthChoice(kind).frame(_sample(0), "row 7")
