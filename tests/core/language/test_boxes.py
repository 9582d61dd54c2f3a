"""The box of one asked object in each form of answer, and nothing where it is not certain."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdvlm_core.language.boxes import Box, Form, ask_for, locate, read_boxes

PICTURE = (640, 480)
#: The box that every text below is about, in fractions.
TRUE = (0.25, 0.5, 0.375, 0.75)
X1, Y1, X2, Y2 = (round(1000 * value) for value in TRUE)
PIXELS = [round(value * side) for value, side in zip(TRUE, PICTURE * 2, strict=True)]
LOC = "<loc0512><loc0256><loc0768><loc0384>"
BLUE = '{"bbox_2d": [700, 100, 800, 200], "label": "blue mug"}'
RED = f'{{"bbox_2d": [{X1}, {Y1}, {X2}, {Y2}], "label": "red mug"}}'


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (Form.THOUSAND, f"[{RED}]"),
        (Form.THOUSAND, RED),
        (Form.THOUSAND, f"```json\n[\n\t{RED}\n]\n```"),
        (Form.THOUSAND, f"Here it is:\n```json\n[{RED}]\n```\nThe mug is on the table."),
        (Form.THOUSAND, f"<think>[{BLUE}] or red?</think>\n[{RED}]"),
        (Form.THOUSAND, f"[{BLUE}, {RED}]"),
        (Form.THOUSAND, f'[{RED}, {{"bbox_2d": [9, 9, 99, 99], "label": "mug"}}]'),
        (Form.THOUSAND, f"[{RED}, {RED}]"),  # a loop of the decoder
        (Form.THOUSAND, f'{{"label": "the red mug", "bbox": [{X1}, {Y1}, {X2}, {Y2}]}}'),
        (Form.THOUSAND, f'{{"red mug": [{X1}, {Y1}, {X2}, {Y2}]}}'),
        (Form.THOUSAND, f'{{"label": "red mug", "boxes": [[{X1}, {Y1}, {X2}, {Y2}]]}}'),
        (Form.THOUSAND, '[{"bbox_2d": [0.25, 0.5, 0.375, 0.75], "label": "red mug"}]'),
        (Form.THOUSAND, f"<ref>red mug</ref><box>[[{X1}, {Y1}, {X2}, {Y2}]]</box>"),
        (Form.THOUSAND, f"red mug[[{X1}, {Y1}, {X2}, {Y2}]]"),  # the tags are special tokens
        (
            Form.THOUSAND,
            "<|object_ref_start|>red mug<|object_ref_end|>"
            f"<|box_start|>({X1},{Y1}),({X2},{Y2})<|box_end|>",
        ),
        (Form.THOUSAND, f"The red mug is at ({X1},{Y1}),({X2},{Y2})."),
        (Form.THOUSAND, f"[{X1}, {Y1}, {X2}, {Y2}]"),
        (Form.THOUSAND, f"The bounding box of the object is [{X1}, {Y1}, {X2}, {Y2}]."),
        (Form.THOUSAND_YX, f'[{{"box_2d": [{Y1}, {X1}, {Y2}, {X2}], "label": "red mug"}}]'),
        (Form.THOUSAND_YX, f"[{Y1}, {X1}, {Y2}, {X2}]"),
        (Form.PIXELS, f'[{{"bbox_2d": {PIXELS}, "label": "red mug"}}]'),
        (Form.PIXELS, f'[{{"bbox_2d": {[float(one) for one in PIXELS]}, "label": "mug"}}]'),
        (Form.LOC, f"{LOC} red mug"),
        (Form.LOC, f"{LOC}<seg001><seg002> red mug"),
        (Form.LOC, f"<loc0001><loc0002><loc0300><loc0400> blue mug ; {LOC} red mug"),
        (Form.LOC, LOC),
    ],
)
def test_each_notation_gives_the_box_of_the_asked_object(form, text):
    found = locate("red mug", text, form, PICTURE)
    assert found.why_none == ""
    assert found.box[1:] == pytest.approx(TRUE, abs=1e-3)


@pytest.mark.parametrize(
    ("form", "text", "reason"),
    [
        (Form.THOUSAND, "", "has no box"),
        (Form.THOUSAND, "[]", "has no box"),
        (Form.THOUSAND, "The red mug is on the left.", "has no box"),
        (Form.THOUSAND, "[250, 500]", "has no box"),
        (Form.THOUSAND, "[250, 500, 375, 750, 12]", "has no box"),
        (Form.THOUSAND, "[-5, 500, 375, 750]", "has no box"),
        (Form.THOUSAND, f"[{BLUE}]", "boxes of other things: 'blue mug'"),
        (Form.THOUSAND, f'{{"lid of the red mug": [{X1}, {Y1}, {X2}, {Y2}]}}', "other things"),
        (Form.THOUSAND, f"I see a blue mug at [{X1}, {Y1}, {X2}, {Y2}].", "other things"),
        (
            Form.THOUSAND,
            f"There is no red mug, but a blue mug at [{X1}, {Y1}, {X2}, {Y2}].",
            "denies",
        ),
        (Form.THOUSAND, f'[{RED}, {{"bbox_2d": [9, 9, 99, 99], "label": "red mug"}}]', "2 boxes"),
        (Form.THOUSAND, "<ref>red mug</ref><box>[[1, 2, 3, 4], [5, 6, 7, 8]]</box>", "2 boxes"),
        (Form.THOUSAND, "[[1, 2, 3, 4], [5, 6, 7, 8]]", "2 boxes"),
        (Form.THOUSAND, '{"bbox_2d": [1, 2, 1400, 900], "label": "red mug"}', "beyond the scale"),
        (Form.THOUSAND, f"[{RED}, {BLUE.replace('800', '1100')}]", "beyond the scale"),
        (Form.THOUSAND, '{"bbox_2d": [375, 500, 250, 750], "label": "red mug"}', "empty or inv"),
        (Form.THOUSAND, '{"bbox_2d": [250, 500, 250, 750], "label": "red mug"}', "empty or inv"),
        (Form.THOUSAND, '{"box_2d": [500, 250, 750, 375], "label": "red mug"}', "another model's"),
        (Form.THOUSAND_YX, f"[{RED}]", "another model's"),
        (Form.PIXELS, '{"bbox_2d": [1, 2, 641, 480], "label": "red mug"}', "beyond the scale"),
        (Form.PIXELS, '{"bbox_2d": [1, 2, 640, 481], "label": "red mug"}', "beyond the scale"),
        (Form.LOC, f"{LOC} blue mug", "other things"),
        (Form.LOC, f"{LOC} red mug ; <loc0001><loc0002><loc0300><loc0400> red mug", "2 boxes"),
        (Form.LOC, f"<loc0001>{LOC} red mug", "has no box"),
        (Form.LOC, "<loc0512><loc0256><loc0768> red mug", "has no box"),
        (Form.LOC, "<loc0512><loc0256><loc0768><loc1400> red mug", "beyond the scale"),
        (Form.LOC, "<loc0768><loc0256><loc0512><loc0384> red mug", "empty or inverted"),
        (Form.LOC, f"[{RED}]", "has no box"),
        (Form.FRACTION, f"[{RED}]", "has no box"),
    ],
)
def test_there_is_no_box_and_a_reason_where_it_is_not_certain(form, text, reason):
    found = locate("red mug", text, form, PICTURE)
    assert found.box is None
    assert reason in found.why_none


def test_the_boxes_of_a_text_keep_their_order_and_their_labels():
    boxes = read_boxes(f"[{BLUE}, {RED}]", Form.THOUSAND, PICTURE)
    assert [box.label for box in boxes] == ["blue mug", "red mug"]
    assert boxes[0] == Box("blue mug", 0.7, 0.1, 0.8, 0.2)
    assert read_boxes(f"[{BLUE}, {RED.replace('250', '2500')}]", Form.THOUSAND, PICTURE) == ()


def test_pixels_are_those_of_the_picture_as_the_model_saw_it():
    text = '[{"bbox_2d": [50, 60, 100, 120], "label": "red mug"}]'
    (box,) = read_boxes(text, Form.PIXELS, (200, 240))
    assert box[1:] == (0.25, 0.25, 0.5, 0.5)


@pytest.mark.parametrize("form", [form for form in Form if form is not Form.FRACTION])
def test_a_model_is_asked_in_the_notation_that_is_read(form):
    words = ask_for('12" ruler', form)
    assert '12" ruler' in words
    if form is not Form.LOC:
        key = "box_2d" if form is Form.THOUSAND_YX else "bbox_2d"
        assert f'"{key}"' in words
        assert json.dumps('12" ruler') in words
    else:
        assert words == 'detect 12" ruler'


def test_models_that_write_points_are_not_asked_for_boxes():
    with pytest.raises(ValueError, match="point"):
        ask_for("red mug", Form.FRACTION)


_PIECES = st.sampled_from(
    [
        *("[", "]", "(", ")", "{", "}", ",", " ", '"', ":", "1", "250", "1000", ".5", "<loc0123>"),
        *('"bbox_2d"', '"label"', '"red mug"', "<box>", "</box>", "<ref>", "red mug", "\n", "-"),
    ]
)


@given(st.lists(_PIECES, max_size=60).map("".join), st.sampled_from(Form))
def test_reading_never_raises_and_gives_boxes_inside_the_image(text, form):
    found = locate("red mug", text, form, PICTURE)
    assert (found.box is None) is bool(found.why_none)
    for box in (*read_boxes(text, form, PICTURE), *([found.box] if found.box else ())):
        assert 0 <= box.x1 < box.x2 <= 1
        assert 0 <= box.y1 < box.y2 <= 1


@pytest.mark.parametrize(
    "piece", ["[", "[1,", "{", '"a": [', "[1, 2, 3, 4]", "<loc0123>", "(1,2),", "<ref>", RED]
)
def test_a_long_text_is_read(piece):
    for form in Form:
        locate("red mug", piece * (100_000 // len(piece)), form, PICTURE)
