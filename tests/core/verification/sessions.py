"""A session of the room of blocks, whose "model" knows the places that a test sets."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from sdvlm_core.answer import Asked, Measurement, Quantity, SpatialAnswer
from sdvlm_core.frame import Region, RgbdFrame
from sdvlm_core.model.generation_options import GenerationOptions
from tests import blocks
from tests.blocks import SIZE, box_around, room_frame

RED = Region("red chair", box=box_around(blocks.RED))
BLUE = Region("blue chair", box=box_around(blocks.BLUE))
TABLE = Region("coffee table", box=box_around(blocks.TABLE))
LAMP = Region("lamp", box=box_around(blocks.LAMP))
CUT = Region("sofa", box=(0.0, *box_around(blocks.CUT)[1:]))
CHAIRS = (RED.label, BLUE.label)


@cache
def room() -> RgbdFrame:
    """The room of blocks; one frame, so that its scene is opened once."""
    return room_frame()


@dataclass
class Session:
    """Answers the typed question where an object is, and refuses every other one."""

    frame: RgbdFrame
    places: dict[str, tuple[float, float]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def ask(self, question: Asked, _: GenerationOptions) -> SpatialAnswer:
        assert question.quantity is Quantity.POSITION
        (name,) = question.objects
        self.asked.append(name)
        if name not in self.places:
            return SpatialAnswer("", f"There is no {name} in the image.", question)
        u, v = self.places[name]
        return SpatialAnswer("", "", question, image_points=((u / SIZE[0], v / SIZE[1]),))


def said(kind: Quantity, value: float, *objects: str, relation: str = "") -> SpatialAnswer:
    """The answer to a question for one number, with that number."""
    asked = Asked(kind, objects, relation)
    return SpatialAnswer("?", "...", asked, (Measurement(kind, value, objects=objects),))
