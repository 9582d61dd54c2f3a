"""The fields that requests and goals have in common, whichever interface they come by.

Does not know services, actions or how a frame is found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from builtin_interfaces.msg import Duration, Time

from sdvlm.msg import Region
from sdvlm_core.camera.messages import nanoseconds
from sdvlm_core.errors import QueryError


class NewestFrameRequest(Protocol):
    """The fields of a request for the newest frame."""

    max_age: Duration
    timeout: Duration
    camera: str


class FrameRequest(NewestFrameRequest, Protocol):
    """The fields of a request or goal that name its frame and its time limit."""

    stamp: Time
    regions: Sequence[Region]
    target_frame: str


class VerifiableRequest(FrameRequest, Protocol):
    """The fields of a request or goal whose answers may be verified."""

    verify: bool


class MeasuringRequest(FrameRequest, Protocol):
    """The fields of a request to measure regions."""

    points: bool


def seconds(duration: Duration, name: str) -> float:
    """A Duration of a request -> seconds; 0 = not given."""
    given_s = nanoseconds(duration) / 1e9
    if given_s < 0:
        raise QueryError(f"{name} is {given_s:g} s; it must not be negative")
    return given_s
