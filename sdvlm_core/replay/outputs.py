"""answers.jsonl and the bag it is about -> report.html and the bag DIR/answers.

A second pass over the bag, because an interrupted run has pictures of its first part no more. Both
are made aside and put in place whole; made again, they are the same. Knows neither models nor how
entries came about.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdvlm_core.camera.bags import Topics, deserialize, stream
from sdvlm_core.camera.decoding import Message, color_from_message
from sdvlm_core.errors import FrameError
from sdvlm_core.replay import answer_bag, pictures, report
from sdvlm_core.replay.run import ANSWERS, Entry, read_entries, replace

if TYPE_CHECKING:
    from rosbags.rosbag2 import Reader

BAG = "answers"
REPORT = "report.html"


def write_outputs(
    reader: Reader,
    topics: Topics,
    directory: Path,
    title: str,
    progress: Callable[[float], None] = lambda seconds: None,
) -> None:
    """Write DIR/answers and DIR/report.html from DIR/answers.jsonl.

    Args:
        title: of the page.
        progress: told the seconds of the bag that are done.

    Raises:
        BagError, ReplayError: bag or entries cannot be read.
    """
    whole = report.digest(read_entries(directory / ANSWERS))
    wanted = report.chosen_rows(whole.entries)
    rows: dict[str, list[report.Row]] = {q.text: [] for q in whole.questions}
    colors = {
        q.text: pictures.COLORS[n % len(pictures.COLORS)] for n, q in enumerate(whole.questions)
    }
    made = directory / ".made" / BAG
    shutil.rmtree(made.parent, ignore_errors=True)
    with answer_bag.open_answer_bag(made) as bag:
        for bag_ns, color, entries in _frames(reader, topics, directory / ANSWERS, bag):
            header, rgb = _decoded(color, topics, reader)
            bag.frame(bag_ns, header, entries)
            if header is not None and rgb is not None:
                drawn = _annotated(rgb, entries, colors, whole.frame_entries)
                bag.picture(bag_ns, header, pictures.jpeg(drawn))
            for entry in entries:
                if entry["entry"] in wanted:
                    thumbnail = None if rgb is None else _thumbnail(rgb, entry, colors)
                    rows[entry["question"]].append(report.row(entry, thumbnail))
            progress((bag_ns - reader.start_time) / 1e9)
    duration = (reader.end_time - 1 - reader.start_time) / 1e9
    page = report.page(title, whole, rows, duration)
    replace(directory / REPORT, page.encode())
    shutil.rmtree(directory / BAG, ignore_errors=True)
    made.rename(directory / BAG)
    made.parent.rmdir()


def _frames(
    reader: Reader, topics: Topics, answers: Path, bag: answer_bag.AnswerBag
) -> Iterator[tuple[int, bytes | memoryview | None, list[Entry]]]:
    """Time, colour message and entries of each frame that was asked about; copies transforms.

    Entries follow the order of the bag, so one pass over both is enough.
    """
    groups = groupby(read_entries(answers), key=lambda entry: entry["frame"])
    frame, entries = next(groups, (None, iter(())))
    index, last_ns = -1, reader.start_time
    wanted = (topics.color, *answer_bag.TRANSFORMS)
    for connection, bag_ns, data in stream(reader, wanted):
        last_ns = bag_ns
        if connection.topic != topics.color:
            bag.transform(connection, bag_ns, data)
            continue
        index += 1
        if index == frame:
            yield bag_ns, data, [*entries]
            frame, entries = next(groups, (None, iter(())))
    behind = [*entries]
    if behind:
        yield last_ns, None, behind


def _decoded(
    color: bytes | memoryview | None, topics: Topics, reader: Reader
) -> tuple[Message | None, pictures.Picture | None]:
    """The colour message's header and pixels; None for what cannot be had."""
    if color is None:
        return None, None
    kind = next(c.msgtype for c in reader.connections if c.topic == topics.color)
    try:
        message = deserialize(color, kind)
    except FrameError:
        return None, None
    try:
        return message.header, color_from_message(message)
    except FrameError:
        return message.header, None


def _annotated(
    rgb: pictures.Picture, entries: list[Entry], colors: dict[str, str], lines: int
) -> pictures.Picture:
    points = [point for entry in entries for point in _points(entry, colors)]
    words = [
        (
            entry["question"],
            entry["answer"]["text"] if entry["answer"] else _refusal(entry),
            colors[entry["question"]],
            entry["answer"] is not None,
        )
        for entry in entries
    ]
    return pictures.add_strip(pictures.draw_points(rgb, points), words, lines)


def _thumbnail(rgb: pictures.Picture, entry: Entry, colors: dict[str, str]) -> bytes:
    small = pictures.shrunk(rgb, report.THUMBNAIL_WIDTH)
    return pictures.jpeg(pictures.draw_points(small, _points(entry, colors)), 80)


def _points(entry: Entry, colors: dict[str, str]) -> list[tuple[float, float, str]]:
    answer: dict[str, Any] = entry["answer"] or {"image_points": ()}
    return [(u, v, colors[entry["question"]]) for u, v in answer["image_points"]]


def _refusal(entry: Entry) -> str:
    return f"{entry['error']['name']}: {entry['error']['message']}"
