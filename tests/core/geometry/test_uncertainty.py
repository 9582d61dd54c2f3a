"""Errors of an object's values: their sources, their calibration and its table."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.calibrate_uncertainty import Error, fitted, without_the_frame
from sdvlm_core.cautions import Caution
from sdvlm_core.geometry.calibration_table import SCALES, TAILS
from sdvlm_core.geometry.sensor_noise import SENSORS
from sdvlm_core.geometry.uncertainty import (
    DISTANCE,
    GAP,
    STD_DEV_KEYS,
    UNKNOWN,
    ErrorSources,
    Situation,
    calibrated,
    spreads,
)
from sdvlm_core.geometry.upright_box import UprightBox

some = settings(derandomize=True)
metres = st.floats(1e-4, 0.1)
sources = st.builds(
    ErrorSources,
    reading=metres,
    edge=metres,
    edge_lost=st.floats(-0.01, 0.01),
    support=metres,
    base=metres,
    hidden=metres,
    cut_across=st.floats(0, 1),
    cut_up=st.floats(0, 1),
    unseen_share=st.floats(0, 1),
    scale=st.floats(0, 0.05),
    depth_kind=st.sampled_from(["real", "simulated"]),
)
situations = st.sampled_from(Situation)
CLEAR = ErrorSources(0.002, 0.004, 0.0, 0.001, 0.0, 0.001, 0.0, 0.0, 0.0, 0.01, "real")


#: Nothing is hidden.
CLEAR = ErrorSources(0.002, 0.004, 0.0, 0.001, 0.0, 0.0, 0.0, 0.0, 0.0, 0.01, "real")


def box(scale: float = 1.0) -> UprightBox:
    """A box a metre away, seen from 30 degrees above; every length multiplied by `scale`."""
    up = np.array([0.0, -math.cos(math.radians(30)), -math.sin(math.radians(30))])
    across = np.array([1.0, 0.0, 0.0])
    centre = scale * np.array([0.05, 0.0, 1.0])
    return UprightBox(
        centre=centre,
        axes=np.stack([across, np.cross(up, across), up]),
        size=scale * np.array([0.2, 0.1, 0.15]),
        bottom=0.0,
        surface=centre[None],
        visible_depth=scale * 0.06,
        inferred_depth=scale * 0.04,
        visible_width=scale * 0.2,
    )


def scaled(one: ErrorSources, scale: float) -> ErrorSources:
    """The same sources with every length multiplied by `scale`."""
    lengths = ("reading", "edge", "edge_lost", "support", "base", "hidden")
    return replace(one, **{name: scale * getattr(one, name) for name in lengths})


@some
@given(sources, situations, st.floats(0.1, 10))
def test_errors_scale_with_the_scene(one, situation, scale):
    before, after = (
        spreads(box(), one, situation),
        spreads(box(scale), scaled(one, scale), situation),
    )
    for key in STD_DEV_KEYS:
        assert after[key].std_dev == pytest.approx(scale * before[key].std_dev)
        assert after[key].half_90 == pytest.approx(scale * before[key].half_90)


@some
@given(sources, situations, st.floats(0, 1))
def test_errors_are_positive_and_the_interval_contains_the_value(one, situation, value):
    for spread in spreads(box(), one, situation).values():
        low, high = spread.interval_90(value)
        assert spread.std_dev > 0
        assert 0 <= low <= value <= high


@some
@given(
    sources,
    situations,
    st.sampled_from(["reading", "edge", "support", "base", "hidden", "cut_across", "cut_up"]),
)
def test_no_error_becomes_smaller_when_a_source_grows(one, situation, name):
    before = spreads(box(), one, situation)
    after = spreads(box(), replace(one, **{name: 2 * getattr(one, name)}), situation)
    assert all(after[key].std_dev >= before[key].std_dev for key in STD_DEV_KEYS)


def test_a_hidden_far_side_makes_the_side_along_the_view_uncertain():
    clear = CLEAR
    before = spreads(box(), clear, Situation.CLEAR)
    after = spreads(box(), replace(clear, hidden=0.03), Situation.CLEAR)
    assert after["width_m"].std_dev > 2 * before["width_m"].std_dev  # along the view
    assert after["length_m"].std_dev == pytest.approx(before["length_m"].std_dev, rel=0.05)
    assert after["height_m"].std_dev == before["height_m"].std_dev


@some
@given(metres, st.sampled_from([*STD_DEV_KEYS, DISTANCE, GAP]), situations, metres)
def test_the_other_plausible_value_is_within_two_std_devs_and_within_the_interval(
    physical, key, situation, alternative
):
    spread = calibrated(physical, key, "real", situation, alternative)
    assert 2 * alternative <= 2 * spread.std_dev
    low, high = spread.interval_90(1.0)
    assert low <= 1.0 - 2 * alternative
    assert 1.0 + 2 * alternative <= high


def test_what_was_not_measured_has_no_interval():
    assert all(math.isnan(end) for end in UNKNOWN.interval_90(math.nan))


@pytest.mark.parametrize(
    ("warnings", "part", "situation"),
    [
        ((), {}, Situation.CLEAR),
        ((Caution.SPARSE_DEPTH,), {}, Situation.CLEAR),
        ((Caution.NO_SUPPORT_PLANE,), {"base": 0.01}, Situation.HIDDEN),
        ((Caution.TRUNCATED,), {"cut_across": 0.5}, Situation.HIDDEN),
        ((Caution.AMBIGUOUS_EXTENT,), {"cut_up": 0.3}, Situation.DOUBTFUL),
        ((Caution.EXTENT_FROM_COLOUR,), {}, Situation.DOUBTFUL),
    ],
)
def test_the_situation_comes_from_the_warnings_and_from_what_is_hidden(warnings, part, situation):
    assert Situation.of(warnings, replace(CLEAR, **part)) is situation


@some
@given(situations, situations)
def test_two_objects_are_in_the_worse_situation(a, b):
    assert a.worse(b) is b.worse(a)
    assert a.worse(b) in (a, b)
    assert a.worse(Situation.DOUBTFUL) is Situation.DOUBTFUL


def test_the_table_has_a_row_for_every_sensor_quantity_and_situation():
    kinds = {noise.kind for noise in SENSORS.values()}
    keys = (*STD_DEV_KEYS, DISTANCE, GAP)
    assert set(SCALES) == {(k, q, s.value) for k in kinds for q in keys for s in Situation}
    assert set(TAILS) == {(k, q) for k in kinds for q in keys}
    assert all(0.2 < value < 5 for value in (*SCALES.values(), *TAILS.values()))


def test_an_outline_is_as_uncertain_in_a_finer_image_of_the_same_camera():
    noise = SENSORS["kinect"]
    coarse, fine = noise.edge_std_dev(1.0, 1 / 525), noise.edge_std_dev(1.0, 1 / 1050)
    assert fine == pytest.approx(coarse, rel=0.05)
    assert noise.edge_std_dev(2.0, 2 / 525) == pytest.approx(2 * coarse)


def simulated_errors(count: int, heavy: bool) -> list[Error]:
    """Errors with a standard deviation of twice their sources, in frames of four answers."""
    rng = np.random.default_rng(1)
    draws = rng.standard_t(3, count) if heavy else rng.normal(size=count)
    physical = rng.uniform(0.002, 0.02, count)
    situations = rng.choice([one.value for one in Situation], count)
    return [
        Error(
            frame=str(index // 4),
            row=("real", STD_DEV_KEYS[1 + index % 4], situations[index]),
            error=abs(2 * physical[index] * draws[index]),
            physical=physical[index],
            alternative=0.0,
        )
        for index in range(count)
    ]


@pytest.mark.parametrize("heavy", [False, True])
def test_the_fitted_table_covers_68_and_90_percent_of_errors_of_frames_it_has_not_seen(heavy):
    shares = without_the_frame(simulated_errors(1200, heavy))
    one_sd, interval = np.mean(list(shares.values()), axis=0)
    assert one_sd == pytest.approx(0.68, abs=0.03)
    assert interval == pytest.approx(0.90, abs=0.02)


def test_few_answers_are_shrunk_towards_those_of_the_same_quantity():
    many = simulated_errors(600, heavy=False)
    plain, _ = fitted(many)
    rare = replace(many[0], row=("real", GAP, Situation.CLEAR.value), error=10 * many[0].physical)
    scales, _ = fitted([*many, rare])
    assert plain["real", GAP, "clear"] < scales["real", GAP, "clear"] < 3
