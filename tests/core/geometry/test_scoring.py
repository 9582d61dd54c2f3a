"""Scores of the benchmarks of geometry: what counts as right, silently wrong and covered."""

from __future__ import annotations

import math

import pytest

from benchmarks.real_frames import HELD_OUT, sensor_of, up_of
from benchmarks.scoring import Answer, document, score
from sdvlm_core.cautions import Caution
from sdvlm_core.geometry.uncertainty import UNKNOWN, Spread


def answer(
    value: float,
    truth: float = 1.0,
    kind: str = "height",
    warned: bool = False,
    tolerance: float = 0.0,
    independent: bool = True,
) -> Answer:
    return Answer(
        type=kind,
        situations=("plain",),
        truth=truth,
        value=value,
        spread=UNKNOWN if math.isnan(value) else Spread(0.1, 0.2),
        tolerance=tolerance,
        warnings=frozenset({Caution.OCCLUDED} if warned else ()),
        frame="frame",
        about="",
        independent=independent,
    )


@pytest.mark.parametrize(("value", "right"), [(1.24, True), (1.26, False), (0.79, False)])
def test_a_value_is_right_within_the_ratio(value, right):
    assert answer(value).right is right


def test_a_small_gap_is_right_within_its_tolerance_and_a_larger_one_within_the_ratio():
    assert answer(0.03, truth=0.04, kind="gap", tolerance=0.015).right
    assert not answer(0.02, truth=0.04, kind="gap", tolerance=0.015).right
    assert not answer(0.06, truth=0.08, kind="gap", tolerance=0.03).right


def test_what_was_not_measured_is_wrong_but_not_silent():
    found = score([answer(math.nan, warned=True)])
    assert (found.right, found.silent, found.n_covered) == (0.0, 0.0, 0)


def test_the_score_counts_silent_errors_warnings_risk_and_coverage():
    found = score(
        [
            answer(1.05),
            answer(1.15),
            answer(1.5),
            answer(1.0, warned=True),
            answer(2.0, warned=True),
            answer(1.05, independent=False),
        ]
    )
    assert found.n == 6
    assert found.right == pytest.approx(4 / 6)
    assert found.silent == pytest.approx(1 / 6)
    assert found.warned == pytest.approx(2 / 6)
    assert found.risk == pytest.approx((1 / 2) / (1 / 4))
    assert found.n_covered == 5
    assert found.covered == pytest.approx(2 / 5)
    assert found.covered_90 == pytest.approx(3 / 5)


def test_the_document_has_the_splits_with_all_answers_and_each_quantity():
    found = document({"develop": [answer(1.0), answer(0.1, 0.1, kind="gap")]})
    assert set(found["develop"]) == {"all", "height", "gap"}
    assert found["develop"]["all"]["n"] == 2


@pytest.mark.parametrize(
    ("camera", "preset"),
    [
        ("Asus Xtion (YCB-Video)", "kinect"),
        ("Kinect v1", "kinect"),
        ("RealSense D435", "realsense"),
    ],
)
def test_the_sensor_preset_is_that_of_the_camera(camera, preset):
    assert sensor_of({"camera": camera, "source": "elsewhere"}) == preset


def test_the_up_vector_of_an_upright_frame_is_only_used_if_every_one_is():
    upright, sideways = {"upright_in_camera": [0, -2, 0]}, {"upright_in_camera": [1, -0.5, 0]}
    assert up_of(upright) == (0.0, -1.0, 0.0)
    assert up_of(upright, only_turned=True) is None
    assert up_of(sideways, only_turned=True) is not None


def test_seven_frames_are_held_out():
    assert len(HELD_OUT) == 7
