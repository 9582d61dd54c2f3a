"""One frame of a bag: the image nearest to a time, or the first complete one.

Reads only the part of the bag around the time, so that a frame of a bag of hours is there at once.
Does not know what the frame is for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sdvlm_core.camera.bag_frames import (
    BagCamera,
    BagFrame,
    CameraOptions,
    decode,
    frames,
    open_camera,
)
from sdvlm_core.camera.bags import open_bag
from sdvlm_core.errors import BagError
from sdvlm_core.frame import RgbdFrame

if TYPE_CHECKING:
    from rosbags.rosbag2 import Reader

# How long before a time its image and what belongs to it are looked for first. Images wait for
# their depth for less than a second (`bag_frames.pair`).
_WINDOW_NS = 1_000_000_000


def read_bag_frame(
    path: Path, options: CameraOptions, slop_s: float, seconds: float | None = None
) -> RgbdFrame:
    """The frame of the colour image nearest to a time.

    Args:
        slop_s: largest difference of the stamps of one frame, seconds.
        seconds: from the bag's start, as `ros2 bag play` counts; None = the first complete frame.

    Raises:
        BagError: the bag cannot be read, has no such topics, no image, or ends before the time.
        FrameError: the frame is incomplete or cannot be used.
    """
    with open_moments(path, options, slop_s) as moments:
        return moments.frame(seconds)


@contextmanager
def open_moments(path: Path, options: CameraOptions, slop_s: float) -> Iterator[BagMoments]:
    """Many frames of one bag, which stays open; arguments and errors as `read_bag_frame`."""
    with open_bag(path) as reader:
        yield BagMoments(path, reader, open_camera(reader, options), round(slop_s * 1e9))


@dataclass(frozen=True)
class BagMoments:
    """An open bag whose frames are read one by one; made by `open_moments`."""

    path: Path
    reader: Reader
    camera: BagCamera
    slop_ns: int

    @property
    def length_s(self) -> float:
        """From the first to the last message, seconds."""
        return float(self.reader.end_time - 1 - self.reader.start_time) / 1e9

    def frame(self, seconds: float | None) -> RgbdFrame:
        """As `read_bag_frame`. Not from several threads at once."""
        if seconds is None:
            best = _first_complete(self)
        elif 0 <= seconds <= self.length_s:
            best = _nearest(self, self.reader.start_time + round(seconds * 1e9))
        else:
            raise BagError(
                f"{self.path} has no image at {seconds:g} s; give a time from 0 to "
                f"{self.length_s:.3f} s, the length of the bag"
            )
        if best is None:
            raise BagError(f"{self.path} has no image on {self.camera.topics.color}")
        return decode(best, self.camera)


def _first_complete(bag: BagMoments) -> BagFrame | None:
    """The first complete frame; without one the first frame, whose error is the reason."""
    first: BagFrame | None = None
    for frame in frames(bag.reader, bag.camera.topics, bag.slop_ns):
        if frame.refusal is None:
            return frame
        first = first or frame
    return first


def _nearest(bag: BagMoments, target_ns: int) -> BagFrame | None:
    """The frame of the colour image nearest to a bag time; looks back further and further."""
    window_ns = max(_WINDOW_NS, 2 * bag.slop_ns)
    while True:
        start_ns = target_ns - window_ns
        whole = start_ns <= bag.reader.start_time
        best: BagFrame | None = None
        start = None if whole else start_ns
        for frame in frames(bag.reader, bag.camera.topics, bag.slop_ns, start):
            if best is None or _offset_ns(frame, target_ns) < _offset_ns(best, target_ns):
                best = frame
            elif frame.color.bag_ns > target_ns:
                break
        # Not at the beginning of what was read: a nearer image or its depth may be before it.
        inside = best is not None and _offset_ns(best, target_ns) <= window_ns // 2
        if whole or (inside and best is not None and best.refusal is None):
            return best
        window_ns *= 8


def _offset_ns(frame: BagFrame, target_ns: int) -> int:
    return abs(frame.color.bag_ns - target_ns)
