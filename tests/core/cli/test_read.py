"""`sdvlm read`: what is understood of a question and an answer, without a model."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from sdvlm_core.cli.app import app


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["read", *arguments])
    return result.exit_code, result.stdout


def test_a_number_is_printed_with_its_kind_and_objects() -> None:
    status, text = run("How far is the mug from the camera?", "It is 97 cm away.", "--json")
    document = json.loads(text)
    assert status == 0
    assert document["asked"]["quantity"] == "CAMERA_DISTANCE"
    assert document["asked"]["objects"] == ["mug"]
    (found,) = document["measurements"]
    assert found["value"] == pytest.approx(0.97)
    assert (found["kind"], found["objects"]) == ("CAMERA_DISTANCE", ["mug"])
    assert (document["image_points"], document["verdict"], document["absent"]) == (
        [],
        "UNDECIDED",
        False,
    )


def test_points_verdicts_and_absence_are_printed() -> None:
    _, text = run("Where is the mug?", "(0.5, 0.25)", "--json")
    assert json.loads(text)["image_points"] == [[0.5, 0.25]]
    _, text = run("Is the mug taller than the box?", "**Yes**", "--json")
    assert json.loads(text)["verdict"] == "HOLDS"
    _, text = run("How tall is the mug?", "There is no mug in the image.", "--json")
    assert json.loads(text)["absent"] is True


def test_the_numbers_of_several_objects_are_printed() -> None:
    _, text = run("What is the height of the mug and the box?", "0.1 m and 0.2 m", "--json")
    document = json.loads(text)
    assert document["asked"]["quantity"] == "FREE"
    assert [m["objects"] for m in document["measurements"]] == [["mug"], ["box"]]


def test_plain_output_has_the_reason_for_no_number() -> None:
    status, text = run("How tall is the mug?", "At most 10 cm.")
    assert status == 0
    assert "HEIGHT of mug" in text
    assert "it is a bound" in text
