"""One frame of a bag: the image nearest to a time, or the first complete one.

Does not know what the frame is for.
"""

from __future__ import annotations

from pathlib import Path

from sdvlm_core.camera.bag_frames import BagFrame, CameraOptions, decode, frames, open_camera
from sdvlm_core.camera.bags import open_bag
from sdvlm_core.errors import BagError
from sdvlm_core.frame import RgbdFrame


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
    with open_bag(path) as reader:
        camera = open_camera(reader, options)
        length_s = (reader.end_time - 1 - reader.start_time) / 1e9
        if seconds is not None and not 0 <= seconds <= length_s:
            raise BagError(
                f"{path} has no image at {seconds:g} s; give a time from 0 to {length_s:.3f} s, "
                "the length of the bag"
            )
        target_ns = None if seconds is None else reader.start_time + round(seconds * 1e9)
        best: BagFrame | None = None
        for frame in frames(reader, camera.topics, round(slop_s * 1e9)):
            if target_ns is None:
                # If no frame is complete, the error is the first one's.
                best = best or frame
                if frame.refusal is None:
                    best = frame
                    break
            elif best is None or _offset_ns(frame, target_ns) < _offset_ns(best, target_ns):
                best = frame
            elif frame.color.bag_ns > target_ns:
                break
        if best is None:
            raise BagError(f"{path} has no image on {camera.topics.color}")
        return decode(best, camera)


def _offset_ns(frame: BagFrame, target_ns: int) -> int:
    return abs(frame.color.bag_ns - target_ns)
