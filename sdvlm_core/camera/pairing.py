"""Which colour, depth and camera info messages form one frame: the nearest header stamps.

Depth belongs to a colour image only within the slop. A camera_info is static data: the nearest one
belongs to an image however far it is, because some drivers leave its stamp 0, latch it once, or
publish it less often. Its size is checked when the frame is assembled.

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


# Stamps that differ by more than this are of different clocks; a stopped stream is noticed earlier.
_DIFFERENT_CLOCKS_NS = 600 * 1_000_000_000
# The slop of static data: larger than any difference of stamps.
_ANY_NS = 2**63

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


def partner(
    kind: Input, messages: Reversible[Stamped], stamp_ns: int, slop_ns: int
) -> Stamped | None:
    """The message of an input that belongs to a colour image; None = there is none.

    Args:
        kind: DEPTH or INFO.
        messages: in the order of arrival.
        stamp_ns: stamp of the colour image.
        slop_ns: largest accepted difference of the stamps of colour and depth, nanoseconds.
    """
    return nearest(messages, stamp_ns, _ANY_NS if kind is Input.INFO else slop_ns)


def missing_partner(
    kind: Input, messages: Reversible[Stamped], stamp_ns: int, slop_ns: int, slop_option: str
) -> str:
    """Why a colour image has no matching message, with the distance of the nearest one.

    Args:
        stamp_ns: stamp of the colour image.
        slop_option: how the caller's user sets `slop_ns`, e.g. `--sync-slop`.
    """
    text = f"no {kind.value} within {slop_ns / 1e9:g} s ({slop_option}) of the colour image: "
    offsets_ns = [message.stamp_ns - stamp_ns for message in reversed(messages)]
    if not offsets_ns:
        return text + "none arrived"
    offset_ns = min(offsets_ns, key=abs)
    if abs(offset_ns) < _DIFFERENT_CLOCKS_NS:
        return text + f"the nearest is {abs(offset_ns) / 1e9:.3f} s away"
    side = "before" if offset_ns < 0 else "after"
    return text + (
        f"the clocks differ: the nearest stamp of {kind.value} is {abs(offset_ns) / 1e9:.0f} s "
        f"{side} colour's; stamp both with one clock (some drivers stamp with the time since boot)"
    )
