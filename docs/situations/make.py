"""Write the pictures of docs/geometry.md: `python docs/situations/make.py`.

Six tables with things of exactly known sizes, rendered by `training.simulate` (needs
requirements/train.txt and headless OpenGL) and read with the noise of a depth camera (seed 0).
Measures the box around each thing's pixels, draws what was measured into NAME.jpg, and prints it
beside the truth, one line per thing. Knows nothing of how things are measured.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parents[2]))  # the checkout may not be installed

from sdvlm_core.frame import CameraIntrinsics, Region, RgbdFrame, depth_in_metres
from sdvlm_core.geometry.drawing import draw_measurements
from sdvlm_core.geometry.measure import measure_in
from sdvlm_core.geometry.measured import Measured
from sdvlm_core.geometry.pairs import Pair
from sdvlm_core.geometry.scene import Scene, open_scene
from training.simulate.renderer import Light, Rendering, Solid, shared_renderer
from training.simulate.sensor import DepthSensor, read_depth

Vector = npt.NDArray[np.float64]
Sizes = tuple[float, float, float]
Rgb = tuple[float, float, float]

HERE = Path(__file__).parent
#: A box of a detector is this much larger than the thing's pixels, on each side.
SLACK_PX = 3
#: A good stereo camera: 1.5 mm at 1 m, steps of 1 mm, half of the pixels beside an edge missing.
SENSOR = DepthSensor(
    noise_floor=0.0005,
    noise_square=0.001,
    step=0.001,
    step_square=0.0005,
    near=0.2,
    far=8.0,
    edge=0.03,
    edge_loss=0.5,
    speckle=0.002,
)
LIGHTS = [Light((0.3, 0.5, -1.0), 0.6, 0.4, True), Light((-0.5, -0.4, -1.0), 0.2, 0.0, False)]
TABLE, FLOOR = (0.62, 0.52, 0.42), (0.45, 0.45, 0.47)
RED, BLUE, GREEN = (0.78, 0.12, 0.10), (0.15, 0.28, 0.75), (0.12, 0.52, 0.22)
WHITE, YELLOW, GREY = (0.92, 0.92, 0.90), (0.90, 0.74, 0.12), (0.35, 0.36, 0.40)


@dataclass(frozen=True)
class Thing:
    """A box or a cylinder that stands on the table (z = 0) or, at a height, on another thing.

    Attributes:
        size: x, y, z before the yaw; metres; x = y of a cylinder is its diameter.
        at: x right, y away from the camera, z: centre of the base, metres.
        yaw: radians.
        neck: diameter and height of a bottle's neck, included in the height; metres.
    """

    label: str
    kind: str
    size: Sizes
    at: tuple[float, float, float]
    rgb: Rgb
    yaw: float = 0.0
    neck: tuple[float, float] = (0.0, 0.0)

    def solids(self, instance: int) -> Iterator[Solid]:
        """The primitives of the renderer."""
        (x, y, z), (across, tall) = self.size, self.neck
        yield self._solid((x, y, z - tall), 0.0, instance)
        if tall:
            yield self._solid((across, across, tall), z - tall, instance)

    def _solid(self, size: Sizes, lift: float, instance: int) -> Solid:
        x, y, z = (side / 2 for side in size)
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        return Solid(
            self.kind,
            (x, y, z) if self.kind == "box" else (x, z, 0.0),
            np.array(self.at) + np.array((0.0, 0.0, lift + z)),
            np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]),
            self.rgb,
            instance,
        )


@dataclass(frozen=True)
class Situation:
    """Things on a table and a camera that looks at its middle.

    Attributes:
        name: of the picture.
        asked: for each region the labels of the things that it encloses; the first is its label.
        elevation: of the camera over the table, degrees.
        roll: of the camera about its optical axis, degrees; the camera's up vector is given.
        away: of the camera, metres.
    """

    name: str
    things: tuple[Thing, ...]
    asked: tuple[tuple[str, ...], ...]
    elevation: float = 35.0
    roll: float = 0.0
    away: float = 0.62


MUG = Thing("mug", "cylinder", (0.085, 0.085, 0.10), (-0.16, -0.03, 0.0), RED)
CARTON = Thing("carton", "box", (0.19, 0.12, 0.09), (0.12, -0.01, 0.0), BLUE, math.radians(25))
BOTTLE = Thing(
    "bottle", "cylinder", (0.075, 0.075, 0.24), (-0.05, 0.12, 0.0), GREEN, neck=(0.03, 0.06)
)
SITUATIONS = (
    Situation("good", (MUG, CARTON, BOTTLE), (("mug",), ("carton",), ("bottle",))),
    Situation(
        "stacked",
        (
            Thing("tin", "box", (0.19, 0.14, 0.07), (0.0, 0.0, 0.0), GREY, math.radians(-20)),
            Thing("can", "cylinder", (0.067, 0.067, 0.12), (0.01, 0.0, 0.07), RED),
        ),
        (("tin",), ("can",)),
    ),
    Situation(
        "touching",
        (
            Thing("tea", "box", (0.14, 0.08, 0.12), (-0.07, 0.0, 0.0), GREEN),
            Thing("rice", "box", (0.10, 0.08, 0.17), (0.05, 0.01, 0.0), YELLOW),
        ),
        (("tea",), ("rice",)),
    ),
    Situation(
        "flat",
        (
            Thing("card", "box", (0.086, 0.054, 0.001), (-0.13, -0.04, 0.0), WHITE, 0.4),
            Thing("marker", "box", (0.137, 0.016, 0.014), (0.03, -0.06, 0.0), BLUE, -0.5),
            Thing("plate", "cylinder", (0.20, 0.20, 0.018), (0.09, 0.12, 0.0), WHITE),
        ),
        (("card",), ("marker",), ("plate",)),
        elevation=45.0,
    ),
    Situation("turned", (MUG, CARTON, BOTTLE), (("mug",), ("carton",)), roll=90.0, away=0.8),
    Situation(
        "ambiguous",
        (
            Thing("jar", "cylinder", (0.12, 0.12, 0.13), (-0.03, 0.0, 0.0), GREEN),
            Thing("cup", "cylinder", (0.05, 0.05, 0.05), (0.07, -0.02, 0.0), GREEN),
        ),
        (("jar", "cup"),),
    ),
)
K = CameraIntrinsics(600.0, 600.0, 319.5, 239.5, 640, 480)


def camera_pose(situation: Situation) -> Vector:
    """camera_to_world (4, 4), metres."""
    pitch, turn = math.radians(situation.elevation), math.radians(situation.roll)
    forward = np.array([0.0, math.cos(pitch), -math.sin(pitch)])
    right = np.array([1.0, 0.0, 0.0])
    down = np.cross(forward, right)
    pose = np.eye(4)
    pose[:3, 0] = math.cos(turn) * right + math.sin(turn) * down
    pose[:3, 1] = np.cross(forward, pose[:3, 0])
    pose[:3, 2], pose[:3, 3] = forward, (0.0, 0.0, 0.05) - situation.away * forward
    return pose


def rendered(situation: Situation) -> tuple[Rendering, Vector]:
    """What the camera sees, exactly, and its pose; instance i is things[i - 1]."""
    level = np.eye(3)
    solids = [
        Solid("box", (0.8, 0.55, 0.02), np.array([0.0, 0.15, -0.02]), level, TABLE, 0, "speckle"),
        Solid("box", (20.0, 20.0, 0.05), np.array([0.0, 0.0, -0.80]), level, FLOOR),
    ]
    for instance, thing in enumerate(situation.things, start=1):
        solids += thing.solids(instance)
    pose = camera_pose(situation)
    return shared_renderer(K.width).render(solids, LIGHTS, K, pose), pose


def numbers_of(situation: Situation, labels: tuple[str, ...]) -> list[int]:
    """The instance numbers of things."""
    return [i for i, thing in enumerate(situation.things, start=1) if thing.label in labels]


def box_around(mask: npt.NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """(x1, y1, x2, y2), pixels, a little larger than the pixels of a mask."""
    rows, columns = np.nonzero(mask)
    x1, y1 = columns.min() - SLACK_PX, rows.min() - SLACK_PX
    x2, y2 = columns.max() + 1 + SLACK_PX, rows.max() + 1 + SLACK_PX
    return float(x1), float(y1), float(x2), float(y2)


def measured(
    situation: Situation,
) -> tuple[Scene, tuple[Measured, ...], tuple[Pair, ...]]:
    """What is measured from one depth image, with the camera's up vector."""
    view, pose = rendered(situation)
    depth_mm = read_depth(view.depth, SENSOR, np.random.default_rng(0))
    x, y, z = (float(value) for value in pose[2, :3])  # the world's z axis in the camera
    frame = RgbdFrame(view.rgb, depth_in_metres(depth_mm, 0.001), K, up=(x, y, z))
    regions = [
        Region(labels[0], box=box_around(np.isin(view.instance, numbers_of(situation, labels))))
        for labels in situation.asked
    ]
    scene = open_scene(frame)
    return scene, *measure_in(scene, regions, "realsense")


def true_sizes(situation: Situation, label: str) -> Sizes:
    """Length, width and height of a thing, metres."""
    (thing,) = (thing for thing in situation.things if thing.label == label)
    x, y, z = thing.size
    return max(x, y), min(x, y), z


def main() -> None:
    """Write all pictures into this folder, and print measured and true sizes in millimetres."""
    for situation in SITUATIONS:
        scene, found, pairs = measured(situation)
        path = HERE / f"{situation.name}.jpg"
        picture = draw_measurements(scene, found, pairs)
        cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
        for one in found:
            both = (one.length_m, one.width_m, one.height_m), true_sizes(situation, one.label)
            own, true = (" x ".join(f"{1000 * size:.0f}" for size in sizes) for sizes in both)
            codes = ", ".join(code.value for code in one.warnings) or "no warning"
            print(f"{situation.name}: {one.label} {own} mm, true {true} mm, {codes}")


if __name__ == "__main__":
    main()
