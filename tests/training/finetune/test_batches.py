"""Training rows have whole questions and supervise the intended tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.nano.architecture import CELLS, EOS, PICTURE
from training.nano.batches import ROW, _lay_out, answer_weights, make_batch
from training.nano.frames import MAX_OBJECTS, OBJECT_FIELDS, TrainingFrames
from training.nano.vocabulary import corpus, train_tokenizer

TOKENS = CELLS * CELLS


@given(st.lists(st.integers(1, ROW), max_size=40))
def test_pieces_fill_rows_without_overlap(lengths):
    taken = set()
    for (row, first), length in zip(_lay_out(lengths), lengths, strict=True):
        cells = {(row, column) for column in range(first, first + length)}
        assert first + length <= ROW
        assert not cells & taken
        taken |= cells


@pytest.mark.parametrize(
    ("answer", "weights"),
    [
        ("1.23 m", [1.5, 1, 0.6, 0.15, 1, 1]),
        ("0.05 m", [1.5, 1, 1.5, 1.5, 1, 1]),
        ("3.", [1.5, 1]),
        ("Yes.", [1, 1, 1, 1]),
    ],
)
def test_the_last_digits_of_a_number_count_little_and_the_first_much(answer, weights):
    spans = [(at, at + 1) for at in range(len(answer))]
    assert answer_weights(answer, spans) == weights


@pytest.fixture(scope="module")
def frames() -> TrainingFrames:
    """Two frames of a red mug, a blue box and two green cans, each in cells of its own."""
    things = [("red", "mug"), ("blue", "box"), ("green", "can"), ("pink", "can")]
    graph = [
        {
            "instance": number,
            "category": category,
            "colour": colour,
            "length_m": 0.1 * number,
            "width_m": 0.05 * number,
            "height_m": 0.2 * number,
            "centre_camera_m": [0.3 * number, 0.0, 1.0 + 0.4 * number],
            "centre_world_m": [0.0, 0.0, 0.1 * number],
            "centre_uv": [0.2 * number, 0.5],
            "visible_pixels": 2000,
            "visible_fraction": 1.0,
            "truncated": False,
        }
        for number, (colour, category) in enumerate(things, start=1)
    ]
    coverage = np.zeros((2, MAX_OBJECTS, TOKENS), bool)
    objects = np.full((2, MAX_OBJECTS, OBJECT_FIELDS), np.nan, np.float32)
    for index in range(len(things)):
        coverage[:, index, 10 * index : 10 * index + 3] = True
        objects[:, index] = index
    return TrainingFrames(
        picture=np.zeros((2, PICTURE, PICTURE, 3), np.uint8),
        coordinates=np.zeros((2, TOKENS, 3), np.float32),
        valid=np.ones((2, TOKENS), bool),
        owner=np.zeros((2, TOKENS), np.uint8),
        coverage=coverage,
        objects=objects,
        focal=np.ones(2, np.float32),
        pixels=np.full(2, 320 * 240, np.int32),
        graphs=[graph, graph],
    )


def test_each_supervised_name_looks_at_its_own_object_and_each_answer_ends(frames):
    graphs = [(graph, 320 * 240) for graph in frames.graphs]
    tokenizer = train_tokenizer(corpus(graphs * 20))
    batch = make_batch(frames, np.array([0, 1]), tokenizer, np.random.default_rng(0))
    names = {"mug": 0, "box": 1}
    seen = 0
    for (b, row, at), cells, fact, place in zip(
        batch.look_at.tolist(), batch.cells, batch.facts, batch.by_place, strict=True
    ):
        word = tokenizer.decode([int(batch.ids[b, row, at])]).strip()
        if word in names and not place:
            assert cells.nonzero().squeeze(1).tolist() == [10 * names[word] + i for i in range(3)]
            assert float(fact[0]) == names[word]
            seen += 1
        elif word == "cans":
            assert int(cells.sum()) == 6
            assert fact.isnan().all()
    assert seen > 5
    for b in range(2):
        for row in range(batch.ids.shape[1]):
            segments = batch.segments[b, row]
            for number in segments[segments >= 0].unique():
                own = segments == number
                assert int(batch.ids[b, row][own][-1]) == EOS
                assert batch.places[b, row][own].tolist() == list(range(int(own.sum())))
                assert float(batch.weights[b, row][own][-1]) == 1.0
                assert float(batch.weights[b, row][own][0]) == 0.0
