"""`sdvlm replay` with a small checkpoint: exit statuses, outputs, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from sdvlm_core.answer import SpatialAnswer
from sdvlm_core.camera.bag_frames import CameraOptions
from sdvlm_core.cli.app import app
from sdvlm_core.replay.journal import ANSWERS
from tests import bags
from tests.bags import PERIOD_NS, START_NS
from tests.paths import ROOT
from tests.replays import (
    PixelEngine,
    bag_of,
    entries,
    write_questions,
)

runner = CliRunner()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    from tests.tiny_checkpoint import write_tiny_checkpoint

    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def invoke(tmp_path: Path, tiny: Path) -> Callable[..., Any]:
    """Runs the command on a bag of three frames."""
    bag = bag_of(tmp_path / "bag", 3)
    text = "questions:\n- question: How tall is it?\n  every: frame\n"
    questions = write_questions(tmp_path / "q.yaml", text)

    def call(*arguments: str, bag: Path = bag) -> Any:
        options = ["--questions", str(questions), "--out", str(tmp_path / "out")]
        model = ["--model", str(tiny), "--device", "cpu"]
        return runner.invoke(app, ["replay", str(bag), *options, *model, *arguments])

    return call


def test_the_command_answers_and_prints_where_the_outputs_are(
    tmp_path: Path, invoke: Callable[..., Any]
) -> None:
    result = invoke("--limit", "2", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == {
        "answered": 2,
        "errors": {},
        "cautions": {},
        "resumed": 0,
        "finished": True,
    }
    result = invoke()
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert "3 of 3 questions answered (2 of them by an earlier run)" in result.stderr
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"answers.jsonl", "replay.json", "report.html", "answers"}


def test_errors_have_status_one_and_leave_no_files(
    tmp_path: Path, invoke: Callable[..., Any]
) -> None:
    for arguments, reason in (
        (("--model", "/nowhere"), "/nowhere"),
        (("--color", "/nowhere"), "The bag has:"),
    ):
        result = invoke(*arguments)
        assert result.exit_code == 1
        assert reason in result.stderr
        assert not (tmp_path / "out").exists()
    (tmp_path / "file").touch()
    result = invoke("--json", "--out", str(tmp_path / "file"))
    assert result.exit_code == 1
    assert str(tmp_path / "file") in json.loads(result.stdout)["error"]["message"]
    result = invoke("--json", bag=tmp_path)
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["type"] == "BagError"
    assert invoke("--limit", "0").exit_code == 2
    assert runner.invoke(app, ["replay", str(tmp_path)]).exit_code == 2


def test_when_nothing_is_answered_the_status_is_one(
    tmp_path: Path, invoke: Callable[..., Any]
) -> None:
    dark = [r for n in range(2) for r in bags.frame(n, depth=np.zeros((48, 64), np.uint16))]
    result = invoke(bag=bags.write_bag(tmp_path / "dark", dark))
    assert result.exit_code == 1
    assert "0 of 2 questions answered; no answer: 2 BAD_DEPTH" in result.stderr
    assert (tmp_path / "out" / "report.html").exists()


def test_sigterm_stops_it_cleanly_and_prints_how_to_resume(tmp_path: Path, tiny: Path) -> None:
    bag = bag_of(tmp_path / "bag", 400)
    text = "questions:\n- question: How tall is it?\n  every: frame\n"
    questions = write_questions(tmp_path / "q.yaml", text)
    out = tmp_path / "out"
    arguments = ["replay", str(bag), "--questions", str(questions), "--out", str(out)]
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "sdvlm_core.cli",
            *arguments,
            "--model",
            str(tiny),
            "--device",
            "cpu",
        ],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    journal = out / ANSWERS
    while not journal.exists() or not journal.stat().st_size:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.terminate()
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, stderr
    assert "To resume: sdvlm replay" in stderr
    assert "Traceback" not in stderr
    assert 0 < len(entries(out)) < 400


@pytest.mark.parametrize("phase", ["answering", "writing"])
def test_ctrl_c_at_any_stage_stops_it_and_the_next_run_finishes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    phase: str,
) -> None:
    from sdvlm_core.cli import replay as replay_command
    from sdvlm_core.replay import pictures

    armed = True

    def interrupt() -> None:
        nonlocal armed
        if armed:
            armed = False
            os.kill(os.getpid(), signal.SIGINT)

    class Engine(PixelEngine):
        def _answer(self, frame: Any, question: str) -> SpatialAnswer:
            if phase == "answering" and frame.stamp_ns == START_NS + 2 * PERIOD_NS:
                interrupt()
            return super()._answer(frame, question)

    def jpeg(rgb: Any, quality: int = 90) -> bytes:
        if phase == "writing":
            interrupt()
        return encode(rgb, quality)

    encode = pictures.jpeg
    monkeypatch.setattr(pictures, "jpeg", jpeg)
    monkeypatch.setattr(replay_command, "_load", lambda chosen: Engine())
    text = "questions:\n- question: How tall is it?\n  every: frame\n"
    options = replay_command.ReplayOptions(
        bag=bag_of(tmp_path / "bag", 5),
        questions=write_questions(tmp_path / "q.yaml", text),
        out=tmp_path / "out",
        model="nano",
        device="cpu",
        dtype="auto",
        quantization="none",
        attention="auto",
        estimate_depth=None,
        camera=CameraOptions(),
        sync_slop=0.03,
        max_age=1.0,
        limit=None,
    )
    before = signal.getsignal(signal.SIGINT)
    outcome = replay_command.replay_bag(options)
    assert (outcome.signal, outcome.exit_status) == (signal.SIGINT, 130)
    assert outcome.summary.entries == (3 if phase == "answering" else 5)
    assert "To resume: sdvlm" in capsys.readouterr().err
    assert not (tmp_path / "out" / "report.html").exists()
    assert signal.getsignal(signal.SIGINT) == before
    outcome = replay_command.replay_bag(options)
    assert (outcome.exit_status, outcome.summary.answered) == (0, 5)
    assert [e["frame"] for e in entries(tmp_path / "out")] == [*range(5)]
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"answers.jsonl", "replay.json", "report.html", "answers"}


def test_replay_needs_neither_ros_nor_torch_to_be_imported() -> None:
    code = (
        "import sys\nimport sdvlm_core.cli.replay\n"
        "assert not {'torch', 'rclpy', 'sdvlm'} & set(sys.modules), sys.modules.keys()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
