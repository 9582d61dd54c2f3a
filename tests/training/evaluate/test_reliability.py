"""The calibration error follows its definition, and calibration reduces it."""

from __future__ import annotations

import numpy as np
import pytest

from sdvlm_core.model.confidence import Calibration
from training.calibrate import curve, fit
from training.evaluate.reliability import plot, refusals, reliability


def _rows(kind: str, beliefs: np.ndarray, chance: np.ndarray, seed: int) -> list[dict]:
    right = np.random.default_rng(seed).random(len(beliefs)) < chance
    return [
        {"kind": kind, "raw_confidence": b, "confidence": b, "correct": bool(r), "type": "count"}
        for b, r in zip(beliefs.tolist(), right, strict=True)
    ]


def test_the_calibration_error_is_the_weighted_distance_from_the_diagonal():
    rows = [
        {"kind": "count", "confidence": 0.95, "correct": True},
        {"kind": "count", "confidence": 0.95, "correct": False},
        {"kind": "words", "confidence": 0.25, "correct": False},
        {"kind": "words", "confidence": None, "correct": True},
    ]
    found = reliability(rows)
    assert found["all"]["ece"] == pytest.approx((2 * 0.45 + 0.25) / 3, abs=1e-4)
    assert found["numbers"] == {
        "ece": 0.45,
        "answers": 2,
        "bins": [{"answers": 2, "confidence": 0.95, "right": 0.5}],
    }


def test_an_overconfident_model_is_calibrated_on_other_answers():
    beliefs = np.random.default_rng(0).uniform(0.3, 1.0, 3000)
    chance = beliefs**3
    curves = fit(_rows("distance", beliefs, chance, 1))
    trust = Calibration.from_mapping(curves)
    fresh = _rows("distance", beliefs, chance, 2)
    before = reliability(fresh)["numbers"]["ece"]
    for row in fresh:
        row["confidence"] = trust("distance", row["raw_confidence"])
    after = reliability(fresh)["numbers"]["ece"]
    assert before > 0.15
    assert after < 0.04


def test_a_calibration_curve_is_monotone_and_each_point_has_several_answers():
    raw, right = curve(np.array([0.9] * 60 + [0.5] * 60), np.array([0.0] * 60 + [1.0] * 60))
    assert raw == sorted(set(raw))
    assert right == sorted(right)
    assert curve(np.array([0.7]), np.array([1.0])) == ([0.7], [0.6667])


def test_refusals_are_counted_where_a_measure_was_asked_for():
    rows = [
        {"kind": "absent", "reference": "absent", "type": "existence"},
        {"kind": "side", "reference": "absent", "type": "existence"},
        {"kind": "absent", "reference": "no", "type": "existence"},
        {"kind": "absent", "reference": 0.3, "type": "scale_estimation"},
        {"kind": "side", "reference": 0.3, "type": "scale_estimation"},
        {"kind": "side", "reference": 0.3, "type": "scale_estimation"},
    ]
    found = refusals(rows)
    assert (found["false_premise"]["refused"], found["false_premise"]["asked"]) == (1, 2)
    assert (found["real"]["refused"], found["real"]["asked"]) == (1, 3)


def test_the_plot_is_written_even_without_answers(tmp_path):
    plot(reliability([]), tmp_path / "r.png")
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
