"""Cells of the token grid partition the frame."""

from __future__ import annotations

import numpy as np
import pytest

from sdvlm_core.model.image_tokens import SquareCanvas, padded_windows, truncated_windows


@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (37, 36), (24, 24)])
@pytest.mark.parametrize("windows", [padded_windows, truncated_windows])
def test_every_pixel_belongs_to_exactly_one_cell(windows, width, height):
    rows, columns = windows(width, height, 24)
    assert (rows.shape, columns.shape) == ((24, height), (24, width))
    np.testing.assert_array_equal(rows.sum(0), 1)
    np.testing.assert_array_equal(columns.sum(0), 1)


def test_cells_of_the_padding_contain_no_pixel():
    rows, columns = padded_windows(640, 480, 24)
    assert (rows.sum(1) == 0).nonzero()[0].tolist() == [0, 1, 2, 21, 22, 23]
    assert (columns.sum(1) > 0).all()


def test_the_extra_padding_pixel_is_right_or_below():
    canvas = SquareCanvas(5, 8)
    assert (canvas.side, canvas.left, canvas.top) == (8, 1, 0)
