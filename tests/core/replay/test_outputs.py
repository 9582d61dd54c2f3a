"""The answer bag and the report of a replay."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags import rosbag2

from sdvlm_core.answer import Quantity
from sdvlm_core.replay.answer_bag import typestore
from sdvlm_core.replay.report import row
from sdvlm_core.replay.schedule import PlannedQuestion
from tests import bags
from tests.bags import PERIOD_NS, RGB, START_NS
from tests.replays import (
    HEIGHT,
    PLACE,
    SECOND_NS,
    TYPED,
    bag_of,
    entries,
    replay,
)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A replay of five frames, one of them without depth, with transforms in the bag."""
    directory = tmp_path_factory.mktemp("outputs")
    records = [
        r for number in range(5) for r in bags.frame(number) if number != 2 or r.topic == RGB
    ]
    empty = bags.make("tf2_msgs/msg/TFMessage", transforms=[])
    records.insert(0, bags.record("/tf_static", "tf2_msgs/msg/TFMessage", empty, START_NS))
    bag = bags.write_bag(directory / "drive", records)
    late = PlannedQuestion("Late?", at_ns=(50 * SECOND_NS,))
    replay(bag, directory / "out", HEIGHT, PLACE, late, outputs=True)
    return directory / "out"


def messages_of(bag: Path) -> dict[str, list[tuple[int, Any]]]:
    found: dict[str, list[tuple[int, Any]]] = {}
    with rosbag2.Reader(bag) as reader:
        for connection, bag_ns, data in reader.messages():
            message = typestore().deserialize_cdr(data, connection.msgtype)
            found.setdefault(connection.topic, []).append((bag_ns, message))
    return found


def test_the_answer_bag_has_answers_markers_pictures_and_errors_on_the_bags_clock(
    outputs: Path,
) -> None:
    found = messages_of(outputs / "answers")
    answers = found["/spatial_query/answers"]
    assert [bag_ns for bag_ns, _ in answers[::2]] == [
        START_NS + number * PERIOD_NS + bags.LATENCY_NS for number in (0, 1, 3, 4)
    ]
    first = answers[0][1]
    assert (first.header.stamp.sec, first.header.frame_id) == (START_NS // SECOND_NS, "optical")
    assert first.measurements[0].value == first.positions[0].z
    assert np.isnan(first.measurements[0].std_dev)
    assert np.isnan(first.confidence)
    markers = [message.markers for _, message in found["/spatial_query/markers"]]
    # Each frame removes the old markers; the frame without an answer adds none.
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


def test_the_mcap_library_reads_the_answer_bag_and_its_schemas(outputs: Path) -> None:
    reader_module = pytest.importorskip("mcap.reader")
    with open(outputs / "answers" / "answers.mcap", "rb") as file:
        reader = reader_module.make_reader(file, validate_crcs=True)
        summary = reader.get_summary()
        assert len([*reader.iter_messages()]) == 22
    schemas = {schema.name: schema for schema in summary.schemas.values()}
    assert schemas["sdvlm/msg/SpatialAnswer"].encoding == "ros2msg"
    assert b"MSG: sdvlm/Measurement" in schemas["sdvlm/msg/SpatialAnswer"].data
    assert summary.statistics.message_count == 22


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


def test_the_bag_and_the_report_say_what_was_asked_and_why_there_is_no_number(
    tmp_path: Path,
) -> None:
    replay(bag_of(tmp_path / "bag", 1), tmp_path / "out", TYPED, outputs=True)
    ((_, answer),) = messages_of(tmp_path / "out" / "answers")["/spatial_query/answers"]
    assert (answer.asked.quantity, answer.asked.objects) == (Quantity.GAP, ["wall", "box"])
    assert answer.measurements[0].objects == ["wall <b>$x$"]
    (entry,) = entries(tmp_path / "out")
    entry["answer"]["why_none"] = "[1 m] is a bound"
    entry["answer"]["measurements"][0] |= {"kind": "CAMERA_DISTANCE", "objects": [], "value": 2.0}
    assert row(entry, None).numbers[0] == "camera distance: 2 m"
    assert row(entry, None).numbers[-1] == "no number: [1 m] is a bound"


def test_a_resumed_run_writes_the_outputs_of_an_uninterrupted_one(
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
    assert not [*(tmp_path / "b").glob(".*")]
