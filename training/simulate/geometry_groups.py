"""Groups of things that are hard to measure: stacked, touching, hidden, thin, flat, leaning.

Each builder gives bodies on the plane z = 0 around the origin, for a camera that looks along +y.
Does not know furniture, cameras or images.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from training.simulate.catalogue import COLOURS, turn
from training.simulate.placement import (
    CONTACT_M,
    Body,
    Finish,
    find_room,
    gap_to,
    is_free,
    lie_down,
    set_down,
    set_on,
    shifted,
    slide_to,
    stand,
    turned,
)
from training.simulate.shapes import (
    FLAT,
    FURNITURE,
    THIN,
    THINGS,
    Shape,
    cuboid,
    draw_shape,
    mesh_shapes,
    open_box,
    round_tin,
)
from training.simulate.textures import COATS

Rng = np.random.Generator

#: Upright things that may as well lie.
_ROLLS = ("tube", "tin", "bottle")
#: Foot of something on another: at most this multiple of the carrying top.
_OVERHANG = 1.35
_MANY_PARTS = 10
#: Share of modelled things, if a package has them.
_MODELLED = 0.2


def draw_finish(rng: Rng) -> Finish:
    """A random look; dark and shiny things lose readings."""
    colour = list(COLOURS)[rng.integers(len(COLOURS))]
    material = f"coat_{COATS[rng.integers(len(COATS))]}" if rng.random() < 0.65 else None
    jitter = rng.uniform(0.75, 1.1)
    red, green, blue = (min(1.0, channel * jitter) for channel in COLOURS[colour])
    shiny = rng.random() < 0.12
    absorbs = rng.uniform(0.1, 0.5) if shiny or (colour == "black" and rng.random() < 0.5) else 0.0
    shininess = rng.uniform(0.6, 1.0) if shiny else rng.uniform(0.0, 0.4)
    return Finish(colour, (red, green, blue), material, shininess, absorbs)


def _standing(shape: Shape, rng: Rng, yaw: float | None = None) -> Body:
    turned_by = rng.uniform(0, 2 * math.pi) if yaw is None else yaw
    finish = draw_finish(rng)
    if len(shape.parts) > _MANY_PARTS:  # a print would be repeated on each panel of a wall
        finish = replace(finish, material=None)
    return stand(shape, finish, (0.0, 0.0), turned_by)


def _thing(rng: Rng, largest: float = math.inf, category: str | None = None) -> Body:
    modelled = mesh_shapes()
    if modelled and category is None and rng.random() < _MODELLED:
        shape = modelled[rng.integers(len(modelled))]
        body = _standing(shape, rng)
        if max(body.top, 2 * body.radius) < largest:
            return body
    return _standing(draw_shape(THINGS, rng, category, largest), rng)


def _carrier(rng: Rng, width: float, height: float) -> Body:
    """A box or tin of about the given width and height."""
    if rng.random() < 0.5:
        return _standing(round_tin(width / 2, height), rng)
    return _standing(cuboid(width, width * rng.uniform(0.7, 1.0), height), rng)


def plain(rng: Rng) -> list[Body]:
    """One to three things apart."""
    bodies: list[Body] = []
    for _ in range(int(rng.integers(1, 4))):
        placed = find_room(_thing(rng), bodies, (0.3, 0.25), 0.03, rng)
        bodies += [placed] if placed else []
    return bodies


def _fitting(rng: Rng, below: Body) -> Body:
    """A thing whose foot fits on the top of another."""
    carries = below.shape.carries or (0.0, 0.0)
    room = 2 * _OVERHANG * min(carries)
    for _ in range(12):
        body = _thing(rng, max(0.03, room * rng.uniform(0.6, 2.5)))
        if 2 * body.radius <= room * math.sqrt(2):
            return body
    return _standing(round_tin(0.4 * room, room * rng.uniform(0.4, 1.2)), rng)


def _tower(rng: Rng) -> list[Body]:
    width = rng.uniform(0.07, 0.22)
    bodies = [_carrier(rng, width, width * rng.uniform(0.35, 1.2))]
    if rng.random() < 0.3:
        bodies.append(set_on(_carrier(rng, 0.8 * width, width * rng.uniform(0.3, 0.8)), bodies[-1]))
    reach = 0.25 * min(bodies[-1].shape.carries or (0.0, 0.0))
    offset = (float(rng.uniform(-reach, reach)), float(rng.uniform(-reach, reach)))
    return [*bodies, set_on(_fitting(rng, bodies[-1]), bodies[-1], offset=offset)]


def _tube_on(rng: Rng) -> list[Body]:
    width = rng.uniform(0.08, 0.16)
    below = _carrier(rng, width, width * rng.uniform(0.4, 1.0))
    tube = _thing(rng, width * rng.uniform(1.2, 2.2), str(rng.choice(["tube", "bottle"])))
    return [below, set_on(lie_down(tube, rng.uniform(0, math.pi)), below)]


def bridge(rng: Rng) -> list[Body]:
    """A beam over two pillars."""
    side, height = rng.uniform(0.04, 0.12), rng.uniform(0.05, 0.15)
    span = side * rng.uniform(1.6, 3.5)  # between the middles of the pillars
    yaw = rng.uniform(-0.6, 0.6)
    along = np.array([math.cos(yaw), math.sin(yaw)])
    pillars = [
        shifted(_standing(cuboid(side, side, height), rng, yaw), sign * span / 2 * along)
        for sign in (-1, 1)
    ]
    beam = cuboid(span + side * rng.uniform(0.8, 1.3), side, side * rng.uniform(0.25, 0.9))
    bodies = [*pillars, set_on(_standing(beam, rng, yaw), *pillars)]
    return [body.labelled("bridge") for body in bodies]


def stacked(rng: Rng) -> list[Body]:
    """Two or three things on one another: a tower, a lying tube on a tin, a bridge."""
    build = (_tower, _tower, _tube_on, bridge)[rng.integers(4)]
    return [body.labelled("stacked") for body in build(rng)]


def touching(rng: Rng) -> list[Body]:
    """Two or three things in contact, side by side or one in front of the other."""
    largest = rng.uniform(0.08, 0.30)
    square = rng.random() < 0.5  # faces against faces
    bodies: list[Body] = []
    for _ in range(3 if rng.random() < 0.25 else 2):
        body = _thing(rng, largest)
        if square:
            body = replace(body, rotation=turn("z", math.pi / 2 * int(rng.integers(4))))
        if bodies:
            behind = -math.pi / 2 if body.top > bodies[0].top else math.pi / 2
            angle = (0.0, math.pi, behind)[rng.integers(3)]  # the lower one in front
            way = (math.cos(angle), math.sin(angle))
            aside = rng.uniform(-0.3, 0.3) * bodies[0].radius
            start = (-1.5 * way[0] - aside * way[1], -1.5 * way[1] + aside * way[0])
            body = slide_to(shifted(body, start), bodies, way)
            if gap_to(body, bodies) > 2 * CONTACT_M:
                continue  # it passed them
        bodies.append(body)
    return [body.labelled("touching") for body in bodies] if len(bodies) > 1 else bodies


def occluded(rng: Rng) -> list[Body]:
    """A thing behind another that hides its foot, or about a third of its width."""
    tall = rng.random() < 0.5
    category = str(rng.choice(["bottle", "tube", "box", "drill"]))
    behind = _thing(rng, rng.uniform(0.12, 0.34), category)
    height, radius = behind.top, behind.radius
    if tall:  # one third of the width
        wide = rng.uniform(0.8, 1.6) * radius
        front = _carrier(rng, wide, height * rng.uniform(0.7, 1.2))
        x = float(rng.choice([-1, 1])) * (0.35 * radius + front.radius * rng.uniform(0.7, 1.0))
    else:
        wide = radius * rng.uniform(2.0, 3.2)
        front = _carrier(rng, wide, height * rng.uniform(0.25, 0.55))
        x = rng.uniform(-0.25, 0.25) * radius
    gap = rng.uniform(0.005, 0.12)
    front = slide_to(shifted(front, (x, -1.5)), [behind], (0.0, 1.0), gap)
    if front.position[1] > 0:  # beside it
        front = shifted(front, (0.0, -front.position[1] - front.radius - radius))
    bodies = [behind, front]
    return bodies if is_free(front, [behind], 0.0) else bodies[:1]


def _lying_about(
    kinds: dict[str, tuple[Callable[[float, Rng], Shape], float, float]], label: str, rng: Rng
) -> list[Body]:
    bodies: list[Body] = []
    for _ in range(int(rng.integers(1, 4))):
        body = _standing(draw_shape(kinds, rng), rng).labelled(label)
        placed = find_room(body, bodies, (0.25, 0.2), 0.01, rng)
        bodies += [placed] if placed else []
    if rng.random() < 0.5:
        placed = find_room(_thing(rng, 0.2), bodies, (0.3, 0.25), 0.01, rng)
        bodies += [placed] if placed else []
    return bodies


def thin(rng: Rng) -> list[Body]:
    """Pens, scissors and cables on the plane; sometimes with a larger thing."""
    return _lying_about(THIN, "thin", rng)


def flat(rng: Rng) -> list[Body]:
    """Cards, phones, booklets and plates on the plane; sometimes with a thing on one."""
    bodies = _lying_about(FLAT, "flat", rng)
    lowest = bodies[0]
    if lowest.shape.carries and rng.random() < 0.3:
        upper = set_on(_fitting(rng, lowest), lowest)
        if is_free(upper, bodies[1:], 0.002):
            bodies = [lowest.labelled("stacked"), *bodies[1:], upper.labelled("stacked")]
    return bodies


def _leaning(rng: Rng) -> list[Body]:
    """A tube, pen or booklet against the side of a box, which is higher than its middle."""
    length = rng.uniform(0.12, 0.35)
    tilt = math.radians(rng.uniform(15, 40))
    kinds, names = (THINGS, ["tube", "bottle"]) if rng.random() < 0.6 else (FLAT, ["booklet"])
    angle = (0.0, math.pi, math.pi / 2)[rng.integers(3)]
    way = (math.cos(angle), math.sin(angle))
    body = _standing(draw_shape(kinds, rng, str(rng.choice(names)), length), rng, 0.0)
    if kinds is FLAT:
        body = set_down(turned(body, turn("y", -math.pi / 2)), 0.0)
    leaning = set_down(turned(body, turn("z", angle) @ turn("y", tilt)), 0.0)
    width = rng.uniform(0.10, 0.20)
    wall = _standing(cuboid(width, width, leaning.top * rng.uniform(0.65, 1.2)), rng, 0.0)
    leaning = slide_to(shifted(leaning, (-1.5 * way[0], -1.5 * way[1])), [wall], way)
    return [wall.labelled("touching"), leaning.labelled("leaning", "touching")]


def _lying(rng: Rng) -> list[Body]:
    bodies: list[Body] = []
    for _ in range(int(rng.integers(1, 4))):
        body = _thing(rng, category=_ROLLS[rng.integers(len(_ROLLS))])
        body = lie_down(body, rng.uniform(0, 2 * math.pi)).labelled("lying")
        placed = find_room(body, bodies, (0.3, 0.25), 0.01, rng)
        bodies += [placed] if placed else []
    return bodies


def leaning(rng: Rng) -> list[Body]:
    """Things that lean against others, or cylinders that lie."""
    return _leaning(rng) if rng.random() < 0.5 else _lying(rng)


def clutter(rng: Rng) -> list[Body]:
    """Five to ten things close together, some of them on others."""
    bodies: list[Body] = []
    reach = rng.uniform(0.18, 0.35)
    for _ in range(int(rng.integers(5, 11))):
        kinds = (THINGS, THINGS, THINGS, THINGS, THIN, FLAT)[rng.integers(6)]
        body = _standing(draw_shape(kinds, rng, None, 0.24), rng)
        if body.shape.category in _ROLLS and rng.random() < 0.25:
            body = lie_down(body, rng.uniform(0, 2 * math.pi)).labelled("lying")
        body = body if kinds is THINGS else body.labelled("thin" if kinds is THIN else "flat")
        placed = find_room(body, bodies, (reach, reach), 0.001, rng)
        bodies += [placed] if placed else []
    for index in rng.permutation(len(bodies))[:2]:
        below = bodies[index]
        if below.shape.carries and "lying" not in below.situation:
            upper = set_on(_fitting(rng, below), below)
            others = [body for body in bodies if body is not below]
            if is_free(upper, others, 0.001):
                bodies[index] = below.labelled("stacked")
                bodies.append(upper.labelled("stacked"))
    return [body.labelled("clutter") for body in bodies]


def furniture(rng: Rng) -> list[Body]:
    """One to three stools, crates and boxes; sometimes with something on one."""
    bodies: list[Body] = []
    for _ in range(int(rng.integers(1, 4))):
        body = _standing(draw_shape(FURNITURE, rng), rng)
        placed = find_room(body.labelled("furniture"), bodies, (0.8, 0.6), 0.03, rng)
        bodies += [placed] if placed else []
    if bodies[0].shape.carries and rng.random() < 0.4:
        bodies[0] = bodies[0].labelled("stacked")
        bodies.append(set_on(_fitting(rng, bodies[0]), bodies[0]).labelled("stacked"))
    return bodies


def filled_bin(rng: Rng) -> list[Body]:
    """An open box with things in it."""
    sides = (rng.uniform(0.25, 0.55), rng.uniform(0.2, 0.4), rng.uniform(0.08, 0.22))
    thick = rng.uniform(0.003, 0.008)
    body = _standing(open_box(*sides, thick), rng, 0.0).labelled("bin")
    inside = [body]
    for _ in range(int(rng.integers(2, 8))):
        item = _thing(rng, min(sides[:2]) * rng.uniform(0.3, 0.7))
        if item.shape.category in _ROLLS and rng.random() < 0.6:
            item = lie_down(item, rng.uniform(0, 2 * math.pi)).labelled("lying")
        item = shifted(item.labelled("in_bin"), np.array([0.0, 0.0, thick + CONTACT_M]))
        room = (sides[0] / 2 - thick, sides[1] / 2 - thick)
        placed = find_room(item, inside, room, CONTACT_M / 2, rng)
        inside += [placed] if placed else []
    return inside
