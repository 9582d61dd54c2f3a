"""answers.jsonl and its bag -> report.html and the bag DIR/answers.

A second pass over the bag, because a resumed run has not seen the images of its first part. Both
outputs are replaced in one step; equal answers give equal outputs. Does not know models or
how entries are produced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sdvlm_core.camera.bag_frames import BagCamera
from sdvlm_core.camera.bag_topics import INFO_TYPE
from sdvlm_core.camera.bags import Message, deserialize, stream
from sdvlm_core.camera.calibration import Projection, calibration_from_message
from sdvlm_core.camera.decoding import color_from_message
from sdvlm_core.camera.rectification import rectify
from sdvlm_core.errors import FrameError, IntrinsicsError
from sdvlm_core.files import atomic_directory, remove_temporaries, write_text
from sdvlm_core.replay import answer_bag, pictures, report
from sdvlm_core.replay.journal import ANSWERS, Entry, read_entries

if TYPE_CHECKING:
    from rosbags.rosbag2 import Reader

BAG = "answers"
REPORT = "report.html"
_THUMBNAIL_JPEG_QUALITY = 80


def write_outputs(
    reader: Reader,
    camera: BagCamera,
    directory: Path,
    title: str,
    progress: Callable[[float], None] = lambda seconds: None,
) -> None:
    """Write DIR/answers and DIR/report.html from DIR/answers.jsonl.

    Args:
        title: title of the page.
        progress: called with the seconds of the bag that are done.

    Raises:
        BagError, ReplayError: the bag or the entries cannot be read.
    """
    statistics = report.collect(read_entries(directory / ANSWERS))
    shown = report.shown_entries(statistics.entries)
    rows: dict[str, list[report.Row]] = {q.text: [] for q in statistics.questions}
    colors = {text: pictures.COLORS[n % len(pictures.COLORS)] for n, text in enumerate(rows)}
    remove_temporaries(directory / BAG)
    with atomic_directory(directory / BAG) as new_bag:
        with answer_bag.open_answer_bag(new_bag) as bag:
            for bag_ns, messages, entries in _frames(reader, camera, directory / ANSWERS, bag):
                header, rgb = _decoded(messages, camera)
                bag.frame(bag_ns, header, entries)
                if header is not None and rgb is not None:
                    drawn = _annotated(rgb, entries, colors, statistics.max_frame_entries)
                    bag.picture(bag_ns, header, pictures.jpeg(drawn))
                for entry in entries:
                    if entry["entry"] in shown:
                        thumbnail = None if rgb is None else _thumbnail(rgb, entry, colors)
                        rows[entry["question"]].append(report.row(entry, thumbnail))
                progress((bag_ns - reader.start_time) / 1e9)
        duration_s = (reader.end_time - 1 - reader.start_time) / 1e9
        write_text(directory / REPORT, report.page(title, statistics, rows, duration_s))


@dataclass(frozen=True)
class _Messages:
    """The colour image of a frame, of type `color_type`, and the newest camera info."""

    color: bytes | memoryview
    color_type: str
    info: bytes | memoryview | None


def _frames(
    reader: Reader, camera: BagCamera, answers: Path, bag: answer_bag.AnswerBag
) -> Iterator[tuple[int, _Messages | None, list[Entry]]]:
    """Bag time, messages and entries of each frame with entries; copies the transforms.

    Entries are in the order of the bag, so one pass over both is enough. The last item has the
    entries about moments after the end, and no message.
    """
    topics = camera.topics
    info = next((data for _, _, data in stream(reader, (topics.info,))), None)
    groups = groupby(read_entries(answers), key=lambda entry: entry["frame"])
    frame, entries = next(groups, (None, iter(())))
    index, last_ns = -1, reader.start_time
    read_topics = (topics.color, topics.info, *answer_bag.TRANSFORMS)
    for connection, bag_ns, data in stream(reader, read_topics):
        last_ns = bag_ns
        if connection.topic == topics.info:
            info = data
            continue
        if connection.topic != topics.color:
            bag.transform(connection, bag_ns, data)
            continue
        index += 1
        if index == frame:
            yield bag_ns, _Messages(data, connection.msgtype, info), [*entries]
            frame, entries = next(groups, (None, iter(())))
    after_end = [*entries]
    if after_end:
        yield last_ns, None, after_end


def _decoded(
    messages: _Messages | None, camera: BagCamera
) -> tuple[Message | None, pictures.Picture | None]:
    """The colour message's header and pixels; None for each that cannot be read.

    The pixels are rectified as the frame's were, because the answers point into that image.
    """
    if messages is None:
        return None, None
    try:
        message = deserialize(messages.color, messages.color_type)
    except FrameError:
        return None, None
    try:
        rgb = color_from_message(message, camera.settings)
    except FrameError:
        return message.header, None
    # Without a usable info there is no answer that could point into the image.
    with suppress(FrameError):
        if messages.info is not None:
            rgb = _rectified(rgb, deserialize(messages.info, INFO_TYPE), camera)
    return message.header, rgb


def _rectified(rgb: pictures.Picture, info: Message, camera: BagCamera) -> pictures.Picture:
    """The image in the projection of the frame, which follows from both topics."""
    calibration = calibration_from_message(info)
    stated = calibration.intrinsics(Projection.RAW)
    if (stated.height, stated.width) != rgb.shape[:2]:
        raise IntrinsicsError("camera_info is for another image size")
    topics = camera.topics
    no_reading = None if topics.depth is None else np.full(rgb.shape[:2], np.nan, np.float32)
    return rectify(
        rgb,
        no_reading,
        calibration,
        camera.settings,
        color_topic=topics.color,
        depth_topic=topics.depth or "",
    ).rgb


def _annotated(
    rgb: pictures.Picture, entries: list[Entry], colors: dict[str, str], room_for: int
) -> pictures.Picture:
    points = [point for entry in entries for point in _points(entry, colors)]
    captions = [
        pictures.Caption(
            entry["question"],
            entry["answer"]["text"] if entry["answer"] else _error_text(entry),
            colors[entry["question"]],
            entry["answer"] is not None,
            tuple((entry["answer"] or {}).get("cautions", ())),
        )
        for entry in entries
    ]
    return pictures.add_captions(pictures.draw_points(rgb, points), captions, room_for)


def _thumbnail(rgb: pictures.Picture, entry: Entry, colors: dict[str, str]) -> bytes:
    small = pictures.shrink(rgb, report.THUMBNAIL_WIDTH_PX)
    return pictures.jpeg(
        pictures.draw_points(small, _points(entry, colors)), _THUMBNAIL_JPEG_QUALITY
    )


def _points(entry: Entry, colors: dict[str, str]) -> list[tuple[float, float, str]]:
    if entry["answer"] is None:
        return []
    return [(u, v, colors[entry["question"]]) for u, v in entry["answer"]["image_points"]]


def _error_text(entry: Entry) -> str:
    return f"{entry['error']['name']}: {entry['error']['message']}"
