"""Locates the objects of one answer and measures each once.

The caller's regions first; otherwise the model is asked for the coordinate of an object, one short
question on the open session. Does not know claims.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING

from sdvlm_core.answer import Asked, Quantity
from sdvlm_core.cautions import Caution
from sdvlm_core.errors import DepthError, IntrinsicsError, QueryError
from sdvlm_core.frame import Region, is_in_image, pixel_from_fraction
from sdvlm_core.geometry.measure import measure_in
from sdvlm_core.geometry.measured import Measured
from sdvlm_core.geometry.scene import Scene, open_scene
from sdvlm_core.language.question import check
from sdvlm_core.model.generation_options import GenerationOptions, Query

if TYPE_CHECKING:  # imports torch
    from sdvlm_core.session import FrameSession

#: Tokens of an answer with a coordinate.
_MAX_COORDINATE_TOKENS = 32
#: A point with one of these warnings missed its object. Then points around it are tried, on rings
#: with these radii, as fractions of the image's longer side.
_MISSED = frozenset((Caution.TOO_FEW_POINTS, Caution.NOTHING_STANDS_OUT))
_RING_FRACTIONS, _RING_POINTS = (0.02, 0.04), 8
#: Centres of two objects differ by more.
_SAME_PLACE_M = 1e-3
#: They are not seen in their own image.
_NOT_IN_IMAGE = frozenset(
    [
        *("camera", "viewer", "observer", "viewpoint", "robot", "robot base", "photographer"),
        *("i", "me", "us", "we", "you", "here"),
    ]
)
_DETERMINERS = frozenset(("the", "a", "your", "my", "our"))


class NotLocatedError(Exception):
    """An object has no place in the image; the message says which and why."""


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of one answer.

    Attributes:
        regions: the caller's, by the name of the object.
        deadline, cancel: as in `FrameSession.ask`.
    """

    session: FrameSession
    regions: Mapping[str, Region]
    sensor: str
    deadline: float | None = None
    cancel: threading.Event | None = None
    _found: dict[str, Measured | str] = field(default_factory=dict)
    _points: dict[str, tuple[float, float] | str] = field(default_factory=dict)

    @property
    def scene(self) -> Scene:
        """The scene of the frame; opened once per frame."""
        return open_scene(self.session.frame)

    def measured(self, names: Sequence[str]) -> tuple[Measured, ...]:
        """The objects of those names.

        Raises:
            NotLocatedError: one of them is not located, or two have the same place.
        """
        self._ask_points(names)
        found = tuple(self._one(name) for name in names)
        if any(_same_place(a, b) for a, b in combinations(found, 2)):
            both = " and ".join(names)
            raise NotLocatedError(f"{both} are at one place: give each object its own region")
        return found

    def _one(self, name: str) -> Measured:
        if name not in self._found:
            try:
                self._found[name] = self._locate_and_measure(name)
            except (NotLocatedError, DepthError, IntrinsicsError) as error:
                self._found[name] = str(error)
        one = self._found[name]
        if isinstance(one, str):
            raise NotLocatedError(one)
        return one

    def _locate_and_measure(self, name: str) -> Measured:
        frame = self.scene.frame  # refuses a frame without depth before the model is asked
        if name in self.regions:
            return self._measure(replace(self.regions[name], label=name))
        point = self._points[name]
        if isinstance(point, str):
            raise NotLocatedError(point)
        return self._measure_near(name, pixel_from_fraction(*point, frame.width, frame.height))

    def _ask_points(self, names: Sequence[str]) -> None:
        """Ask the model, with one batch, where objects without a region are."""
        try:
            self.scene  # noqa: B018 - refuses a frame without depth before the model is asked
        except (DepthError, IntrinsicsError):
            return
        wanted: list[Asked] = []
        for name in dict.fromkeys(names):
            if name in self.regions or name in self._points:
                continue
            if _is_not_in_image(name):
                self._points[name] = f"{name} is not in the image; ask for CAMERA_DISTANCE"
                continue
            asked = Asked(Quantity.POSITION, (name,))
            try:
                check(asked)
            except QueryError as error:  # the name is from the text of an answer
                self._points[name] = f"object not located: {error}"
                continue
            wanted.append(asked)
        if not wanted:
            return
        options = GenerationOptions(
            deadline=self.deadline, cancel=self.cancel, max_new_tokens=_MAX_COORDINATE_TOKENS
        )
        replies = self.session.ask_many([Query(asked, options) for asked in wanted])
        for asked, reply in zip(wanted, replies, strict=True):
            if isinstance(reply, Exception):
                raise reply
            (name,) = asked.objects
            points = reply.image_points
            self._points[name] = points[0] if len(points) == 1 else f"object not located: {name}"

    def _measure_near(self, name: str, pixel: tuple[float, float]) -> Measured:
        """The object at a pixel from the model, or on a ring around it, the nearest ring first."""
        width, height = self.scene.frame.width, self.scene.frame.height
        first = self._measure(Region(name, point=pixel))
        if not _MISSED.intersection(first.warnings):
            return first
        for fraction in _RING_FRACTIONS:
            for step in range(_RING_POINTS):
                angle = 2 * math.pi * step / _RING_POINTS
                u = pixel[0] + fraction * max(width, height) * math.cos(angle)
                v = pixel[1] + fraction * max(width, height) * math.sin(angle)
                if not is_in_image(u, v, width, height):
                    continue
                one = self._measure(Region(name, point=(u, v)))
                if not _MISSED.intersection(one.warnings):
                    return one
        return first

    def _measure(self, region: Region) -> Measured:
        return measure_in(self.scene, [region], self.sensor)[0][0]


def _same_place(a: Measured, b: Measured) -> bool:
    """Whether two names have equal regions, or points on one object."""
    return math.dist(a.position_m, b.position_m) < _SAME_PLACE_M


def _is_not_in_image(name: str) -> bool:
    words = [word for word in name.casefold().split() if word not in _DETERMINERS]
    return " ".join(words) in _NOT_IN_IMAGE
