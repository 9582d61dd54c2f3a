"""An interrupted replay resumes: no entry is lost or duplicated."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sdvlm_core.answer import AnswerBy
from sdvlm_core.camera.bag_frames import BagCamera
from sdvlm_core.camera.bag_topics import find_topics
from sdvlm_core.camera.bags import open_bag
from sdvlm_core.errors import ReplayError
from sdvlm_core.replay.journal import ANSWERS, open_journal
from sdvlm_core.replay.run import Plan, describe
from sdvlm_core.replay.schedule import PlannedQuestion
from tests.bags import PERIOD_NS, START_NS
from tests.paths import ROOT
from tests.replays import (
    GAP,
    HEIGHT,
    PLACE,
    SECOND_NS,
    SLOP_NS,
    TYPED,
    PixelEngine,
    bag_of,
    entries,
    replay,
    without_timings,
)


def test_all_questions_about_a_frame_share_one_opening(tmp_path: Path) -> None:
    engine = PixelEngine()
    replay(bag_of(tmp_path / "bag", 3), tmp_path / "out", HEIGHT, PLACE, engine=engine)
    assert engine.opened == [START_NS + number * PERIOD_NS for number in range(3)]


def test_an_interrupted_run_resumes_where_it_stopped(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "bag", 6)
    replay(bag, tmp_path / "whole", HEIGHT, PLACE)
    first = PixelEngine()
    assert not replay(bag, tmp_path / "out", HEIGHT, PLACE, engine=first, limit=5).errors
    assert len(entries(tmp_path / "out")) == 5
    # A kill in the middle of a write leaves half a line.
    with open(tmp_path / "out" / ANSWERS, "ab") as journal:
        journal.write(b'{"entry": 5, "question": "Wh')
    second = PixelEngine()
    summary = replay(bag, tmp_path / "out", HEIGHT, PLACE, engine=second)
    assert (summary.answered, summary.resumed, summary.finished) == (12, 5, True)
    assert without_timings(tmp_path / "out") == without_timings(tmp_path / "whole")
    assert second.opened == [START_NS + number * PERIOD_NS for number in range(2, 6)]
    third = PixelEngine()
    assert replay(bag, tmp_path / "out", HEIGHT, PLACE, engine=third).resumed == 12
    assert third.opened == []


def test_kill_9_at_any_moment_loses_and_duplicates_no_entry(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "bag", 40)
    replay(bag, tmp_path / "whole", HEIGHT, PLACE)
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from tests.replays import HEIGHT, PLACE, PixelEngine, replay\n"
        f"replay(Path({str(bag)!r}), Path({str(tmp_path / 'out')!r}), HEIGHT, PLACE,"
        " engine=PixelEngine(0.01))"
    )
    journal = tmp_path / "out" / ANSWERS
    kills = 0
    for _ in range(10):
        before = journal.stat().st_size if journal.exists() else 0
        process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
        while process.poll() is None and kills < 3:
            if journal.exists() and journal.stat().st_size > before + 3000 + 1111 * kills:
                process.kill()
                kills += 1
                break
            time.sleep(0.002)
        if process.wait(120) == 0:
            break
    assert kills == 3
    assert process.returncode == 0
    assert without_timings(tmp_path / "out") == without_timings(tmp_path / "whole")
    assert len(entries(tmp_path / "out")) == 80


def test_a_typed_question_is_asked_as_it_is_and_resumes(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "bag", 3)
    replay(bag, tmp_path / "whole", HEIGHT, TYPED)
    replay(bag, tmp_path / "out", HEIGHT, TYPED, limit=3)
    assert replay(bag, tmp_path / "out", HEIGHT, TYPED).resumed == 3
    assert without_timings(tmp_path / "out") == without_timings(tmp_path / "whole")
    words, typed = entries(tmp_path / "out")[:2]
    assert words["asked"] is None
    assert (typed["asked"]["quantity"], typed["asked"]["objects"]) == ("GAP", ["wall", "box"])
    assert typed["answer"]["asked"] == typed["asked"]
    assert typed["question"] == TYPED.text


def test_another_object_of_a_typed_question_is_another_replay(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "bag", 2)
    replay(bag, tmp_path / "out", TYPED)
    changed = replace(TYPED, asked=replace(GAP, objects=("wall", "lamp")))
    with pytest.raises(ReplayError, match=r"other settings: questions was .*, is "):
        replay(bag, tmp_path / "out", changed)
    with pytest.raises(ReplayError, match=r"other settings: questions was .*, is "):
        replay(bag, tmp_path / "out", PlannedQuestion(TYPED.text))  # the same in words


def test_a_directory_of_another_replay_is_refused_with_what_differs(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "bag", 2)
    replay(bag, tmp_path / "out")
    with pytest.raises(ReplayError, match=r"other settings: questions was .*, is "):
        replay(bag, tmp_path / "out", PLACE)
    with pytest.raises(
        ReplayError, match=r"other settings: bag\.end_ns was \d+, is \d+; bag\.messages was "
    ):
        replay(bag_of(tmp_path / "other", 3), tmp_path / "out")
    bag.rename(tmp_path / "moved")
    assert replay(tmp_path / "moved", tmp_path / "out").resumed == 2
    (tmp_path / "out" / "replay.json").unlink()
    with pytest.raises(ReplayError, match=r"without its replay\.json"):
        replay(tmp_path / "moved", tmp_path / "out")


def test_a_damaged_line_is_reported_not_skipped(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "bag", 3)
    replay(bag, tmp_path / "out")
    journal = tmp_path / "out" / ANSWERS
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(lines[0] + b"{truncated\n" + lines[2])
    with pytest.raises(ReplayError, match="line 2 is damaged"):
        replay(bag, tmp_path / "out")
    journal.write_bytes(lines[0] + lines[2])
    with pytest.raises(ReplayError, match="line 2 is not entry 1"):
        replay(bag, tmp_path / "out")


def test_two_replays_do_not_write_into_one_directory(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "bag", 1)
    with open_bag(bag) as reader:
        plan = Plan(BagCamera(find_topics(reader)), (HEIGHT,), SLOP_NS, SECOND_NS, {"name": "p"})
        with (
            open_journal(tmp_path / "out", describe(reader, plan)),
            pytest.raises(ReplayError, match="another sdvlm replay is writing"),
        ):
            replay(bag, tmp_path / "out")


def test_a_replay_answered_by_geometry_has_no_number_of_the_model(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "bag", 1)
    replay(bag, tmp_path / "out", answer_by=AnswerBy.GEOMETRY)
    (entry,) = entries(tmp_path / "out")
    answer = entry["answer"]
    assert (answer["status"], answer["measurements"]) == ("NO_ANSWER", [])
    assert answer["why_none"]
    with pytest.raises(ReplayError):  # it would not be the same replay
        replay(bag, tmp_path / "out")
