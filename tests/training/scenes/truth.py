"""What is true of a view of a room, and the check of a claim against it.

A view is rendered again from the boxes with the pose of the truth and the intrinsics of the row, so
that a row of an undistorted or resized picture is judged by what that picture shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tests.training.scenes.names import COLOUR_WORDS, GROUPS, certain, possible, singular
from tests.training.scenes.sentences import Claim, adjective
from tests.training.scenes.solids import Picture, Thing, look, pinhole_rays

#: Metres: float32 files, six digits in the poses.
SLACK = 0.004
#: Fewer visible pixels than this may be a matter of rounding at an edge.
EDGE = 4
#: Documented: an object that is asked about has 50 visible pixels and 70 % of it is visible.
PIXELS, FRACTION = 50, 0.7


@dataclass(frozen=True)
class Seen:
    """A thing in a view: pixels that are visible, and if it were alone; box x0, y0, x1, y1."""

    thing: Thing
    pixels: int
    alone: int
    box: tuple[int, int, int, int] | None

    @property
    def label(self) -> str:
        return self.thing.truly or self.thing.label or ""


@dataclass(frozen=True)
class View:
    pose: np.ndarray
    width: int
    height: int
    matrix: np.ndarray
    picture: Picture
    seen: tuple[Seen, ...]


def view_of(things: list[Thing], pose: np.ndarray, width: int, height: int, matrix) -> View:
    """The view of a pinhole camera; `pose` 4x4, `matrix` 3x3."""
    rounded = np.round(matrix, 6)
    return _view(tuple(things), pose.tobytes(), width, height, rounded.astype(float).tobytes())


@lru_cache(maxsize=64)
def _view(things: tuple[Thing, ...], pose_: bytes, width: int, height: int, matrix_: bytes) -> View:
    """Many scans of the tests are of one room: each view of it is rendered once."""
    pose, matrix = np.frombuffer(pose_).reshape(4, 4), np.frombuffer(matrix_).reshape(3, 3)
    rays = pinhole_rays(width, height, matrix)
    picture = look(list(things), pose, rays)
    seen = []
    for index, thing in enumerate(things):
        mask = picture.things == index
        alone = int((look([thing], pose, rays).things == 0).sum()) if mask.any() else 0
        box = None
        if mask.any():
            v, u = np.nonzero(mask)
            box = (int(u.min()), int(v.min()), int(u.max()), int(v.max()))
        seen.append(Seen(thing, int(mask.sum()), alone, box))
    return View(pose, width, height, matrix, picture, tuple(seen))


def fits(name: str, seen: Seen, names) -> bool:
    """Whether "blue office chair" fits a thing whose possible names are `names(label)`."""
    words = name.split()
    for cut in range(len(words)):
        if " ".join(words[cut:]) in names(seen.label):
            adjectives = " ".join(words[:cut])
            return not adjectives or seen.thing.colour in COLOUR_WORDS.get(adjectives, ())
    return False


def called(name: str, view: View) -> tuple[Seen | None, str]:
    """The one visible thing of that name, or None and why there is none."""
    found = [s for s in view.seen if s.thing.thing and s.pixels > EDGE and fits(name, s, certain)]
    if not found:
        found = [s for s in view.seen if s.thing.thing and s.pixels > EDGE
                 and s.label not in GROUPS and fits(name, s, possible)]  # fmt: skip
    if len(found) != 1:
        return None, f"{len(found)} visible things are called '{name}'"
    return found[0], ""


def _side(seen: Seen, quantity: str) -> float:
    length, width, height = seen.thing.size
    return {"length": length, "width": width, "height": height,
            "volume": length * width * height}[quantity]  # fmt: skip


def _camera(seen: Seen, view: View) -> float:
    return float(np.linalg.norm(seen.thing.centre - view.pose[:3, 3]))


def _centres(seen: Seen, view: View) -> tuple[float, float]:
    """x of the centre of the visible box, and of the projected centre of the thing, pixels."""
    assert seen.box is not None
    local = view.pose[:3, :3].T @ (seen.thing.centre - view.pose[:3, 3])
    return (seen.box[0] + seen.box[2]) / 2, float((view.matrix @ local)[0] / local[2])


def _measured(claim: Claim, things: list[Seen], view: View) -> str:
    if claim.kind == "size":
        truth = things[0].thing.size
        values = claim.value
    elif claim.kind == "distance":
        truth = (float(np.linalg.norm(things[0].thing.centre - things[1].thing.centre)),)
        values = [claim.value]
    elif claim.kind == "camera":
        truth, values = (_camera(things[0], view),), [claim.value]
    else:
        truth, values = (_side(things[0], claim.kind),), [claim.value]
    for said, true in zip(values, truth, strict=True):
        if abs(said[0] - true) > said[1] + SLACK:
            return f"{claim.kind} is {[round(t, 3) for t in truth]}"
    return ""


def _compared(claim: Claim, things: list[Seen], view: View, kind: str) -> str:
    """Comparisons by an adjective: the first thing against every other one."""
    _, word = claim.kind.split()
    quantity, more = adjective(word)
    if word in ("higher", "highest") or (kind == "relative_position" and quantity == "height"):
        values = [float(s.thing.centre[2]) for s in things]
    elif quantity == "camera":
        values = [_camera(s, view) for s in things]
    else:
        values = [_side(s, quantity) for s in things]
    first, others = values[0], values[1:]
    if any(abs(first - other) < 0.002 * max(abs(first), 0.1) for other in others):
        return f"{quantity}s are equal: {values}"
    holds = all((first > other) == more for other in others)
    return "" if holds == claim.value else f"{quantity}s are {[round(v, 3) for v in values]}"


def _directed(claim: Claim, things: list[Seen], view: View) -> str:
    if claim.kind in ("above", "below"):
        upper, lower = things if claim.kind == "above" else things[::-1]
        holds = upper.thing.bottom_top[0] >= lower.thing.bottom_top[1] - 0.02
        return "" if holds == claim.value else "heights say otherwise"
    sign = -1 if claim.kind == "left" else 1
    a, b = (_centres(s, view) for s in things)
    answers = {sign * (x - y) > 0 for x, y in zip(a, b, strict=True)}
    return "" if claim.value in answers else f"x of the centres: {a}, {b}"


def _placed(claim: Claim, seen: Seen, view: View) -> str:
    assert seen.box is not None
    x = (seen.box[0] + seen.box[2] + 1) / 2 / view.width
    y = (seen.box[1] + seen.box[3] + 1) / 2 / view.height
    said = claim.value
    if max(abs(said[0] - x), abs(said[1] - y)) > 0.02:
        return f"its visible box is centred at ({x:.2f}, {y:.2f})"
    return ""


def elsewhere(claim: Claim, view: View) -> str:
    """What the picture shows at a point that is said to be of a thing; empty if it shows the thing.

    The centre of the visible box of a table may lie between its legs.
    """
    seen, why = called(claim.names[0], view)
    if seen is None:
        return why
    x, y = claim.value
    u, v = round(x * view.width - 0.5), round(y * view.height - 0.5)
    around = view.picture.things[max(v - 3, 0) : v + 4, max(u - 3, 0) : u + 4]
    shown = [view.seen[index] for index in np.unique(around) if index >= 0]
    if any(other.thing is seen.thing for other in shown):
        return ""
    return f"{claim.names[0]}: the picture shows {[other.label for other in shown]} there"


def _existence(claim: Claim, view: View) -> str:
    name = claim.names[0]
    if claim.value:
        there = [s for s in view.seen if s.pixels and fits(singular(name), s, possible)]
        there += [s for s in view.seen if s.pixels and fits(name, s, possible)]
        return "" if there else "nothing of that name is visible"
    for seen in view.seen:
        names = (name, singular(name))
        if seen.pixels > EDGE and any(fits(n, seen, possible) for n in names):
            return f"a {seen.thing.colour} {seen.label} is visible ({seen.pixels} pixels)"
    return ""


def _counted(claim: Claim, view: View) -> str:
    name = singular(claim.names[0])
    near = [s for s in view.seen if s.pixels > EDGE and fits(name, s, possible)]
    if any(s.label in GROUPS for s in near):
        return "a group of unknown number is visible"
    sure = [s for s in near if fits(name, s, certain)]
    if any(s.pixels < PIXELS * 0.8 for s in sure):
        return f"barely visible: {[(s.label, s.pixels) for s in sure]}"
    if len(sure) <= claim.value <= len(near):
        return ""
    return f"{len(sure)} are visible ({len(near)} with what is like it)"


def wrong_node(node: dict, view: View) -> str:
    """Why an entry of the scene graph is not a thing of the view; empty if it is one."""
    centre = np.array(node["centre_world_m"])
    found = [s for s in view.seen if s.pixels and s.thing.label == node["label"]]
    if not found:
        return f"nothing visible has the label {node['label']!r}" if node["name"] else ""
    seen = min(found, key=lambda s: float(np.linalg.norm(s.thing.centre - centre)))
    sides = (node["length_m"], node["width_m"], node["height_m"])
    if not np.allclose(sides, seen.thing.size, atol=2 * SLACK):
        return f"its sides are {np.round(seen.thing.size, 3)}, not {np.round(sides, 3)}"
    if not np.allclose(centre, seen.thing.centre, atol=2 * SLACK):
        return f"its centre is {np.round(seen.thing.centre, 3)}, not {np.round(centre, 3)}"
    local = view.pose[:3, :3].T @ (seen.thing.centre - view.pose[:3, 3])
    if not np.allclose(node["centre_camera_m"], local, atol=2 * SLACK):
        return f"its centre is {np.round(local, 3)} in the camera's frame"
    if abs(node["visible_pixels"] - seen.pixels) > 0.03 * seen.pixels + 2 * EDGE:
        return f"{seen.pixels} of its pixels are visible, not {node['visible_pixels']}"
    return ""


def wrong(claim: Claim, view: View, kind: str) -> str:
    """Why a claim of a turn of type `kind` is not true of the view; empty if it is true."""
    if claim.kind == "exists":
        return _existence(claim, view)
    if claim.kind == "count":
        return _counted(claim, view)
    things = []
    for name in claim.names:
        seen, why = called(name, view)
        if seen is None:
            return why
        if seen.pixels < PIXELS * 0.9 or seen.pixels < (FRACTION - 0.05) * seen.alone:
            return f"{name}: {seen.pixels} of {seen.alone} pixels visible"
        things.append(seen)
    if len({id(s.thing) for s in things}) != len(things):
        return "two names for one thing"
    if claim.kind in ("place", "found"):
        return _placed(claim, things[0], view)
    if claim.kind in ("left", "right", "above", "below"):
        return _directed(claim, things, view)
    if claim.kind.startswith(("more ", "most ")):
        return _compared(claim, things, view, kind)
    return _measured(claim, things, view)
