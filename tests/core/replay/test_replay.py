"""Bags answered without ROS: what is paired, when it is asked, and that nothing is lost or doubled.

Most tests run the real replay with an engine that answers from the pixels alone, so that they need
no model; the last ones run the command with a real, tiny checkpoint.
"""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags import rosbag2
from typer.testing import CliRunner

from sdvlm_core.answer import Kind, Measurement, Position, SpatialAnswer, Timings
from sdvlm_core.camera.bags import decode, find_topics, frames, open_bag
from sdvlm_core.cli.app import app
from sdvlm_core.errors import (
    BagError,
    QueryError,
    ReplayError,
)
from sdvlm_core.replay.answer_bag import typestore
from sdvlm_core.replay.outputs import write_outputs
from sdvlm_core.replay.run import ANSWERS, Plan, Summary, describe, open_journal, read_entries, run
from sdvlm_core.replay.schedule import EXAMPLE, PlannedQuestion, read_questions
from tests import bags
from tests.bags import CAMERA_INFO, DEPTH, IMAGE, INFO, PERIOD, RGB, START
from tests.paths import ROOT

SLOP = 30_000_000
SECOND = 1_000_000_000
runner = CliRunner()

HEIGHT = PlannedQuestion("How tall is the wall?")
PLACE = PlannedQuestion("Where is it?")


