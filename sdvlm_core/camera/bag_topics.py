"""Selects a bag's topics of colour, depth and camera info: by option, by usual name, or by content.

Does not know which messages form a frame (`camera.bag_frames`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from sdvlm_core.camera.bags import Message, deserialize, stream
from sdvlm_core.camera.decoding import is_color, is_depth
from sdvlm_core.camera.pairing import Input
from sdvlm_core.errors import BagError, FrameError, shown

if TYPE_CHECKING:
    from rosbags.rosbag2 import Reader

#: Names of the node's inputs, raw and as image_transport compresses them.
COLOR_NAMES = ("rgb/image_rect_color", "rgb/image_rect_color/compressed")
DEPTH_NAMES = ("depth_registered/image_rect", "depth_registered/image_rect/compressedDepth")
INFO_NAMES = ("rgb/camera_info",)

_IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
INFO_TYPE = "sensor_msgs/msg/CameraInfo"
_MAX_LISTED = 50


@dataclass(frozen=True)
class Topics:
    """Topics of colour, depth and camera info; `depth` is None if depth is estimated.

    Attributes:
        depth_info: camera info in the namespace of depth, if it is another topic than `info`.
    """

    color: str
    depth: str | None
    info: str
    depth_info: str | None = None


def find_topics(
    reader: Reader,
    color: str | None = None,
    depth: str | None = None,
    info: str | None = None,
    with_depth: bool = True,
) -> Topics:
    """Select the topics of colour, depth and camera info.

    Uses the given topic; otherwise a topic with a usual name; otherwise the only topic with
    matching content. The encoding or format of an image topic's first message is its content.

    Raises:
        BagError: a topic is missing or ambiguous; lists the bag's topics.
    """
    types = {
        c.topic: c.msgtype
        for c in reader.connections
        if c.msgcount and c.msgtype in (*_IMAGE_TYPES, INFO_TYPE)
    }
    images = [topic for topic, msgtype in types.items() if msgtype in _IMAGE_TYPES]
    infos = [topic for topic, msgtype in types.items() if msgtype == INFO_TYPE]
    first = cache(lambda: _first_messages(reader, images))
    color_topic = _image_topic(reader, images, Input.COLOR, color, COLOR_NAMES, is_color, first)
    depth_topic = None
    if with_depth:
        depth_topic = _image_topic(reader, images, Input.DEPTH, depth, DEPTH_NAMES, is_depth, first)
    info_topic = _info_topic(reader, infos, info, color_topic)
    beside = None if depth_topic is None else _info_beside(depth_topic)
    depth_info = beside if beside in infos and beside != info_topic else None
    return Topics(color_topic, depth_topic, info_topic, depth_info)


def _image_topic(
    reader: Reader,
    images: list[str],
    kind: Input,
    given: str | None,
    usual_names: tuple[str, ...],
    fits: Callable[[Message], bool],
    first_messages: Callable[[], dict[str, Message]],
) -> str:
    if given is not None:
        name = "/" + given.lstrip("/")
        if name in images:
            return name
        raise _ambiguous(reader, kind, f"the bag has no images on {name}")
    for usual in usual_names:
        found = [topic for topic in images if topic.endswith("/" + usual)]
        if len(found) == 1:
            return found[0]
    found = [topic for topic, message in first_messages().items() if fits(message)]
    found = _without_copies(found)
    if len(found) != 1:
        raise _ambiguous(reader, kind, f"{_listed(found)} could be {kind.value}")
    return found[0]


def _info_topic(reader: Reader, infos: list[str], given: str | None, color: str) -> str:
    if given is not None:
        name = "/" + given.lstrip("/")
        if name in infos:
            return name
        raise _ambiguous(reader, Input.INFO, f"the bag has no camera info on {name}")
    beside = _info_beside(color)
    if beside in infos:
        return beside
    if len(infos) != 1:
        reason = f"{_listed(infos)} could be the colour camera's info"
        raise _ambiguous(reader, Input.INFO, reason)
    return infos[0]


def _info_beside(image: str) -> str:
    """The camera info's topic in the namespace of an image's topic, where drivers publish it."""
    for transport in ("/compressed", "/compressedDepth"):
        image = image.removesuffix(transport)
    return image.rsplit("/", 1)[0] + "/camera_info"


def _listed(found: list[str]) -> str:
    return " and ".join(map(shown, found[:_MAX_LISTED])) if found else "no topic"


def _without_copies(topics: list[str]) -> list[str]:
    """The topics except compressed copies of raw topics in the same list."""
    return [t for t in topics if not (t.count("/") > 1 and t.rsplit("/", 1)[0] in topics)]


def _ambiguous(reader: Reader, kind: Input, reason: str) -> BagError:
    option = {Input.COLOR: "--color", Input.DEPTH: "--depth", Input.INFO: "--info"}[kind]
    estimate = ", or --estimate-depth" if kind is Input.DEPTH else ""
    listed = sorted(reader.topics.items())
    listing = "".join(
        f"\n  {shown(topic)} ({shown(str(info.msgtype))}, {info.msgcount} messages)"
        for topic, info in listed[:_MAX_LISTED]
    )
    if len(listed) > _MAX_LISTED:
        listing += f"\n  and {len(listed) - _MAX_LISTED} more"
    return BagError(
        f"{reason}; choose with {option} TOPIC{estimate}. The bag has:{listing or ' no topics'}"
    )


def _first_messages(reader: Reader, topics: list[str]) -> dict[str, Message]:
    """The first message of each topic, in the order of `topics`; unreadable ones are left out."""
    first: dict[str, Message | None] = dict.fromkeys(topics)
    pending = set(topics)
    for connection, _, data in stream(reader, topics):
        if connection.topic in pending:
            pending.discard(connection.topic)
            # The user can still select an unreadable topic. Its frames are then errors.
            with suppress(FrameError):
                first[connection.topic] = deserialize(data, connection.msgtype)
        if not pending:
            break
    return {topic: message for topic, message in first.items() if message is not None}
