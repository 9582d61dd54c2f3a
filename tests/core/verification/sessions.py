"""A session of the room of blocks, whose "model" knows the places that a test sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from sdvlm_core.answer import Asked, Measurement, Quantity, SpatialAnswer
from sdvlm_core.frame import Region, RgbdFrame
from sdvlm_core.model.generation_options import Query
from tests import blocks
from tests.blocks import (
    FOCAL,
    INTRINSICS,
    SIZE,
    Block,
    box_around,
    looking,
    picture,
    pinhole_rays,
    room_frame,
)

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


def seen(world: Sequence[Block]) -> tuple[RgbdFrame, list[Region]]:
    """Blocks about 1.2 m before a camera at a height of 0.6 m, without yaw, and their regions."""
    pose = looking((0.0, 0.0, 0.6), (0.0, 1.2, 0.05))
    k = np.array([[FOCAL, 0, SIZE[0] / 2], [0, FOCAL, SIZE[1] / 2], [0, 0, 1]])
    rgb, depth = picture(pose, pinhole_rays(k, *SIZE), world)
    frame = RgbdFrame(rgb, np.where(depth > 0, depth, np.nan).astype(np.float32), INTRINSICS)
    regions = []
    for block in world:
        corners = np.array(np.meshgrid(*[[-0.5, 0.5]] * 3)).reshape(3, -1).T * block.sides
        camera = (corners + block.centre - pose[:3, 3]) @ pose[:3, :3]
        uv = camera[:, :2] / camera[:, 2:] * FOCAL + (SIZE[0] / 2, SIZE[1] / 2)
        regions.append(Region(block.label, box=(*(uv.min(0) - 2), *(uv.max(0) + 2))))
    return frame, regions


@dataclass
class Session:
    """Answers the typed question where an object is, and refuses every other one."""

    frame: RgbdFrame
    places: dict[str, tuple[float, float]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    boxes_form: str = "fraction"
    picture_size: tuple[int, int] = SIZE

    def ask_many(self, queries: Sequence[Query]) -> list[SpatialAnswer]:
        return [self.answer(query.question) for query in queries]

    def answer(self, question: Asked) -> SpatialAnswer:
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