class PixelEngine:
    """Answers with numbers that follow from the frame and the question; opens are counted."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.opened: list[int] = []

    def open(self, frame: Any) -> Any:
        self.opened.append(frame.stamp_ns)
        return SimpleNamespace(
            frame=frame, ask=lambda question, cancel: self._answer(frame, question)
        )

    def _answer(self, frame: Any, question: str) -> SpatialAnswer:
        time.sleep(self.seconds)
        metres = float(np.nanmean(frame.depth))
        red = int(frame.rgb[..., 0].astype(int).sum())
        return SpatialAnswer(
            question=question,
            text=f"{metres:.4f} m, {red}",
            measurements=(Measurement(Kind.HEIGHT, metres, label="wall <b>$x$"),),
            image_points=((0.25, 0.5),),
            positions=(Position("it", 0.1, -0.2, metres),),
            model_id="pixels",
            depth_source="sensor",
            timings=Timings(decode=time.perf_counter() % 1),
        )


def replay(
    bag: Path,
    out: Path,
    *questions: PlannedQuestion,
    engine: Any = None,
    limit: int | None = None,
    max_age: float = 1.0,
    outputs: bool = False,
    stop: threading.Event | None = None,
) -> Summary:
    """What the command does, with another engine."""
    with open_bag(bag) as reader:
        topics = find_topics(reader)
        plan = Plan(topics, questions or (HEIGHT,), SLOP, round(max_age * SECOND), {"name": "p"})
        with open_journal(out, describe(reader, plan)) as journal:
            summary = run(
                reader, plan, journal, engine or PixelEngine(), stop or threading.Event(), limit
            )
            if outputs:
                write_outputs(reader, topics, out, bag.name)
    return summary


def entries(out: Path) -> list[dict[str, Any]]:
    return [*read_entries(out / ANSWERS)]


def timeless(out: Path) -> list[dict[str, Any]]:
    """The entries without how long they took, which is never the same."""
    found = entries(out)
    for entry in found:
        if entry["answer"] is not None:
            del entry["answer"]["timings"]
    return found


def bag_of(path: Path, count: int, form: str = "raw", **options: str) -> Path:
    records = [record for number in range(count) for record in bags.frame(number, form)]
    return bags.write_bag(path, records, **options)


def questions_yaml(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# Reading.


@pytest.mark.parametrize(
    ("storage", "compression"),
    [
        ("SQLITE3", "NONE"),
        ("SQLITE3", "FILE"),
        ("SQLITE3", "MESSAGE"),
        ("MCAP", "NONE"),
        ("MCAP", "FILE"),
        ("MCAP", "MESSAGE"),
        ("MCAP", "STORAGE"),
    ],
)
def test_every_storage_and_compression_gives_the_same_answers(
    tmp_path: Path, storage: str, compression: str
) -> None:
    plain = replay(bag_of(tmp_path / "plain", 3), tmp_path / "a")
    bag = bag_of(tmp_path / "bag", 3, storage=storage, compression=compression)
    assert replay(bag, tmp_path / "b") == plain
    assert timeless(tmp_path / "a") == timeless(tmp_path / "b")
    assert plain.answered == 3


def test_compressed_images_are_the_pixels_that_opencv_decodes(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "bag", 1, "compressed")
    with open_bag(bag) as reader:
        frame = decode(next(frames(reader, find_topics(reader), SLOP)))
    jpeg = cv2.imencode(".jpg", bags.picture(0)[..., ::-1])[1]
    np.testing.assert_array_equal(frame.rgb, cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[..., ::-1])
    assert frame.depth is not None
    np.testing.assert_array_equal(np.isnan(frame.depth), bags.millimetres(0) == 0)


def test_a_single_mcap_file_is_a_bag_too(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "bag", 2)
    assert replay(bag / "bag.mcap", tmp_path / "out").answered == 2


def test_what_is_no_bag_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BagError, match=r"it has no metadata\.yaml"), open_bag(tmp_path):
        pass
    with pytest.raises(BagError, match="does not exist"), open_bag(tmp_path / "no.mcap"):
        pass
    (tmp_path / "half.mcap").write_bytes(b"\x89MCAP0\r\n half of it")
    with pytest.raises(BagError, match="cannot be read"), open_bag(tmp_path / "half.mcap"):
        pass


def test_a_bag_that_is_torn_in_the_middle_keeps_what_was_answered(tmp_path: Path) -> None:
    # A chunk in the middle is damaged, the index behind it is not.
    rgb, depth = bags.picture(0, 320, 240), bags.millimetres(0, 320, 240)
    records = [r for number in range(24) for r in bags.frame(number, rgb=rgb, depth=depth)]
    bag = bags.write_bag(tmp_path / "bag", records, compression="STORAGE")
    data = bytearray((bag / "bag.mcap").read_bytes())
    at = len(data) * 7 // 10
    data[at : at + len(data) // 10] = bytes(len(data) // 10)
    (bag / "bag.mcap").write_bytes(data)
    with pytest.raises(BagError, match="cannot be read further"):
        replay(bag, tmp_path / "out")
    assert 0 < len(entries(tmp_path / "out")) < 24


# Topics.


def renamed(names: dict[str, str], *numbers: int) -> list[bags.Record]:
    return [
        bags.Record(names.get(r.topic, r.topic), r.kind, r.bag_ns, r.data)
        for number in numbers
        for r in bags.frame(number)
    ]


def topics_of(bag: Path, **named: Any) -> Any:
    with open_bag(bag) as reader:
        return find_topics(reader, **named)


def test_topics_of_any_name_are_found_by_what_they_hold(tmp_path: Path) -> None:
    names = {RGB: "/cam/a", DEPTH: "/cam/b", INFO: "/other/info"}
    found = topics_of(bags.write_bag(tmp_path / "bag", renamed(names, 0)))
    assert (found.color, found.depth, found.info) == ("/cam/a", "/cam/b", "/other/info")


def test_the_camera_info_beside_the_colour_image_is_the_one(tmp_path: Path) -> None:
    names = {RGB: "/cam/color/image_raw", DEPTH: "/cam/depth/image", INFO: "/cam/color/camera_info"}
    other = bags.record("/cam/depth/camera_info", CAMERA_INFO, bags.camera_info(START), START)
    bag = bags.write_bag(tmp_path / "bag", [*renamed(names, 0), other])
    assert topics_of(bag).info == "/cam/color/camera_info"


def test_a_raw_topic_wins_over_its_compressed_copy(tmp_path: Path) -> None:
    names = {RGB: "/cam/image", DEPTH: "/cam/depth", INFO: "/cam/camera_info"}
    jpeg = cv2.imencode(".jpg", bags.picture(0))[1].tobytes()
    copy = bags.compressed(jpeg, "jpeg", START)
    record = bags.record("/cam/image/compressed", bags.COMPRESSED, copy, START)
    assert topics_of(bags.write_bag(tmp_path / "bag", [*renamed(names, 0), record])).color == (
        "/cam/image"
    )


def test_two_cameras_are_refused_with_a_list_until_one_is_named(tmp_path: Path) -> None:
    left = {RGB: "/left/image", DEPTH: "/left/depth", INFO: "/left/camera_info"}
    right = {RGB: "/right/image", DEPTH: "/right/depth", INFO: "/right/camera_info"}
    bag = bags.write_bag(tmp_path / "bag", [*renamed(left, 0), *renamed(right, 0)])
    with pytest.raises(BagError, match=r"/left/image and /right/image could be colour") as refusal:
        topics_of(bag)
    assert "--color TOPIC" in str(refusal.value)
    assert f"/right/depth ({IMAGE}, 1 messages)" in str(refusal.value)
    found = topics_of(bag, color="/right/image", depth="right/depth")
    assert (found.color, found.depth, found.info) == (
        "/right/image",
        "/right/depth",
        "/right/camera_info",
    )
    with pytest.raises(BagError, match="no images on /nowhere"):
        topics_of(bag, color="/nowhere")


def test_without_depth_the_estimator_is_offered(tmp_path: Path) -> None:
    records = [r for r in bags.frame(0) if r.topic != DEPTH]
    bag = bags.write_bag(tmp_path / "bag", records)
    with pytest.raises(BagError, match="--estimate-depth"):
        topics_of(bag)
    assert topics_of(bag, with_depth=False).depth is None


# Pairing.


def test_a_frame_without_a_pair_or_with_bad_depth_is_an_error_entry(tmp_path: Path) -> None:
    unpaired = [r for r in bags.frame(1) if r.topic != DEPTH]
    without_info = [r for r in bags.frame(2) if r.topic != INFO]
    empty = bags.frame(3, depth=np.zeros((48, 64), np.uint16))
    wide = bags.frame(4, depth=bags.millimetres(4, width=80))
    torn = [
        bags.Record(r.topic, r.kind, r.bag_ns, r.data[:300] if r.topic == RGB else r.data)
        for r in bags.frame(5)
    ]
    stump = [
        bags.Record(r.topic, r.kind, r.bag_ns, r.data[:6] if r.topic == RGB else r.data)
        for r in bags.frame(6)
    ]
    unset = [
        bags.record(RGB, IMAGE, bags.image(bags.picture(7), "rgb8", 0), START + 7 * PERIOD),
        *bags.frame(7)[1:],
    ]
    bayer = [
        bags.record(
            RGB,
            IMAGE,
            bags.image(bags.picture(8), "bayer_rggb8", START + 8 * PERIOD),
            START + 8 * PERIOD,
        ),
        *bags.frame(8)[1:],
    ]
    groups = [bags.frame(0), unpaired, without_info, empty, wide, torn, stump, unset, bayer]
    bag = bags.write_bag(tmp_path / "bag", [r for group in [*groups, bags.frame(9)] for r in group])
    summary = replay(bag, tmp_path / "out", outputs=True)
    found = entries(tmp_path / "out")
    assert [e["frame"] for e in found] == [*range(10)]
    names = [e["error"]["name"] if e["error"] else "" for e in found]
    assert names == [
        "",
        "BAD_DEPTH",
        "BAD_CAMERA_INFO",
        "BAD_DEPTH",
        "BAD_DEPTH",
        "NO_IMAGE",
        "NO_IMAGE",
        "STALE_IMAGE",
        "NO_IMAGE",
        "",
    ]
    assert found[1]["error"]["code"] == 9603
    assert "no depth within 0.03 s (--sync-slop)" in found[1]["error"]["message"]
    assert "0.100 s away" in found[1]["error"]["message"]
    assert "80x48 but colour is 64x48" in found[4]["error"]["message"]
    assert "header.stamp is 0" in found[7]["error"]["message"]
    assert summary.answered == 2
    assert summary.errors.total() == 8


def test_what_belongs_together_is_found_before_and_behind_the_image(tmp_path: Path) -> None:
    """Depth logged four images late, info early: the stamps decide, not the order."""
    records = [r for number in range(10) for r in bags.frame(number)]
    shift = {DEPTH: 4 * PERIOD + 7, INFO: -3 * PERIOD, RGB: 0}
    late = sorted(
        (bags.Record(r.topic, r.kind, r.bag_ns + shift[r.topic], r.data) for r in records),
        key=lambda r: r.bag_ns,
    )
    replay(bags.write_bag(tmp_path / "late", late), tmp_path / "b")
    replay(bags.write_bag(tmp_path / "plain", records), tmp_path / "a")
    texts = [[e["answer"]["text"] for e in entries(tmp_path / name)] for name in ("a", "b")]
    assert texts[0] == texts[1]
    assert len(set(texts[0])) == 10


def test_stamps_that_jump_back_pair_with_their_own_lap(tmp_path: Path) -> None:
    lap = [r for number in range(12) for r in bags.frame(number)]
    later = [bags.Record(r.topic, r.kind, r.bag_ns + 12 * PERIOD, r.data) for r in lap]
    bag = bags.write_bag(tmp_path / "bag", [*lap, *later])
    assert replay(bag, tmp_path / "out").answered == 24
    texts = [e["answer"]["text"] for e in entries(tmp_path / "out")]
    assert texts[:12] == texts[12:]


def test_a_bag_is_streamed_and_never_held(tmp_path: Path) -> None:
    """300 frames of 640x480 are 460 MB; what is held at once is a small part of it."""
    rgb, depth = bags.picture(0, 640, 480), bags.millimetres(0, 640, 480)
    bag = bags.write_bag(
        tmp_path / "bag",
        (r for number in range(300) for r in bags.frame(number, rgb=rgb, depth=depth)),
        compression="STORAGE",
    )
    code = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from sdvlm_core.camera.bags import find_topics, frames, open_bag\n"
        f"with open_bag(Path({str(bag)!r})) as reader:\n"
        "    topics = find_topics(reader)\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"    count = sum(f.refusal is None for f in frames(reader, topics, {SLOP}))\n"
        "grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before\n"
        "print(count, grown // 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    count, megabytes = map(int, done.stdout.split())
    assert count == 300
    assert megabytes < 150


# When.


def test_questions_are_asked_at_times_periodically_and_on_every_frame(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "bag", 10)  # one frame each 0.1 s
    at = PlannedQuestion("at?", at_ns=(0, 250_000_000))
    every = PlannedQuestion("every?", every_ns=300_000_000)
    replay(bag, tmp_path / "out", at, every, HEIGHT)
    asked = [(e["question"], e["frame"]) for e in entries(tmp_path / "out")]
    assert [frame for question, frame in asked if question == "at?"] == [0, 2]
    assert [frame for question, frame in asked if question == "every?"] == [0, 3, 6, 9]
    assert [frame for question, frame in asked if question == HEIGHT.text] == [*range(10)]
    assert [frame for _, frame in asked] == sorted(frame for _, frame in asked)


def test_all_questions_about_a_frame_share_one_opening(tmp_path: Path) -> None:
    engine = PixelEngine()
    replay(bag_of(tmp_path / "bag", 3), tmp_path / "out", HEIGHT, PLACE, engine=engine)
    assert engine.opened == [START + number * PERIOD for number in range(3)]


def test_a_moment_without_a_fresh_image_is_told_and_not_answered_from_an_old_one(
    tmp_path: Path,
) -> None:
    records = [r for number in (0, 1, 30, 31) for r in bags.frame(number)]  # 2.9 s of nothing
    bag = bags.write_bag(tmp_path / "bag", records)
    at = PlannedQuestion("at?", at_ns=(SECOND, 2 * SECOND, 99 * SECOND))
    every = PlannedQuestion("every?", every_ns=SECOND // 4)
    replay(bag, tmp_path / "out", at, every)
    found = entries(tmp_path / "out")
    outcomes = [(e["question"], e["frame"], e["error"] and e["error"]["name"]) for e in found]
    assert outcomes == [
        ("every?", 0, None),
        ("at?", 1, None),
        ("at?", 1, "STALE_IMAGE"),
        ("every?", 1, None),
        ("every?", 1, "STALE_IMAGE"),  # once for the whole gap
        ("every?", 2, None),
        ("at?", None, "NO_IMAGE"),
    ]
    assert "1.900 s old (--max-age is 1 s)" in found[2]["error"]["message"]
    assert "the bag ends 3.100 s after its start" in found[-1]["error"]["message"]
    assert found[-1]["asked_at_s"] == 99.0


def test_a_bag_that_begins_before_its_first_image_does_not_lose_the_beginning(
    tmp_path: Path,
) -> None:
    early = bags.record("/imu", "std_msgs/msg/String", bags.make("std_msgs/msg/String", data=""), 0)
    for lead, expected in ((50_000_000, [None]), (3 * SECOND, ["STALE_IMAGE", None])):
        first = bags.Record(early.topic, early.kind, START + bags.LATENCY - lead, early.data)
        bag = bags.write_bag(tmp_path / f"bag{lead}", [first, *bags.frame(0)])
        every = PlannedQuestion("every?", every_ns=SECOND)
        replay(bag, tmp_path / f"out{lead}", every)
        found = entries(tmp_path / f"out{lead}")
        assert [e["error"] and e["error"]["name"] for e in found] == expected


# The questions.


def test_the_example_is_valid(tmp_path: Path) -> None:
    questions = read_questions(questions_yaml(tmp_path / "q.yaml", EXAMPLE))
    assert [(q.at_ns, q.every_ns) for q in questions] == [
        ((500_000_000, 12 * SECOND), 0),
        ((), 2 * SECOND),
        ((), 0),
    ]
    shown = runner.invoke(app, ["replay", "--help"], env={"COLUMNS": "120"}).stdout
    lines = {line.strip(" │") for line in shown.splitlines()}
    assert {line.strip() for line in EXAMPLE.splitlines()} <= lines


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must be a mapping with questions"),
        ("- question: How?\n", "must be a mapping with questions"),
        ("questions: []\n", "at least one question"),
        ("questions:\n- question: a\n  every: frame\nmodel: nano\n", "unknown key 'model'"),
        ("questions:\n- question: a\n  evry: 1\n", "question 1: unknown key 'evry'; there is at"),
        ("questions:\n- question: a\n  every: frame\n- question: b\n", "question 2: needs `at` or"),
        ("questions:\n- question: a\n  at: 1\n  every: 1\n", "not both"),
        ("questions:\n- question: '  '\n  at: 1\n", "question 1: the question is empty"),
        ("questions:\n- question: 7\n  at: 1\n", "must be words, found 7"),
        ("questions:\n- every: 1\n", "must be words, found None"),
        ("questions:\n- question: a\n  at: [1, -2]\n", "`at` must be seconds, found -2"),
        ("questions:\n- question: a\n  at: []\n", "`at` is empty"),
        ("questions:\n- question: a\n  every: 0\n", "more than 0"),
        ("questions:\n- question: a\n  every: true\n", "seconds or the word frame, found True"),
        ("questions:\n- question: a\n  every: .nan\n", "seconds or the word frame, found nan"),
        ("questions: [", "cannot be read as questions"),
    ],
)
def test_questions_that_are_not_understood_are_refused_with_their_place(
    tmp_path: Path, text: str, reason: str
) -> None:
    with pytest.raises(QueryError, match=re.escape(reason)):
        read_questions(questions_yaml(tmp_path / "q.yaml", text))


# Going on.


def test_a_run_that_ended_early_goes_on_where_it_was(tmp_path: Path) -> None:
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
    assert timeless(tmp_path / "out") == timeless(tmp_path / "whole")
    assert second.opened == [START + number * PERIOD for number in range(2, 6)]
    third = PixelEngine()
    assert replay(bag, tmp_path / "out", HEIGHT, PLACE, engine=third).resumed == 12
    assert third.opened == []


def test_kill_9_at_any_moment_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "bag", 40)
    replay(bag, tmp_path / "whole", HEIGHT, PLACE)
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from tests.core.replay.test_replay import HEIGHT, PLACE, PixelEngine, replay\n"
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
        if process.wait(60) == 0:
            break
    assert kills == 3
    assert process.returncode == 0
    assert timeless(tmp_path / "out") == timeless(tmp_path / "whole")
    assert len(entries(tmp_path / "out")) == 80


def test_a_directory_of_another_replay_is_refused_by_what_differs(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "bag", 2)
    replay(bag, tmp_path / "out")
    with pytest.raises(ReplayError, match="another questions"):
        replay(bag, tmp_path / "out", PLACE)
    with pytest.raises(ReplayError, match="another bag"):
        replay(bag_of(tmp_path / "other", 3), tmp_path / "out")
    bag.rename(tmp_path / "moved")
    assert replay(tmp_path / "moved", tmp_path / "out").resumed == 2
    (tmp_path / "out" / "replay.json").unlink()
    with pytest.raises(ReplayError, match=r"without its replay\.json"):
        replay(tmp_path / "moved", tmp_path / "out")


def test_a_damaged_line_is_named_and_not_passed_over(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "bag", 3)
    replay(bag, tmp_path / "out")
    journal = tmp_path / "out" / ANSWERS
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(lines[0] + b"{torn\n" + lines[2])
    with pytest.raises(ReplayError, match="line 2 is damaged"):
        replay(bag, tmp_path / "out")
    journal.write_bytes(lines[0] + lines[2])
    with pytest.raises(ReplayError, match="line 2 is not entry 1"):
        replay(bag, tmp_path / "out")


def test_two_replays_do_not_write_into_one_directory(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "bag", 1)
    with open_bag(bag) as reader:
        plan = Plan(find_topics(reader), (HEIGHT,), SLOP, SECOND, {"name": "p"})
        with (
            open_journal(tmp_path / "out", describe(reader, plan)),
            pytest.raises(ReplayError, match="another sdvlm replay is writing"),
        ):
            replay(bag, tmp_path / "out")


# What comes out.


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A replay of five frames, one of them without depth, with transforms in the bag."""
    directory = tmp_path_factory.mktemp("outputs")
    records = [
        r for number in range(5) for r in bags.frame(number) if number != 2 or r.topic == RGB
    ]
    empty = bags.make("tf2_msgs/msg/TFMessage", transforms=[])
    records.insert(0, bags.record("/tf_static", "tf2_msgs/msg/TFMessage", empty, START))
    bag = bags.write_bag(directory / "drive", records)
    late = PlannedQuestion("Late?", at_ns=(50 * SECOND,))
    replay(bag, directory / "out", HEIGHT, PLACE, late, outputs=True)
    return directory / "out"


