"""The command line as scripts see it: exit statuses, one JSON document, reasons on stderr."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from sdvlm_core.answer import (
    Measurement,
    Position,
    Quantity,
    SpatialAnswer,
    Verdict,
    answer_document,
)
from sdvlm_core.cli import doctor
from sdvlm_core.cli.app import app
from sdvlm_core.cli.doctor import Check, State
from tests.tiny_checkpoint import write_tiny_checkpoint

runner = CliRunner()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def picture(tmp_path: Path) -> list[str]:
    """Options that name a frame in files."""
    files = {name: tmp_path / name for name in ("rgb.png", "depth.png", "intrinsics.json")}
    cv2.imwrite(str(files["rgb.png"]), np.full((48, 64, 3), 90, np.uint8))
    cv2.imwrite(str(files["depth.png"]), np.full((48, 64), 1500, np.uint16))
    values = {"fx": 60, "fy": 60, "cx": 31.5, "cy": 23.5, "width": 64, "height": 48}
    files["intrinsics.json"].write_text(json.dumps(values))
    options = zip(("--rgb", "--depth", "--intrinsics"), map(str, files.values()), strict=True)
    return [word for pair in options for word in pair]


def _on_cpu(model: Path) -> list[str]:
    return ["--model", str(model), "--device", "cpu"]


def refuse_constant(text: str) -> Any:
    raise AssertionError(f"{text} is not JSON")


def only_json(text: str) -> dict[str, Any]:
    """The single JSON document in `text`; other text is an error."""
    document: dict[str, Any] = json.loads(text, parse_constant=refuse_constant)
    return document


def test_an_answer_is_printed_and_the_status_is_zero(tiny: Path, picture: list[str]) -> None:
    result = runner.invoke(app, ["ask", "How tall is it?", *picture, *_on_cpu(tiny)])
    assert result.exit_code == 0, result.output
    assert "encode" in result.stdout


def test_json_is_one_document_with_the_question_and_si_values(
    tiny: Path, picture: list[str]
) -> None:
    result = runner.invoke(app, ["ask", "How tall is it?", *picture, *_on_cpu(tiny), "--json"])
    assert result.exit_code == 0, result.output
    document = only_json(result.stdout)
    assert document["question"] == "How tall is it?"
    assert document["model_id"] == str(tiny)
    assert document["depth_source"] == "sensor"
    assert document["timings"]["encode"] > 0


@pytest.mark.parametrize(
    ("changes", "kind", "reason"),
    [
        ({"question": "   "}, "QueryError", "empty"),
        ({"question": "why " * 1000}, "QueryError", "2000"),
        ({"--rgb": "/nowhere.png"}, "FrameError", "/nowhere.png"),
        ({"--depth": "/nowhere.png"}, "DepthError", "/nowhere.png"),
        ({"--intrinsics": "/nowhere.json"}, "IntrinsicsError", "/nowhere.json"),
        ({"--model": "/nowhere"}, "CheckpointError", "/nowhere"),
        ({"--depth-scale": "0"}, "DepthError", "scale"),
    ],
)
def test_an_error_has_status_one_and_its_reason_on_stderr(
    tiny: Path, picture: list[str], changes: dict[str, str], kind: str, reason: str
) -> None:
    options = dict(zip(picture[::2], picture[1::2], strict=True)) | {
        "--model": str(tiny),
        "--device": "cpu",
    }
    question = changes.pop("question", "How tall is it?")
    arguments = [word for pair in (options | changes).items() for word in pair]
    plain = runner.invoke(app, ["ask", question, *arguments])
    assert plain.exit_code == 1
    assert reason in plain.stderr
    assert plain.stdout == ""
    as_json = runner.invoke(app, ["ask", question, *arguments, "--json"])
    assert as_json.exit_code == 1
    assert reason in as_json.stderr
    assert only_json(as_json.stdout)["error"]["type"] == kind


def test_a_model_that_needs_intrinsics_refuses_a_frame_without_them(
    tiny: Path, picture: list[str]
) -> None:
    result = runner.invoke(app, ["ask", "How tall?", *picture[:4], *_on_cpu(tiny)])
    assert result.exit_code == 1
    assert "intrinsics" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["ask"],
        ["ask", "How tall?"],
        ["ask", "?", "--colour", "x"],
        ["asks"],
        ["ask", "--rgb", "c.png"],
        ["ask", "--rgb", "c.png", "--distance-between", "mug"],
        ["ask", "--rgb", "c.png", "--gap-between", "mug", "--json"],
        ["ask", "--rgb", "c.png", "--height-of"],
    ],
)
def test_wrong_usage_has_status_two(arguments: list[str]) -> None:
    assert runner.invoke(app, arguments).exit_code == 2


def test_help_shows_an_example_of_each_command() -> None:
    assert "sdvlm ask" in runner.invoke(app, ["ask", "--help"]).stdout
    for command in ("bench", "doctor"):
        assert f"sdvlm {command}" in runner.invoke(app, [command, "--help"]).stdout


def test_nan_becomes_null_and_enumerations_become_names(tiny: Path, picture: list[str]) -> None:
    answer = SpatialAnswer(
        question="How many?",
        text="2",
        measurements=(Measurement(Quantity.COUNT, 2.0), Measurement(Quantity.WIDTH, 0.5, 0.1)),
        positions=(Position("", 0.0, 0.0, 1.0),),
        verdict=Verdict.HOLDS,
    )
    document = answer_document(answer)
    assert document["verdict"] == "HOLDS"
    assert [m["unit"] for m in document["measurements"]] == ["", "m"]
    assert [m["kind"] for m in document["measurements"]] == ["COUNT", "WIDTH"]
    assert [m["std_dev"] for m in document["measurements"]] == [None, 0.1]
    assert document["confidence"] is None
    assert math.isnan(answer.confidence)
    assert only_json(json.dumps(document, allow_nan=False)) == document


def test_a_region_is_measured_with_the_answer_with_and_without_verify(
    tiny: Path, picture: list[str]
) -> None:
    regions = ["--region", "box=20,10,40,30", "--region", "lamp=2,2,12,12"]
    arguments = ["ask", *picture, *_on_cpu(tiny), "--gap-between", "box", "lamp", *regions]
    measured = only_json(runner.invoke(app, ["measure", *picture, *regions, "--json"]).stdout)
    for verify in ([], ["--verify"]):
        result = runner.invoke(app, [*arguments, *verify, "--json"])
        assert result.exit_code == 0, result.output
        document = only_json(result.stdout)
        assert document["asked"]["objects"] == ["box", "lamp"]
        assert ("checks" in document) is bool(verify)
        assert {key: document[key] for key in measured} == measured
    assert "lamp" in runner.invoke(app, arguments).stdout


def test_a_region_of_nothing_that_is_asked_is_measured_but_verifies_nothing(
    tiny: Path, picture: list[str]
) -> None:
    region = ["--region", "lamp=2,2,12,12"]
    arguments = ["ask", "--width-of", "box", *picture, *_on_cpu(tiny), *region]
    assert "lamp" in runner.invoke(app, arguments).stdout
    refused = runner.invoke(app, [*arguments, "--verify"])
    assert refused.exit_code == 1
    assert "labels: 'lamp'; objects: 'box'" in refused.stderr
    assert refused.stdout == ""


def test_answer_by_says_whose_numbers_an_answer_has(tiny: Path, picture: list[str]) -> None:
    region = ["--region", "box=20,10,40,30"]
    arguments = ["ask", "--width-of", "box", *picture, *_on_cpu(tiny), *region]

    def asked(*more: str) -> dict[str, Any]:
        result = runner.invoke(app, [*arguments, *more, "--json"])
        assert result.exit_code == 0, result.output
        return only_json(result.stdout)

    def without_times(document: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in document.items() if key != "timings"}

    assert "checks" not in asked() | asked("--answer-by", "language")
    assert without_times(asked("--answer-by", "both")) == without_times(asked("--verify"))
    alone = asked("--answer-by", "geometry")
    assert {one["source"] for one in alone["measurements"]} <= {"GEOMETRY"}
    assert (alone["status"] == "OK") is bool(alone["measurements"])
    assert alone["confidence"] is None
    refused = runner.invoke(app, [*arguments, "--verify", "--answer-by", "language"])
    assert (refused.exit_code, "answer_by is language" in refused.stderr) == (1, True)
    assert runner.invoke(app, [*arguments, "--answer-by", "guess"]).exit_code == 2


def test_bench_prints_the_time_of_each_stage_and_the_machine(tiny: Path) -> None:
    arguments = ["bench", *_on_cpu(tiny), "--rounds", "2"]
    result = runner.invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    figures = only_json(result.stdout)
    assert (figures["model"], figures["rounds"]) == (str(tiny), 2)
    assert "torch" in figures["machine"]
    assert all(figures[key] > 0 for key in ("encode_s", "prefill_s", "decode_s", "next_answer_s"))
    assert figures["encode_s"] < figures["first_answer_s"]
    assert "next_answer_s" in runner.invoke(app, arguments).stdout
    assert runner.invoke(app, ["bench", "--model", "/nowhere"]).exit_code == 1


@pytest.mark.parametrize(
    ("states", "status"),
    [((State.OK, State.MISSING), 0), ((State.OK, State.BROKEN), 1)],
)
def test_doctor_fails_only_if_a_necessary_part_is_broken(
    monkeypatch: pytest.MonkeyPatch, states: tuple[State, ...], status: int
) -> None:
    checks = [Check(f"part {n}", state, "found", "get [it]") for n, state in enumerate(states)]
    monkeypatch.setattr(doctor, "examine", lambda: checks)
    plain = runner.invoke(app, ["doctor"])
    assert plain.exit_code == status
    assert "get [it]" in plain.stdout
    as_json = runner.invoke(app, ["doctor", "--json"])
    assert as_json.exit_code == status
    document = only_json(as_json.stdout)
    assert document["ok"] is (status == 0)
    assert [check["state"] for check in document["checks"]] == [state.value for state in states]


def test_doctor_checks_this_machine_and_has_a_remedy_for_each_missing_part() -> None:
    checks = {check.name: check for check in doctor.examine()}
    assert {"python", "torch", "transformers", "device", "model nano", "ros"} <= checks.keys()
    assert checks["torch"].state is State.OK
    assert all(check.remedy for check in checks.values() if check.state is not State.OK)


def test_an_unexpected_failure_of_the_model_is_reported_as_a_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(options: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr("sdvlm_core.engine.load_engine", fail)
    checks = {check.name: check for check in doctor.examine()}
    assert checks["model nano"].state is State.BROKEN
    assert "mat1" in checks["model nano"].detail


def test_a_probe_that_crashes_or_hangs_is_reported_as_a_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert doctor._probe("import os; os.abort()")[0] is False
    monkeypatch.setattr(doctor, "_PROBE_TIMEOUT_S", 0.2)
    worked, reason = doctor._probe("import time; time.sleep(30)")
    assert not worked
    assert "no answer" in reason


def test_help_and_refused_usage_do_not_load_torch() -> None:
    code = (
        "import sys\nfrom sdvlm_core.cli.app import app\n"
        "app(['ask', '--help'], standalone_mode=False)\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def estimator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch = pytest.importorskip("torch")
    from tests.released_checkpoint import depth_anything_shapes, random_weights

    directory = tmp_path_factory.mktemp("estimator")
    torch.save(random_weights(depth_anything_shapes()), directory / "upstream.pth")
    arguments = ["convert", str(directory / "upstream.pth"), str(directory / "hf")]
    assert runner.invoke(app, arguments).exit_code == 0
    return directory / "hf"


def test_an_image_without_depth_uses_estimated_depth_only_on_request(
    tmp_path: Path, picture: list[str], estimator: Path
) -> None:
    model = write_tiny_checkpoint(tmp_path / "model", "relative")
    arguments = ["ask", "Where is it?", "--rgb", picture[1], *_on_cpu(model), "--json"]
    refused = runner.invoke(app, arguments)
    assert refused.exit_code == 1
    assert "depth estimator" in refused.stderr
    answered = runner.invoke(app, [*arguments, "--estimate-depth", str(estimator)])
    assert answered.exit_code == 0, answered.stderr
    assert only_json(answered.stdout)["depth_source"] == "estimated_relative"
    both = [*arguments, "--estimate-depth", str(estimator), *picture[2:4]]
    assert runner.invoke(app, both).exit_code == 2
