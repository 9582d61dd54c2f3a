"""Typed questions on the command line, alone and beside questions in words."""

from __future__ import annotations

import json
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from sdvlm_core.answer import Asked, Quantity, SpatialAnswer
from sdvlm_core.cli import ask
from sdvlm_core.cli.app import app
from sdvlm_core.cli.questions import all_questions
from sdvlm_core.errors import QueryError
from sdvlm_core.language.question import phrase
from tests.tiny_checkpoint import write_tiny_checkpoint

runner = CliRunner()


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that name a frame in files and a small model."""
    directory = tmp_path_factory.mktemp("typed")
    model = write_tiny_checkpoint(directory)
    files = {name: directory / name for name in ("rgb.png", "depth.png", "intrinsics.json")}
    cv2.imwrite(str(files["rgb.png"]), np.full((48, 64, 3), 90, np.uint8))
    cv2.imwrite(str(files["depth.png"]), np.full((48, 64), 1500, np.uint16))
    values = {"fx": 60, "fy": 60, "cx": 31.5, "cy": 23.5, "width": 64, "height": 48}
    files["intrinsics.json"].write_text(json.dumps(values))
    named = zip(("--rgb", "--depth", "--intrinsics"), map(str, files.values()), strict=True)
    return [*(word for pair in named for word in pair), "--model", str(model), "--device", "cpu"]


def answered(options: list[str], *questions: str) -> dict[str, Any]:
    """The JSON document of `sdvlm ask`."""
    result = runner.invoke(app, ["ask", *questions, *options, "--json"])
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


@pytest.mark.parametrize(
    ("words", "quantity", "objects"),
    [
        (["--height-of", "red mug"], "HEIGHT", ["red mug"]),
        (["--width-of", "red mug"], "WIDTH", ["red mug"]),
        (["--length-of", "red mug"], "LENGTH", ["red mug"]),
        (["--size-of", "red mug"], "SIZE", ["red mug"]),
        (["--distance-to", "red mug"], "CAMERA_DISTANCE", ["red mug"]),
        (["--distance-between", "red mug", "box"], "DISTANCE", ["red mug", "box"]),
        (["--gap-between", "red mug", "box"], "GAP", ["red mug", "box"]),
    ],
)
def test_each_option_asks_its_quantity_of_its_objects(
    options: list[str], words: list[str], quantity: str, objects: list[str]
) -> None:
    document = answered(options, *words)
    assert document["asked"]["quantity"] == quantity
    assert document["asked"]["objects"] == objects
    assert document["question"] == phrase(Asked(Quantity[quantity], tuple(objects)))
    assert isinstance(document["why_none"], str)


def test_options_are_repeatable_and_stand_beside_words(options: list[str]) -> None:
    pairs = ["--distance-between", "mug", "box", "--distance-between", "box", "red lamp"]
    document = answered(
        options, "How tall is the mug?", *pairs, "--height-of", "mug", "--height-of", "box"
    )
    asked = [(a["asked"]["quantity"], a["asked"]["objects"]) for a in document["answers"]]
    assert document["answers"][0]["question"] == "How tall is the mug?"
    assert asked[1:] == [
        ("HEIGHT", ["mug"]),
        ("HEIGHT", ["box"]),
        ("DISTANCE", ["mug", "box"]),
        ("DISTANCE", ["box", "red lamp"]),
    ]


def test_a_text_after_two_dashes_is_a_question(options: list[str]) -> None:
    result = runner.invoke(app, ["ask", *options, "--json", "--", "--gap-between"])
    assert json.loads(result.stdout)["question"] == "--gap-between"


def test_every_answer_is_printed_below_its_question(options: list[str]) -> None:
    words = ["--height-of", "mug", "--width-of", "mug"]
    shown = runner.invoke(app, ["ask", *words, *options]).stdout
    for quantity in (Quantity.HEIGHT, Quantity.WIDTH):
        assert phrase(Asked(quantity, ("mug",))) in shown
    assert runner.invoke(app, ["ask", *words[:2], *options]).stdout.count("encode") == 1


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--height-of", " "], "the name of an object is empty"),
        (["--gap-between", "mug", "Mug"], "the names must differ"),
        (["--size-of", "x" * 300], "has 300 characters"),
    ],
)
def test_an_incomplete_question_is_refused_before_anything_is_loaded(
    words: list[str], reason: str
) -> None:
    result = runner.invoke(app, ["ask", *words, "--rgb", "/nowhere.png", "--model", "/nowhere"])
    assert result.exit_code == 1
    assert reason in result.stderr


def test_the_reason_for_a_missing_number_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    answer = SpatialAnswer("How tall is it?", "At most 1 m.", why_none="[1 m] is a bound")
    ask._print_answer(answer, with_question=False)
    assert "no number: [1 m] is a bound" in capsys.readouterr().out


def test_help_shows_the_typed_options_with_an_example() -> None:
    shown = runner.invoke(app, ["ask", "--help"], env={"COLUMNS": "120"}).stdout
    assert "--distance-between" in shown
    assert 'sdvlm ask --height-of "red mug" --gap-between "red mug" box' in shown


def test_a_command_without_any_question_is_a_usage_error() -> None:
    with pytest.raises(typer.BadParameter, match="--height-of 'red mug'"):
        all_questions([], {Quantity.HEIGHT: None})
    with pytest.raises(QueryError, match="empty"):
        all_questions([" "], {})
