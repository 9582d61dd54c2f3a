"""Cautions reach every output of a replay; why a question has no answer is printed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sdvlm_core.camera.bag_frames import CameraOptions
from sdvlm_core.camera.bags import deserialize, open_bag, stream
from sdvlm_core.camera.settings import CameraSettings
from sdvlm_core.cli.replay import print_counted
from sdvlm_core.errors import ReplayError
from sdvlm_core.replay import answer_bag, outputs, pictures
from sdvlm_core.replay.run import Summary
from tests import bags
from tests.replays import bag_of, entries, replay

CODE = "unregistered_depth"


@pytest.fixture
def doubtful(tmp_path: Path) -> Path:
    """A bag whose depth is of another frame_id and does not fit to colour."""
    records = []
    for number in range(2):
        color, _, info = bags.frame(number)
        stamp_ns = bags.START_NS + number * bags.PERIOD_NS
        message = bags.image(bags.millimetres(number), "16UC1", stamp_ns)
        message.header.frame_id = "depth_optical"
        records += [color, bags.record(bags.DEPTH, bags.IMAGE, message, stamp_ns), info]
    return bags.write_bag(tmp_path / "doubtful", records)


def test_cautions_reach_the_entries_the_summary_the_report_and_the_bag(
    tmp_path: Path, doubtful: Path
) -> None:
    summary = replay(doubtful, tmp_path / "out", outputs=True)
    assert summary.cautions[CODE] == 2
    assert any("depth_optical" in text for text in summary.caution_reasons)
    for entry in entries(tmp_path / "out"):
        assert CODE in entry["answer"]["cautions"]
        assert any("depth_optical" in text for text in entry["reasons"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"caution: {CODE}" in page
    assert "depth_optical" in page
    found = []
    texts = []
    with open_bag(tmp_path / "out" / "answers") as reader:
        for connection, _, data in stream(reader, (answer_bag.ANSWERS, answer_bag.MARKERS)):
            message = answer_bag.typestore().deserialize_cdr(data, connection.msgtype)
            if connection.topic == answer_bag.ANSWERS:
                found.append([*message.cautions])
            else:
                texts += [marker.text for marker in message.markers if marker.text]
    assert len(found) == 2
    assert all(CODE in cautions for cautions in found)
    assert all(CODE in text for text in texts)


def test_a_resumed_run_counts_the_cautions_of_the_earlier_one(
    tmp_path: Path, doubtful: Path
) -> None:
    replay(doubtful, tmp_path / "out", limit=1)
    assert replay(doubtful, tmp_path / "out").cautions[CODE] == 2


def test_a_caution_is_drawn_before_the_answer_so_that_it_is_never_cut_off() -> None:
    image = np.full((48, 400, 3), 128, np.uint8)
    plain = pictures.Caption("How tall?", "3 m " * 100, "#ff2d78", True)
    warned = pictures.Caption("How tall?", "3 m " * 100, "#ff2d78", True, (CODE,))
    drawn = [pictures.add_captions(image, [one]) for one in (plain, warned)]
    assert (drawn[0] != drawn[1]).any()
    # Amber is in the strip of the second only.
    amber = [((d[48:, :, 0] > 200) & (d[48:, :, 2] < 60)).any() for d in drawn]
    assert amber == [False, True]


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        (
            CameraOptions(settings=CameraSettings(depth_unit_m=0.00099)),
            r"settings: camera\.settings\.depth_unit_m was 0\.001, is 0\.00099 \(see",
        ),
        (
            CameraOptions(settings=CameraSettings(rectify="always")),
            r"settings: camera\.settings\.rectify was auto, is always \(see",
        ),
        (
            CameraOptions(settings=CameraSettings(range_m=(0.2, 9.0))),
            r"settings: camera\.settings\.range_m was \[.*\], is \[0\.2, 9\.0\] \(see",
        ),
        (
            CameraOptions(up=(0.0, -1.0, 0.0)),
            r"settings: camera\.up was None, is \[0\.0, -1\.0, 0\.0\] \(see",
        ),
    ],
)
def test_a_replay_with_another_setting_is_not_resumed(
    tmp_path: Path, changed: CameraOptions, difference: str
) -> None:
    bag = bag_of(tmp_path / "bag", 2)
    replay(bag, tmp_path / "out", limit=1)
    described = json.loads((tmp_path / "out" / "replay.json").read_text())
    assert described["camera"]["settings"]["depth_unit_m"] == 0.001
    with pytest.raises(ReplayError, match=difference):
        replay(bag, tmp_path / "out", camera=changed)


def test_the_depth_unit_scales_the_answers(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "bag", 1)
    half = CameraOptions(settings=CameraSettings(depth_unit_m=0.0005))
    replay(bag, tmp_path / "a")
    replay(bag, tmp_path / "b", camera=half)
    (a,), (b,) = entries(tmp_path / "a"), entries(tmp_path / "b")
    values = [entry["answer"]["measurements"][0]["value"] for entry in (a, b)]
    assert values[1] == pytest.approx(values[0] / 2)


def test_each_reason_is_printed_once_with_its_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dark = [r for n in range(3) for r in bags.frame(n, depth=np.zeros((48, 64), np.uint16))]
    summary = replay(bags.write_bag(tmp_path / "dark", dark), tmp_path / "out")
    (((name, text), count),) = summary.reasons.items()
    assert (name, count) == ("BAD_DEPTH", 3)
    assert "no usable reading" in text
    capsys.readouterr()
    print_counted(summary.caution_reasons, 0)
    assert capsys.readouterr().err == ""


def test_reasons_that_all_differ_are_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    summary = Summary()
    for number in range(10_000):
        message = f"the nearest is {number} s away\n\x1b[31m" + "x" * 1000
        error = {"name": "BAD_DEPTH", "message": message}
        summary.add({"answer": None, "error": error, "reasons": []})
    assert len(summary.reasons) <= 201
    counted = type(summary.cautions)({text: n for (_, text), n in summary.reasons.items()})
    print_counted(counted, summary.errors.total())
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert lines[-1] == "  9990 x other reasons: see answers.jsonl"
    assert "\x1b" not in "".join(lines)
    assert max(map(len, lines)) < 230


def test_the_pictures_of_a_raw_camera_are_the_rectified_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers point into the rectified image."""
    records = []
    for record in bags.frame(0):
        topic = record.topic.replace("rgb/image_rect_color", "rgb/image_raw")
        data = record.data
        if record.topic == bags.INFO:
            info = bags.camera_info(bags.START_NS)
            info.d = np.array([-0.3, 0.1, 0.0, 0.0, 0.0])
            data = bags.record(bags.INFO, bags.CAMERA_INFO, info, record.bag_ns).data
        records.append(bags.Record(topic, record.kind, record.bag_ns, data))
    drawn = []
    draw_points = pictures.draw_points

    def spy(rgb: pictures.Picture, points: object) -> pictures.Picture:
        drawn.append(rgb)
        return draw_points(rgb, [])

    monkeypatch.setattr(outputs.pictures, "draw_points", spy)
    bag = bags.write_bag(tmp_path / "raw", records)
    opened = []

    class Engine:
        def open(self, frame: object) -> object:
            opened.append(frame.rgb)  # type: ignore[attr-defined]
            from tests.replays import PixelEngine

            return PixelEngine().open(frame)

    replay(bag, tmp_path / "out", engine=Engine(), outputs=True)
    np.testing.assert_array_equal(drawn[0], opened[0])
    assert (opened[0] != bags.picture(0)).any()
    with open_bag(bag) as reader:
        kinds = {c.topic: c.msgtype for c in reader.connections}
        (info_data,) = (bytes(d) for _, _, d in stream(reader, (bags.INFO,)))
    assert deserialize(info_data, kinds[bags.INFO]).d[0] == -0.3
