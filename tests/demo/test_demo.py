"""The demo: its files are consistent, its report is one page, its processes are stopped."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from demo import run
from demo.report import read_pictures, write_picture, write_report
from tests.tiny_checkpoint import write_tiny_checkpoint
from tests.waiting import PATIENCE_S
from training.build.questions import TYPES
from training.evaluate.judges import judged

ENTRIES: list[dict[str, Any]] = yaml.safe_load(run.QUESTIONS.read_text(encoding="utf-8"))


def make_row(entry: dict[str, Any], **changes: Any) -> run.Row:
    known = {key: entry[key] for key in ("type", "question", "truth")}
    return run.Row(**{**known, "answer": entry["truth"], "correct": True, "total": 0.1, **changes})


def test_the_demo_names_the_command_that_shows_its_bag_in_a_page(monkeypatch) -> None:
    monkeypatch.chdir(run.ROOT)
    program, verb, *options = shlex.split(run.page_command("nano"))
    assert Path(program).name == "sdvlm"
    assert verb == "view"
    assert Path(options[options.index("--bag") + 1]).resolve() == run.BAG


def test_the_bag_is_small_enough_to_commit() -> None:
    assert sum(file.stat().st_size for file in run.BAG.iterdir()) <= 5_000_000


def test_there_is_one_question_of_each_msmu_type() -> None:
    assert sorted(entry["type"] for entry in ENTRIES) == sorted(TYPES)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["type"])
def test_the_true_answer_is_correct_by_the_scoring_rule(entry: dict[str, Any]) -> None:
    item = run.item_of(entry)
    assert judged(item, entry["truth"]).correct
    assert not judged(item, "").correct


def test_the_red_book_of_the_questions_is_red_in_the_picture_and_has_depth() -> None:
    rgb, depth = read_pictures(run.BAG)
    boxes = {name: box for entry in ENTRIES for name, box in entry["boxes"].items()}
    x1, y1, x2, y2 = boxes["red book"]
    middle = (
        slice((3 * y1 + y2) // 4, (y1 + 3 * y2) // 4),
        slice((3 * x1 + x2) // 4, (x1 + 3 * x2) // 4),
    )
    red, green, blue = np.median(rgb[middle].reshape(-1, 3), axis=0)
    assert red > 2 * max(green, blue)
    assert 0.2 < np.nanmedian(depth[middle]) < 5


@pytest.mark.parametrize(
    ("kind", "text", "values", "words"),
    [
        ("count", "2.", [2.0], "2"),
        ("scale_estimation", "0.13 m.", [0.13], "0.13 m"),
        ("scale_estimation", "1 m x 2 m x 3 m.", [1.0, 2.0, 3.0], "1 x 2 x 3 m"),
        ("grounding", "(0.17,0.46).", [], "(0.17, 0.46)"),
        ("grounding", "The red book.", [], "red book"),
        ("existence", "No.", [], "no"),
        ("existence", "There is no bin in the image.", [], "absent"),
        ("existence", "", [], ""),
    ],
)
def test_the_parsed_value_is_what_a_planner_receives(
    kind: str, text: str, values: list[float], words: str
) -> None:
    assert run.parsed_value({"type": kind}, text, values) == words


def test_the_report_is_one_page_without_scripts_or_external_files(tmp_path: Path) -> None:
    rows = [make_row(entry) for entry in ENTRIES]
    rows[0] = make_row(ENTRIES[0], answer="<script>alert(1)</script>")
    rows[1] = make_row(ENTRIES[1], error="TIMEOUT: no answer", correct=False)
    path = tmp_path / "report.html"
    write_report(path, run.BAG, ENTRIES, rows, "nano")
    page = path.read_text(encoding="utf-8")
    assert "<script" not in page
    assert "TIMEOUT: no answer" in page
    assert all(source.startswith("data:") for source in re.findall(r'(?:src|href)="([^"]*)', page))
    assert list(tmp_path.iterdir()) == [path]


def test_any_answer_can_be_drawn_into_the_picture(tmp_path: Path) -> None:
    rows = [make_row(entry, answer="$\\frac{\n" * 50) for entry in ENTRIES]
    write_picture(tmp_path / "picture.png", run.BAG, ENTRIES, rows)
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_a_signal_while_a_child_starts_is_handled_when_it_can_be_stopped() -> None:
    done = []

    def start() -> None:
        with run.signals_deferred():
            signal.raise_signal(signal.SIGINT)
            done.append("started")

    # A shell's background job ignores SIGINT, and this process may be one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            start()
    finally:
        signal.signal(signal.SIGINT, before)
    assert done == ["started"]


def test_a_child_that_ignores_signals_is_killed_after_the_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run, "_STOP_TIMEOUT_S", 0.3)
    deaf = (
        "import signal, time\nfor s in (2, 15): signal.signal(s, signal.SIG_IGN)\n"
        "print('deaf', flush=True)\ntime.sleep(60)"
    )
    with run.running("child", [sys.executable, "-c", deaf]) as child:
        while not child.log.seek(0, 2):
            assert child.process.poll() is None
    assert child.process.returncode == -9


def test_a_child_that_ended_is_reported_with_its_last_output() -> None:
    with run.running("child", [sys.executable, "-c", "raise SystemExit('no camera')"]) as child:
        child.process.wait(PATIENCE_S)
        with pytest.raises(run.DemoFailed, match=r"status 1.*\n?.*no camera"):
            child.check()


def start_demo(model: Path) -> subprocess.Popen[str]:
    pytest.importorskip("rclpy", reason="needs ROS")
    pytest.importorskip("sdvlm.srv", reason="needs the built interfaces")
    script, report = run.ROOT / "demo" / "run.py", model.with_name("report.html")
    return subprocess.Popen(
        [sys.executable, str(script), "--model", str(model), "--report", str(report)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_demo(model: Path) -> tuple[int, dict[str, Any], str]:
    with start_demo(model) as process:
        output, errors = process.communicate(timeout=3 * PATIENCE_S)
    return process.returncode, json.loads(output.splitlines()[-1]), errors


def commands_with(word: str) -> list[str]:
    """Command lines of the running processes that contain a word."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if word in command:
            found.append(command)
    return found


@pytest.mark.ros
@pytest.mark.slow
def test_the_demo_answers_every_question_and_leaves_no_process_behind(tmp_path: Path) -> None:
    model = write_tiny_checkpoint(tmp_path / "tiny")
    status, summary, errors = run_demo(model)
    assert status == 0, errors
    assert summary["asked"] == summary["answered"] == len(ENTRIES)
    assert summary["median_latency_s"] > 0
    assert summary["model"] == str(model)
    assert (tmp_path / "report.html").exists()
    assert commands_with(str(model)) == []


@pytest.mark.ros
@pytest.mark.slow
def test_the_demo_fails_with_the_reason_if_the_model_does_not_load(tmp_path: Path) -> None:
    model = tmp_path / "nowhere"
    status, summary, errors = run_demo(model)
    assert status == 1
    assert summary["answered"] == 0
    assert "MODEL_NOT_READY" in errors
    assert commands_with(str(model)) == []


@pytest.mark.ros
@pytest.mark.slow
def test_a_terminated_demo_stops_its_node(tmp_path: Path) -> None:
    model = write_tiny_checkpoint(tmp_path / "tiny")
    with start_demo(model) as process:
        deadline = time.monotonic() + PATIENCE_S
        while not any("sdvlm_ros.node" in command for command in commands_with(str(model))):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.terminate()
        process.communicate(timeout=3 * PATIENCE_S)
    assert process.returncode == 143
    assert commands_with(str(model)) == []
