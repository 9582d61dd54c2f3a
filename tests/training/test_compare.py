"""Two evaluations are compared question by question, and frame by frame."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from training.compare import compared

_METRIC = ("scale_estimation", "absolute_distance", "refer_obj_estimation")


def _line(frame: int, kind: str, correct: bool) -> dict[str, object]:
    return {"key": f"{frame}/{kind}", "frame": f"{frame}", "type": kind, "correct": correct}


def _answers(right_below: int) -> list[dict[str, object]]:
    kinds = (*_METRIC, "count")
    return [_line(at, kind, at < right_below) for at in range(40) for kind in kinds]


def test_a_difference_that_every_frame_shows_has_an_interval_without_zero() -> None:
    one, other, gain = compared(_answers(30), _answers(10))["metric"]
    assert (one.value, other.value, gain.value) == (75, 25, 50)
    assert gain.low > 30
    assert gain.excludes_zero


def test_equal_answers_differ_by_nothing_for_certain() -> None:
    *_, gain = compared(_answers(20), _answers(20))["all"]
    assert (gain.low, gain.value, gain.high) == (0, 0, 0)


def test_other_questions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"160 and 159 answers.*--limit"):
        compared(_answers(20), _answers(20)[1:])


def test_the_command_reads_what_evaluate_wrote_and_ends_with_json(tmp_path: Path) -> None:
    for name, right in (("one", 30), ("other", 10)):
        folder = tmp_path / name
        folder.mkdir()
        lines = map(json.dumps, [*_answers(right), _line(0, "gap", True)])
        (folder / "judged.jsonl").write_text("\n".join(lines), encoding="utf-8")
    command = [sys.executable, "-m", "training.compare", str(tmp_path / "one")]
    done = subprocess.run([*command, str(tmp_path / "other")], capture_output=True, check=True)
    assert json.loads(done.stdout)["metric"][2]["value"] == 50
    assert b"difference 50.0" in done.stderr
    missing = subprocess.run([*command, str(tmp_path / "none")], capture_output=True, check=False)
    assert missing.returncode == 2
    assert b"training.evaluate" in missing.stderr