def messages_of(bag: Path) -> dict[str, list[tuple[int, Any]]]:
    found: dict[str, list[tuple[int, Any]]] = {}
    with rosbag2.Reader(bag) as reader:
        for connection, bag_ns, data in reader.messages():
            message = typestore().deserialize_cdr(data, connection.msgtype)
            found.setdefault(connection.topic, []).append((bag_ns, message))
    return found


def test_the_output_bag_has_answers_markers_pictures_and_errors_on_the_bags_clock(
    outputs: Path,
) -> None:
    found = messages_of(outputs / "answers")
    answers = found["/spatial_query/answers"]
    assert [bag_ns for bag_ns, _ in answers[::2]] == [
        START + number * PERIOD + bags.LATENCY for number in (0, 1, 3, 4)
    ]
    first = answers[0][1]
    assert (first.header.stamp.sec, first.header.frame_id) == (START // SECOND, "optical")
    assert first.measurements[0].value == first.positions[0].z
    assert np.isnan(first.measurements[0].std_dev)
    assert np.isnan(first.confidence)
    markers = [message.markers for _, message in found["/spatial_query/markers"]]
    # Each frame takes the old ones away; the one without an answer leaves none behind.
    assert [m[0].action for m in markers] == [3] * 5
    assert [len(m) for m in markers] == [5, 5, 1, 5, 5]
    sphere = markers[0][1]
    assert (sphere.type, sphere.header.frame_id) == (2, "optical")
    assert sphere.pose.position.z == first.positions[0].z
    pictures = found["/spatial_query/annotated_image/compressed"]
    assert len(pictures) == 5
    sizes = {cv2.imdecode(m.data, cv2.IMREAD_COLOR).shape for _, m in pictures}
    assert len(sizes) == 1, "a video has pictures of one size"
    logged = [m.msg for _, m in found["/rosout"]]
    assert [text.split(":")[0] for text in logged] == [
        "How tall is the wall? BAD_DEPTH",
        "Where is it? BAD_DEPTH",
        "Late? NO_IMAGE",
    ]
    assert len(found["/tf_static"]) == 1


def test_the_output_bag_is_read_by_the_mcap_library_with_its_schemas(outputs: Path) -> None:
    reader_module = pytest.importorskip("mcap.reader")
    with open(outputs / "answers" / "answers.mcap", "rb") as file:
        reader = reader_module.make_reader(file, validate_crcs=True)
        summary = reader.get_summary()
        assert len([*reader.iter_messages()]) == 22
    schemas = {schema.name: schema for schema in summary.schemas.values()}
    assert schemas["sdvlm/msg/SpatialAnswer"].encoding == "ros2msg"
    assert b"MSG: sdvlm/Measurement" in schemas["sdvlm/msg/SpatialAnswer"].data
    assert summary.statistics.message_count == 22


def test_the_interfaces_of_the_output_bag_are_those_of_the_package() -> None:
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    from sdvlm_core.camera.definitions import DEFINITIONS

    for name, text in DEFINITIONS.items():
        published = (ROOT / "msg" / f"{name.rsplit('/')[-1]}.msg").read_text(encoding="utf-8")
        assert get_types_from_msg(published, name) == get_types_from_msg(text, name)
        own = get_typestore(Stores.ROS2_JAZZY)
        own.register(get_types_from_msg(text, name))
    described = ROOT / ".venv" / "share" / "sdvlm" / "msg" / "SpatialAnswer.json"
    if described.exists():  # what rosidl itself computed
        hashes = {
            entry["type_name"]: entry["hash_string"]
            for entry in json.loads(described.read_text())["type_hashes"]
        }
        for name in DEFINITIONS:
            assert typestore().hash_rihs01(name) == hashes[name]


def test_the_report_is_one_file_with_a_row_a_picture_and_a_plot(outputs: Path) -> None:
    page = (outputs / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?!data:)', page), "nothing is loaded from elsewhere"
    embedded = re.findall(r'src="data:image/(\w+);base64,([^"]+)"', page)
    pictures = [
        cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        for _, data in embedded
    ]
    assert all(picture is not None for picture in pictures)
    kinds = [kind for kind, _ in embedded]
    assert kinds.count("jpeg") == 10, "five frames, two questions"
    assert kinds.count("png") == 4, "height and position of two questions"
    assert page.count("<tr>") == 3 + 11
    assert "wall &lt;b&gt;$x$" in page
    assert "the bag ends 0.405 s after its start" in page


def test_the_outputs_of_an_interrupted_run_are_those_of_a_whole_one(
    tmp_path: Path, outputs: Path
) -> None:
    bag = bag_of(tmp_path / "bag", 4)
    replay(bag, tmp_path / "a", outputs=True)
    replay(bag, tmp_path / "b", limit=2, outputs=True)
    replay(bag, tmp_path / "b", outputs=True)

    def shown(out: Path) -> Any:
        return {
            topic: [(bag_ns, len(getattr(m, "data", ""))) for bag_ns, m in found]
            for topic, found in messages_of(out / "answers").items()
        }

    assert shown(tmp_path / "a") == shown(tmp_path / "b")
    assert not (tmp_path / "b" / ".made").exists()


# The command.


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
    questions = questions_yaml(tmp_path / "q.yaml", text)

    def call(*words: str, bag: Path = bag) -> Any:
        options = ["--questions", str(questions), "--out", str(tmp_path / "out")]
        return runner.invoke(app, ["replay", str(bag), *options, "--model", str(tiny), *words])

    return call


def test_the_command_answers_writes_everything_and_says_where(
    tmp_path: Path, invoke: Callable[..., Any]
) -> None:
    result = invoke("--limit", "2", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == {
        "answered": 2,
        "errors": {},
        "resumed": 0,
        "finished": True,
    }
    result = invoke()
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert "3 of 3 questions answered (2 of them by an earlier run)" in result.stderr
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"answers.jsonl", "replay.json", "report.html", "answers"}


def test_refusals_have_status_one_and_leave_no_mark(
    tmp_path: Path, invoke: Callable[..., Any]
) -> None:
    for words, reason in (
        (("--model", "/nowhere"), "/nowhere"),
        (("--color", "/nowhere"), "The bag has:"),
    ):
        result = invoke(*words)
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


def test_sigterm_ends_it_cleanly_and_says_how_to_go_on(tmp_path: Path, tiny: Path) -> None:
    bag = bag_of(tmp_path / "bag", 400)
    text = "questions:\n- question: How tall is it?\n  every: frame\n"
    questions = questions_yaml(tmp_path / "q.yaml", text)
    out = tmp_path / "out"
    words = ["replay", str(bag), "--questions", str(questions), "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "sdvlm_core.cli", *words, "--model", str(tiny)],
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
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert "To resume: sdvlm replay" in said
    assert "Traceback" not in said
    assert 0 < len(entries(out)) < 400


@pytest.mark.parametrize("phase", ["answering", "writing"])
def test_ctrl_c_at_any_stage_ends_it_and_the_next_run_finishes(
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
            if phase == "answering" and frame.stamp_ns == START + 2 * PERIOD:
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
        questions=questions_yaml(tmp_path / "q.yaml", text),
        out=tmp_path / "out",
        model="nano",
        device="auto",
        dtype="auto",
        quantization="none",
        attention="auto",
        estimate_depth=None,
        color=None,
        depth=None,
        info=None,
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
