"""Which colour, depth and camera info messages form one frame: the nearest header stamps.

Shared by recorded bags (`camera.bag_frames`) and the node's frame buffer, so that both build the
same frames and fail with the same error text. Does not know topics, ROS, the content of a message,
or when a frame is requested.
"""

from __future__ import annotations

from collections.abc import Reversible
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from sdvlm_core.errors import DepthError, FrameError, IntrinsicsError


class Input(Enum):
    """The three streams that form a frame."""

    COLOR = "colour"
    DEPTH = "depth"
    INFO = "camera_info"


@dataclass(frozen=True, eq=False)
class StampedMessage:
    """A serialized message and its header stamp, nanoseconds."""

    stamp_ns: int
    data: bytes


Stamped = TypeVar("Stamped", bound=StampedMessage)

#: The error for each missing input of a colour image, in the order of the checks.
PARTNER_ERRORS: dict[Input, type[FrameError]] = {
    Input.DEPTH: DepthError,
    Input.INFO: IntrinsicsError,
}


def nearest(messages: Reversible[Stamped], stamp_ns: int, slop_ns: int) -> Stamped | None:
    """The message nearest in stamp; None if no message is within the slop.

    Args:
        messages: in the order of arrival. If two are equally near, the newer one is returned,
            because a bag played in a loop repeats its stamps.
        slop_ns: largest accepted difference of stamps, nanoseconds.
    """
    best = min(reversed(messages), key=lambda m: abs(m.stamp_ns - stamp_ns), default=None)
    if best is None or abs(best.stamp_ns - stamp_ns) > slop_ns:
        return None
    return best


def missing_partner(
    kind: Input, messages: Reversible[Stamped], stamp_ns: int, slop_ns: int, slop_option: str
) -> str:
    """Why a colour image has no matching message, with the distance of the nearest one.

    Args:
        stamp_ns: stamp of the colour image.
        slop_option: how the caller's user sets `slop_ns`, e.g. `--sync-slop`.
    """
    offsets_ns = [abs(message.stamp_ns - stamp_ns) for message in reversed(messages)]
    found = f"the nearest is {min(offsets_ns) / 1e9:.3f} s away" if offsets_ns else "none arrived"
    return (
        f"no {kind.value} within {slop_ns / 1e9:g} s ({slop_option}) of the colour image: {found}"
    )
