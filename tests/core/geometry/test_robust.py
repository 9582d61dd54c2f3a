"""Medians and ends: exact for few values, close for many, robust against stray values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdvlm_core.geometry.robust import ends, extent, median

values = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=99).map(np.array)


@given(values)
def test_the_median_of_few_values_is_one_of_them_with_half_on_either_side(some):
    middle = median(some)
    assert middle in some
    assert (some < middle).sum() <= len(some) / 2
    assert (some > middle).sum() <= len(some) / 2


def test_the_median_of_many_values_is_within_two_percent_of_their_scatter():
    # One standard error is 1.25 / sqrt(4000) of the scatter. Fifty draws stayed within three of
    # them.
    off = [median(np.random.default_rng(n).normal(3.0, 1.0, 300_000)) - 3.0 for n in range(50)]
    assert np.std(off) < 0.025
    assert np.max(np.abs(off)) < 0.075


def test_ends_ignore_a_few_stray_values_but_not_the_rest():
    some = np.linspace(0.0, 1.0, 2000)
    some[:3], some[-2:] = -50.0, 70.0
    assert ends(some) == pytest.approx((0.0, 1.0), abs=0.005)
    assert extent(some) == pytest.approx(1.0, abs=0.01)


@given(values)
def test_the_ends_of_few_values_are_the_outermost_values(some):
    assert ends(some) == (some.min(), some.max())
