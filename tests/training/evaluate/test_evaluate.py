"""An evaluation counts every question, resumes, and distinguishes a model that uses the image."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

# Not mujoco itself: the renderer must choose the GL backend before it is imported.
pytest.importorskip("training.simulate.renderer", reason="mujoco is absent (train.txt)")

from training.build.questions import MORE_TYPES, TYPES
from training.evaluate.benchmarks import PER_TYPE
from training.evaluate.outputs import ANSWERS
from training.evaluate.report import summarise
from training.evaluate.run import evaluate
from training.simulate.render import render_frames

SCENES = 8
COMMAND = typer.Typer()
COMMAND.command()(evaluate)


def _run(*arguments):
    """The command line, in this process."""
    return CliRunner().invoke(COMMAND, [*map(str, arguments)])


def _evaluate(data, out, *more):
    done = _run("--benchmark", data, "--out", out, *more)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    render_frames(folder, SCENES, seed=77)
    return folder


def test_nano_sees_what_a_shuffled_frame_hides(data, tmp_path):
    own = _evaluate(data, tmp_path / "own")
    blind = _evaluate(data, tmp_path / "blind", "--frames", "shuffled")
    assert set(own["per_type"]) == {*TYPES, *MORE_TYPES}
    assert own["asked"] == blind["asked"] == sum(t["asked"] for t in own["per_type"].values())
    assert max(entry["asked"] for entry in own["per_type"].values()) <= SCENES * PER_TYPE
    assert own["macro"] > blind["macro"] + 8

    answers = tmp_path / "own" / ANSWERS
    whole = answers.read_text().splitlines()
    answers.write_text("\n".join(whole[: len(whole) // 2]) + "\n" + whole[-1][:20])
    assert _evaluate(data, tmp_path / "own")["per_type"] == own["per_type"]


def test_answers_of_another_run_are_not_mixed_in(data, tmp_path):
    (tmp_path / ANSWERS).write_text(json.dumps({"model": "other"}) + "\n")
    done = _run("--benchmark", data, "--out", tmp_path)
    assert done.exit_code == 2
    assert "another run" in done.stderr


def test_a_folder_without_frames_is_refused_with_what_to_do(tmp_path):
    done = _run("--benchmark", tmp_path, "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert "training.simulate" in done.stderr


def test_the_macro_is_the_mean_of_msmu_s_types_and_a_missing_type_counts_nothing():
    rows = [{"type": kind, "correct": True} for kind in TYPES[:4]]
    rows += [{"type": TYPES[0], "correct": False}, {"type": "gap", "correct": True}]
    summary = summarise(rows, more=MORE_TYPES)
    assert summary["per_type"]["gap"] == {"success": 100.0, "correct": 1, "asked": 1}
    assert summary["per_type"][TYPES[0]] == {"success": 50.0, "correct": 1, "asked": 2}
    assert summary["macro"] == pytest.approx((50 + 100 * 3) / 8, abs=0.01)
