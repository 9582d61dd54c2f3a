"""Locates the objects of one answer and measures each once.

The caller's regions first; otherwise the model is asked where an object is, one short question on
the open session: for its box, or for a coordinate where the model writes no boxes. A model's box is
measured like a detector's, which is loose too. Whether it is the object's nothing here can tell.
Does not know claims.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING

from sdvlm_core.answer import Asked, Quantity, SpatialAnswer
from sdvlm_core.cautions import Caution
from sdvlm_core.errors import DepthError, IntrinsicsError, QueryError
from sdvlm_core.frame import Region, is_in_image, pixel_from_fraction
from sdvlm_core.geometry.measure import measure_in
from sdvlm_core.geometry.measured import Measured
from sdvlm_core.geometry.scene import Scene, open_scene
from sdvlm_core.language.boxes import Form, ask_for, locate
from sdvlm_core.language.question import check
from sdvlm_core.model.generation_options import GenerationOptions, Query

if TYPE_CHECKING:  # imports torch
    from sdvlm_core.session import FrameSession

#: Tokens of an answer with a coordinate, and with a box in JSON: some tokenizers take one for each
#: digit.
_MAX_COORDINATE_TOKENS, _MAX_BOX_TOKENS = 32, 128
#: A point with one of these warnings missed its object. Then points around it are tried, on rings
#: with these radii, as fractions of the image's longer side.
_MISSED = frozenset((Caution.TOO_FEW_POINTS, Caution.NOTHING_STANDS_OUT))
_RING_FRACTIONS, _RING_POINTS = (0.02, 0.04), 8
#: Centres of two objects differ by more.
_SAME_PLACE_M = 1e-3
#: A model's boxes of two objects share less than this fraction of their union.
_SAME_BOX = 0.7
#: They are not seen in their own image.
_NOT_IN_IMAGE = frozenset(
    [
        *("camera", "viewer", "observer", "viewpoint", "robot", "robot base", "photographer"),
        *("i", "me", "us", "we", "you", "here"),
    ]
)
_DETERMINERS = frozenset(("the", "a", "your", "my", "our"))


class NotMeasuredError(Exception):
    """Depth does not measure what was asked; the message says why."""


class NotLocatedError(NotMeasuredError):
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
    _places: dict[str, Region | str] = field(default_factory=dict)

    @property
    def scene(self) -> Scene:
        """The scene of the frame; opened once per frame."""
        return open_scene(self.session.frame)

    def have_extents(self, names: Sequence[str]) -> bool:
        """Whether each object has a region, or gets a box from the model: not just a point."""
        return all(name in self.regions for name in names) or self._form is not Form.FRACTION

    def measured(self, names: Sequence[str]) -> tuple[Measured, ...]:
        """The objects of those names.

        Raises:
            NotLocatedError: one of them is not located, or two have the same place.
        """
        self._ask_places(names)
        found = tuple(self._one(name) for name in names)
        if any(self._same_place(a, b) for a, b in combinations(found, 2)):
            both = " and ".join(names)
            raise NotLocatedError(f"{both} are at one place: give each object its own region")
        return found

    @property
    def _form(self) -> Form:
        return Form(self.session.boxes_form)

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
        self.scene  # noqa: B018 - refuses a frame without depth
        if name in self.regions:
            return self._measure(replace(self.regions[name], label=name))
        place = self._places[name]
        if isinstance(place, str):
            raise NotLocatedError(place)
        return self._measure(place) if place.point is None else self._measure_near(place)

    def _ask_places(self, names: Sequence[str]) -> None:
        """Ask the model, with one batch, where objects without a region are."""
        try:
            self.scene  # noqa: B018 - refuses a frame without depth before the model is asked
        except (DepthError, IntrinsicsError):
            return
        wanted: list[Asked] = []
        for name in dict.fromkeys(names):
            if name in self.regions or name in self._places:
                continue
            if _is_not_in_image(name):
                self._places[name] = f"{name} is not in the image; ask for CAMERA_DISTANCE"
                continue
            asked = Asked(Quantity.POSITION, (name,))
            try:
                check(asked)
            except QueryError as error:  # the name is from the text of an answer
                self._places[name] = f"object not located: {error}"
                continue
            wanted.append(asked)
        if not wanted:
            return
        form = self._form
        limit = _MAX_COORDINATE_TOKENS if form is Form.FRACTION else _MAX_BOX_TOKENS
        options = GenerationOptions(self.deadline, self.cancel, max_new_tokens=limit)
        questions: list[Asked | str] = [*wanted]
        if form is not Form.FRACTION:
            questions = [ask_for(one.objects[0], form) for one in wanted]
        replies = self.session.ask_many([Query(question, options) for question in questions])
        for asked, reply in zip(wanted, replies, strict=True):
            if isinstance(reply, Exception):
                raise reply
            (name,) = asked.objects
            self._places[name] = self._place(name, reply)

    def _place(self, name: str, reply: SpatialAnswer) -> Region | str:
        """The object's box or point as the model gives it, or why there is none."""
        width, height = self.scene.frame.width, self.scene.frame.height
        if self._form is Form.FRACTION:
            points = reply.image_points
            if len(points) != 1:
                return f"object not located: {name}"
            return Region(name, point=pixel_from_fraction(*points[0], width, height))
        box, why = locate(name, reply.text, self._form, self.session.picture_size)
        if box is None:
            return f"object not located: {name}: {why}"
        x1, y1, x2, y2 = box[1:]
        return Region(name, box=(x1 * width, y1 * height, x2 * width, y2 * height))

    def _measure_near(self, place: Region) -> Measured:
        """The object at a point from the model, or on a ring around it, the nearest ring first."""
        assert place.point is not None
        name, pixel = place.label, place.point
        width, height = self.scene.frame.width, self.scene.frame.height
        first = self._measure(place)
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

    def _same_place(self, a: Measured, b: Measured) -> bool:
        """Whether two names have equal regions, or the model gave them one object."""
        if math.dist(a.position_m, b.position_m) < _SAME_PLACE_M:
            return True
        by_model = {a.label, b.label} - {*self.regions}
        return bool(by_model) and _overlap(a.region, b.region) > _SAME_BOX


def _overlap(a: Region, b: Region) -> float:
    """Intersection over union of two boxes; 0 if one is no box."""
    if a.box is None or b.box is None:
        return 0.0
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = a.box, b.box
    across, down = min(ax2, bx2) - max(ax1, bx1), min(ay2, by2) - max(ay1, by1)
    both = max(0.0, across) * max(0.0, down)
    return both / ((ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - both)


def _is_not_in_image(name: str) -> bool:
    words = [word for word in name.casefold().split() if word not in _DETERMINERS]
    return " ".join(words) in _NOT_IN_IMAGE
