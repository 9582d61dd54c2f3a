"""Five rooms, and where cameras stand in them.

All in the room's frame: metres, z up, the floor at z = 0. Colours are told from each other with
certainty, and things of one name in a room have different colours or are meant to be ambiguous.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tests.training.scenes.solids import Box, Thing, camera_at, chair, cuboid, table

WIDE, DEEP, TALL = 5.0, 4.0, 2.6


@dataclass(frozen=True)
class Room:
    things: list[Thing]
    poses: list[np.ndarray]


def shell(wide: float = WIDE, deep: float = DEEP, tall: float = TALL) -> list[Thing]:
    """Floor and four walls; their inner faces are the room."""
    thin = 0.1
    floor = Thing("floor", "gray", (Box((0, 0, -thin / 2), (wide, deep, thin)),),
                  (wide / 2, deep / 2, 0), thing=False)  # fmt: skip
    walls = [
        cuboid("wall", "orange", (thin, deep, tall), (-thin / 2, deep / 2, 0), thing=False),
        cuboid("wall", "orange", (thin, deep, tall), (wide + thin / 2, deep / 2, 0), thing=False),
        cuboid("wall", "orange", (wide, thin, tall), (wide / 2, -thin / 2, 0), thing=False),
        cuboid("wall", "orange", (wide, thin, tall), (wide / 2, deep + thin / 2, 0), thing=False),
    ]
    return [floor, *walls]


def office() -> Room:
    things = [
        table("desk", "brown", (1.4, 0.7, 0.74), (2.3, 3.6, 0)),
        cuboid("monitor", "black", (0.55, 0.1, 0.4), (2.45, 3.7, 0.74)),
        chair("office chair", "blue", (1.9, 2.75, 0), yaw=np.pi),
        cuboid("bookshelf", "white", (0.8, 0.3, 1.8), (4.1, 3.8, 0)),
        cuboid("trash can", "green", (0.3, 0.26, 0.35), (3.3, 3.0, 0)),
        cuboid("cabinet", "yellow", (0.45, 0.9, 1.1), (0.3, 3.0, 0)),
        cuboid("printer", "white", (0.35, 0.42, 0.3), (0.3, 3.0, 1.1)),
        cuboid("backpack", "red", (0.35, 0.2, 0.45), (2.75, 2.6, 0)),
    ]
    poses = [
        camera_at((2.4, 0.3, 1.5), (2.3, 3.2, 0.7)),
        camera_at((3.9, 0.4, 1.4), (2.0, 3.3, 0.7)),
        camera_at((1.0, 0.4, 1.6), (2.9, 3.3, 0.7), roll=0.08),
        camera_at((4.5, 1.2, 1.7), (1.2, 3.2, 0.8)),
    ]
    return Room(shell() + things, poses)


def bedroom() -> Room:
    things = [
        cuboid("bed", "blue", (1.5, 2.0, 0.5), (2.5, 2.9, 0)),
        cuboid("pillow", "white", (0.5, 0.35, 0.14), (2.15, 3.6, 0.5)),
        cuboid("pillow", "red", (0.5, 0.35, 0.14), (2.85, 3.6, 0.5)),
        cuboid("nightstand", "brown", (0.45, 0.4, 0.55), (3.6, 3.75, 0)),
        cuboid("lamp", "yellow", (0.22, 0.22, 0.42), (3.6, 3.75, 0.55)),
        cuboid("wardrobe", "white", (0.6, 1.1, 1.9), (0.35, 2.9, 0)),
        chair("chair", "red", (4.2, 2.5, 0), yaw=-np.pi / 2),
        cuboid("suitcase", "green", (0.5, 0.28, 0.7), (1.1, 1.9, 0)),
    ]
    poses = [
        camera_at((2.5, 0.25, 1.6), (2.6, 3.0, 0.5)),
        camera_at((1.2, 0.3, 1.5), (3.0, 3.2, 0.5)),
        camera_at((4.4, 0.4, 1.7), (2.2, 3.2, 0.5)),
        camera_at((3.4, 0.3, 1.3), (2.4, 3.3, 0.6), roll=-0.06),
    ]
    return Room(shell() + things, poses)


def lounge() -> Room:
    """Everything is turned about z by an angle of its own."""
    things = [
        cuboid("couch", "green", (1.9, 0.8, 0.75), (1.6, 3.0, 0), yaw=0.5),
        table("coffee table", "brown", (1.0, 0.55, 0.42), (2.55, 1.9, 0), yaw=-0.3),
        cuboid("tv stand", "white", (1.2, 0.4, 0.5), (3.9, 3.3, 0), yaw=-0.6),
        cuboid("tv", "black", (0.9, 0.09, 0.52), (3.9, 3.3, 0.5), yaw=-0.6),
        chair("armchair", "red", (4.3, 2.1, 0), yaw=1.1, seat=0.6, height=0.85),
        cuboid("vase", "blue", (0.18, 0.18, 0.34), (2.5, 1.95, 0.42), yaw=0.3),
        cuboid("basket", "yellow", (0.42, 0.32, 0.3), (2.9, 3.3, 0), yaw=0.7),
    ]
    poses = [
        camera_at((2.6, 0.2, 1.6), (2.6, 2.8, 0.4)),
        camera_at((1.0, 0.3, 1.7), (2.9, 2.8, 0.4)),
        camera_at((4.5, 0.4, 1.5), (2.1, 2.9, 0.4)),
        camera_at((3.5, 0.3, 1.9), (2.2, 3.0, 0.3)),
    ]
    return Room(shell() + things, poses)


def kitchen() -> Room:
    things = [
        cuboid("refrigerator", "white", (0.65, 0.65, 1.75), (0.5, 3.5, 0)),
        cuboid("kitchen cabinet", "yellow", (1.5, 0.6, 0.9), (1.7, 3.65, 0)),
        cuboid("microwave", "black", (0.5, 0.36, 0.3), (1.4, 3.65, 0.9)),
        cuboid("kettle", "red", (0.2, 0.16, 0.25), (2.1, 3.6, 0.9)),
        table("table", "brown", (1.3, 0.8, 0.75), (3.4, 2.7, 0), yaw=0.25),
        chair("chair", "blue", (2.4, 2.3, 0), yaw=1.3),
        chair("chair", "green", (4.5, 2.9, 0), yaw=-1.4),
        cuboid("stool", "white", (0.34, 0.34, 0.48), (3.4, 1.75, 0), yaw=0.4),
        cuboid("trash can", "gray", (0.32, 0.3, 0.6), (2.9, 3.7, 0)),
    ]
    poses = [
        camera_at((2.6, 0.3, 1.6), (2.5, 3.0, 0.7)),
        camera_at((4.4, 0.4, 1.5), (2.2, 3.1, 0.7)),
        camera_at((0.7, 0.5, 1.7), (2.8, 3.1, 0.6)),
        camera_at((3.6, 0.2, 1.3), (2.5, 3.2, 0.7)),
    ]
    return Room(shell() + things, poses)


def library() -> Room:
    """Labels of groups, and compound labels whose last word is another thing."""
    things = [
        table("table", "brown", (1.4, 0.8, 0.72), (2.5, 2.6, 0)),
        cuboid("books", "red", (0.3, 0.22, 0.2), (2.1, 2.6, 0.72)),
        cuboid("tissue box", "blue", (0.24, 0.14, 0.12), (2.8, 2.5, 0.72)),
        cuboid("boxes", "yellow", (0.6, 0.5, 0.55), (3.9, 3.1, 0)),
        cuboid("cabinets", "white", (1.6, 0.5, 1.0), (1.2, 3.7, 0)),
        cuboid("hair dryer", "pink", (0.25, 0.16, 0.22), (0.9, 3.6, 1.0)),
        cuboid("toilet seat", "gray", (0.46, 0.4, 0.06), (1.2, 2.2, 0)),
        cuboid("projector screen", "green", (1.4, 0.06, 1.0), (3.6, 3.9, 1.2)),
        cuboid("curtains", "purple", (0.08, 1.0, 1.9), (0.06, 2.5, 0.3)),
    ]
    poses = [
        camera_at((2.4, 0.2, 1.5), (2.4, 3.0, 0.7)),
        camera_at((3.9, 0.3, 1.6), (1.9, 3.0, 0.7)),
        camera_at((0.9, 0.3, 1.5), (2.7, 3.0, 0.7)),
        camera_at((3.1, 0.2, 1.9), (2.3, 3.1, 0.6)),
    ]
    return Room(shell() + things, poses)


ROOMS: dict[str, Callable[[], Room]] = {
    "office": office,
    "bedroom": bedroom,
    "lounge": lounge,
    "kitchen": kitchen,
    "library": library,
}
