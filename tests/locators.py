"""A session whose "model" knows where objects are, and writes their boxes in the form of a family.

The boxes may be off by a fraction of their sides. It answers nothing else, and knows no numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sdvlm_core.answer import Asked, SpatialAnswer
from sdvlm_core.frame import RgbdFrame
from sdvlm_core.language.boxes import Form, ask_for
from sdvlm_core.model.generation_options import Query

#: (x1, y1, x2, y2) in pixels of the frame.
Corners = tuple[float, float, float, float]
#: The forms of models that write boxes.
WITH_BOXES = tuple(form for form in Form if form is not Form.FRACTION)


def written(form: Form, name: str, fractions: Sequence[float], picture: tuple[int, int]) -> str:
    """A box (x1, y1, x2, y2) in fractions as a model of that form writes it."""
    x1, y1, x2, y2 = np.clip(fractions, 0, 1)
    if form is Form.LOC:
        places = [min(1023, round(1024 * value)) for value in (y1, x1, y2, x2)]
        return "".join(f"<loc{place:04d}>" for place in places) + f" {name}"
    if form is Form.THOUSAND_YX:
        values = [round(1000 * value) for value in (y1, x1, y2, x2)]
        return f'```json\n[\n  {{"box_2d": {values}, "label": "{name}"}}\n]\n```'
    width, height = picture if form is Form.PIXELS else (1000, 1000)
    values = [round(x1 * width), round(y1 * height), round(x2 * width), round(y2 * height)]
    return f'```json\n[\n\t{{"bbox_2d": {values}, "label": "{name}"}}\n]\n```'


def moved(corners: Corners, off: float, rng: np.random.Generator) -> Corners:
    """A box whose sides are off by a fraction of it, each inwards or outwards at random."""
    x1, y1, x2, y2 = corners
    sides = np.array([x2 - x1, y2 - y1] * 2)
    a, b, c, d = np.array(corners) + rng.choice([-1.0, 1.0], 4) * off * sides
    return float(a), float(b), float(c), float(d)


@dataclass
class Locator:
    """Answers where an object is; without a box for it, says `[]`."""

    frame: RgbdFrame
    boxes: Mapping[str, Corners]
    boxes_form: Form = Form.THOUSAND
    picture_size: tuple[int, int] = (1036, 784)
    asked: list[str] = field(default_factory=list)
    batches: int = 0

    def ask_many(self, queries: Sequence[Query]) -> list[SpatialAnswer]:
        self.batches += 1
        return [self._answer(query.question) for query in queries]

    def _answer(self, question: str | Asked) -> SpatialAnswer:
        assert isinstance(question, str)
        size = (self.frame.width, self.frame.height) * 2
        self.asked.append(question)
        for name, corners in self.boxes.items():
            if question == ask_for(name, self.boxes_form):
                fractions = [value / side for value, side in zip(corners, size, strict=True)]
                text = written(self.boxes_form, name, fractions, self.picture_size)
                return SpatialAnswer(question, text)
        return SpatialAnswer(question, "[]")
