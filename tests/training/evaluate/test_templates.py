"""Prompts of a release, read from its files."""

from __future__ import annotations

import numpy as np
import pytest

from sdvlm_core.frame import RgbdFrame
from training.evaluate.predict import Answer
from training.evaluate.templates import TemplateError, in_template, read_template


def write(folder, name, text):
    (folder / name).write_text(text)
    return folder / name


def test_a_question_stands_in_its_template_after_the_system_prompt(tmp_path):
    file = write(tmp_path, "steps.txt", "Question: {{ question }}\nThink.")
    assert read_template(file).words("How far?") == "Question: How far?\nThink."
    write(tmp_path, "system_prompt.txt", "End with \\scalar{1} \\distance_unit{m}.\n")
    asked = read_template(file).words("How far {x}?")
    assert asked == "End with \\scalar{1} \\distance_unit{m}.\n\nQuestion: How far {x}?\nThink."


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("How far?", "has 0"),
        ("{{question}} {{ question }}", "has 2"),
        ("{{ question }}" + "x" * 20_000, "at most 20000"),
    ],
)
def test_a_file_that_is_no_template_is_refused_by_name(tmp_path, text, reason):
    file = write(tmp_path, "a.txt", text)
    with pytest.raises(TemplateError, match=rf"a\.txt.*{reason}"):
        read_template(file)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff{{ question }}")
    with pytest.raises(TemplateError, match=r"a\.txt is not UTF-8"):
        read_template(tmp_path / "a.txt")


def test_a_model_reads_the_template(tmp_path):
    template = read_template(write(tmp_path, "a.txt", "Q: {{ question }}"))
    heard = []

    def model(frame, questions):
        heard.extend(questions)
        return [Answer("1 m") for _ in questions]

    frame = RgbdFrame(np.zeros((4, 4, 3), np.uint8))
    assert [one.text for one in in_template(model, template)(frame, ["a", "b"])] == ["1 m"] * 2
    assert heard == ["Q: a", "Q: b"]
