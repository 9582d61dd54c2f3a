"""Which pixels belong to which token."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdvlm_core.model.image_tokens import (
    SquareCanvas,
    TokenPixels,
    grid_boxes,
    padded_boxes,
    pixels_of,
    truncated_boxes,
)


def owners(tokens: TokenPixels) -> np.ndarray:
    """(H, W): number of tokens that each pixel belongs to."""
    return np.einsum("nh,nw->hw", tokens.rows[tokens.row_of], tokens.columns[tokens.column_of])


@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (37, 36), (24, 24)])
@pytest.mark.parametrize("boxes", [padded_boxes, truncated_boxes])
def test_every_pixel_belongs_to_exactly_one_cell(boxes, width, height):
    tokens = pixels_of(boxes(width, height, 24), width, height)
    np.testing.assert_array_equal(owners(tokens), 1)


def test_cells_of_the_padding_contain_no_pixel():
    tokens = pixels_of(padded_boxes(640, 480, 24), 640, 480)
    counts = tokens.rows.sum(1)[tokens.row_of] * tokens.columns.sum(1)[tokens.column_of]
    empty = (counts.reshape(24, 24) == 0).all(1)
    assert empty.nonzero()[0].tolist() == [0, 1, 2, 21, 22, 23]
    assert (counts.reshape(24, 24)[3:21] > 0).all()


def test_the_extra_padding_pixel_is_right_or_below():
    canvas = SquareCanvas(5, 8)
    assert (canvas.side, canvas.left, canvas.top) == (8, 1, 0)


def test_a_token_that_shows_nothing_has_no_pixel():
    boxes = np.array([[0, 0, 4, 4], [np.nan] * 4, [np.nan, 0, 4, 4], [9, 0, 12, 4], [-5, 0, 0, 4]])
    tokens = pixels_of(boxes, 4, 4)
    counts = tokens.rows.sum(1)[tokens.row_of] * tokens.columns.sum(1)[tokens.column_of]
    assert counts.tolist() == [16, 0, 0, 0, 0]


@given(st.data())
def test_a_pixel_belongs_to_the_boxes_that_hold_its_centre(data):
    width, height = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    number = st.floats(-5, 45).map(lambda value: round(value, 2))
    corners = data.draw(st.lists(st.tuples(number, number, number, number), min_size=1, max_size=9))
    boxes = np.array([[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in corners])
    tokens = pixels_of(boxes, width, height)
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    for box, row, column in zip(boxes, tokens.row_of, tokens.column_of, strict=True):
        # On the edge itself rounding decides, the same way for both neighbours.
        inside = (x > box[0] + 1e-6) & (x < box[2] - 1e-6)
        outside = (x < box[0] - 1e-6) | (x > box[2] + 1e-6)
        assert (tokens.columns[column][inside] == 1).all()
        assert (tokens.columns[column][outside] == 0).all()
        assert (tokens.rows[row][(y < box[1] - 1e-6) | (y > box[3] + 1e-6)] == 0).all()


def test_tokens_of_a_grid_share_their_rows_and_columns():
    tokens = pixels_of(grid_boxes(16, 9, 0, 0, 1280, 720), 1280, 720)
    assert (len(tokens.rows), len(tokens.columns), len(tokens.row_of)) == (9, 16, 144)
