"""Random rooms and table tops, a camera, and the exact scene graph.

Composes `catalogue` objects into a scene, renders it (`renderer`), simulates its depth (`sensor`)
and derives the scene graph. Does not know questions, files or shards.

World frame: z up, the support surface at z = 0, metres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sdvlm_core.frame import CameraIntrinsics, fraction_from_pixel
from training.simulate.catalogue import COLOURS, LARGE, SMALL, ObjectModel, make_model
from training.simulate.frames import SimulatedFrame
from training.simulate.gaps import gaps_of, signed_gaps
from training.simulate.renderer import MATERIALS, Light, Renderer, Solid
from training.simulate.sensor import read_depth, sample_sensor
from training.simulate.silhouette import silhouette_pixels

Vector = npt.NDArray[np.float64]

IMAGE_SIZES: tuple[tuple[int, int], ...] = ((4, 3), (16, 9))


@dataclass(frozen=True, eq=False)
class PlacedObject:
    """An object with its colour, position, and yaw about the vertical (radians)."""

    model: ObjectModel
    colour: str
    position: Vector  # of the base centre, world frame, metres
    yaw: float

    @property
    def rotation(self) -> Vector:
        """(3, 3) object frame -> world frame."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])

    @property
    def centre(self) -> Vector:
        """Centre (3,) of the box, world frame, metres."""
        return np.asarray(self.position + np.array([0.0, 0.0, self.model.size[2] / 2]))


def _scene_models(rng: np.random.Generator, large: bool) -> list[tuple[ObjectModel, str]]:
    """3-8 objects with colours; often several objects of one category."""
    kinds = LARGE if large else SMALL
    names = list(kinds)
    count = int(rng.integers(3, 9))
    repeated = names[rng.integers(len(names))] if rng.random() < 0.55 else None
    copies = int(rng.integers(2, 6)) if repeated else 0
    models = []
    for index in range(count):
        category = repeated if index < copies and repeated else names[rng.integers(len(names))]
        colour = list(COLOURS)[rng.integers(len(COLOURS))]
        models.append((make_model(category, kinds, rng), colour))
    return models


def _place(
    models: list[tuple[ObjectModel, str]], radius: float, rng: np.random.Generator
) -> list[PlacedObject]:
    """Place objects on a disc without overlap; an object that finds no room is left out."""
    placed: list[PlacedObject] = []
    for model, colour in sorted(models, key=lambda item: -item[0].size[0]):
        reach = math.hypot(model.size[0], model.size[1]) / 2
        for _ in range(30):
            angle, distance = rng.uniform(0, 2 * math.pi), radius * math.sqrt(rng.random())
            spot = np.array([distance * math.cos(angle), distance * math.sin(angle), 0.0])
            clear = all(
                np.linalg.norm(spot - other.position)
                > 0.92 * (reach + math.hypot(*other.model.size[:2]) / 2)
                for other in placed
            )
            if clear:
                placed.append(PlacedObject(model, colour, spot, rng.uniform(0, 2 * math.pi)))
                break
    return placed


def _camera(
    radius: float, large: bool, intrinsics: CameraIntrinsics, rng: np.random.Generator
) -> Vector:
    """camera_to_world (4, 4) of a camera outside the disc that looks down on it."""
    half_view = math.atan(
        min(intrinsics.width / intrinsics.fx, intrinsics.height / intrinsics.fy * 1.25) / 2
    )
    distance = (radius / math.tan(half_view) + 0.4 * radius) * rng.uniform(0.7, 1.2)
    elevation = math.radians(rng.uniform(14, 45) if large else rng.uniform(20, 62))
    azimuth = rng.uniform(0, 2 * math.pi)
    target = np.array(
        [rng.normal(0, 0.15 * radius), rng.normal(0, 0.15 * radius), rng.uniform(0.0, 0.5 * radius)]
    )
    offset = np.array(
        [
            math.cos(elevation) * math.cos(azimuth),
            math.cos(elevation) * math.sin(azimuth),
            math.sin(elevation),
        ]
    )
    position = target + distance * offset
    forward = -offset
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    roll = rng.normal(0, math.radians(1.5))
    x_axis = math.cos(roll) * right + math.sin(roll) * down
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1] = x_axis, np.cross(forward, x_axis)
    pose[:3, 2], pose[:3, 3] = forward, position
    return pose


def _sample_intrinsics(width: int, rng: np.random.Generator) -> CameraIntrinsics:
    """Horizontal field of view 45-85 degrees, 4:3 or 16:9, principal point up to 6 % off."""
    across, down = IMAGE_SIZES[rng.integers(len(IMAGE_SIZES))]
    height = width * down // across
    focal = width / 2 / math.tan(math.radians(rng.uniform(45, 85)) / 2)
    cx = (width - 1) / 2 + width * rng.uniform(-0.06, 0.06)
    cy = (height - 1) / 2 + height * rng.uniform(-0.06, 0.06)
    return CameraIntrinsics(focal, focal, cx, cy, width, height)


def _tinted(rgb: tuple[float, float, float], tone: float) -> tuple[float, float, float]:
    red, green, blue = (min(1.0, channel * tone) for channel in rgb)
    return (red, green, blue)


def _room(radius: float, large: bool, viewpoint: Vector, rng: np.random.Generator) -> list[Solid]:
    """Floor, walls that do not hide the scene, and a table top for small objects."""

    def surface(half: tuple[float, float, float], centre: tuple[float, float, float]) -> Solid:
        grey = rng.uniform(0.25, 0.85)
        red, green, blue = (float(np.clip(grey + rng.normal(0, 0.06), 0.05, 1)) for _ in range(3))
        material = MATERIALS[rng.integers(len(MATERIALS))] if rng.random() < 0.6 else None
        return Solid(
            "box",
            half,
            np.array(centre),
            np.eye(3),
            (red, green, blue),
            0,
            material,
            0.05,
        )

    drop = 0.0 if large else rng.uniform(0.5, 1.0)
    away = radius * rng.uniform(1.6, 3.0) + (0.0 if large else 0.5)
    solids = [surface((12.0, 12.0, 0.05), (0.0, 0.0, -0.05 - drop))]
    if not large:
        reach = radius * rng.uniform(1.25, 2.2)
        solids.append(surface((reach, radius * rng.uniform(1.25, 1.8), 0.02), (0.0, 0.0, -0.02)))
    for axis in (0, 1):
        for side in (-1.0, 1.0):
            if rng.random() < 0.35 or side * viewpoint[axis] > away - 0.3:
                continue
            centre, half = [0.0, 0.0, 1.2 - drop], [12.0, 12.0, 1.25]
            centre[axis], half[axis] = side * (away + 0.05), 0.05
            solids.append(surface((half[0], half[1], half[2]), (centre[0], centre[1], centre[2])))
    return solids


def _lights(rng: np.random.Generator) -> list[Light]:
    def direction() -> tuple[float, float, float]:
        return (rng.uniform(-0.7, 0.7), rng.uniform(-0.7, 0.7), -1.0)

    key = Light(direction(), rng.uniform(0.4, 0.8), rng.uniform(0.25, 0.5), True)
    fill = Light(direction(), rng.uniform(0.0, 0.3), 0.0, False)
    return [key, fill]


def _describe(
    index: int,
    placed: PlacedObject,
    solids: list[Solid],
    instance: npt.NDArray[np.uint8],
    intrinsics: CameraIntrinsics,
    world_to_camera: Vector,
) -> dict[str, Any]:
    """The scene-graph entry of one object: metres, radians, pixels of the un-padded image."""
    mask = instance == index
    visible = int(mask.sum())
    alone, truncated = silhouette_pixels(solids, intrinsics, world_to_camera)
    entry: dict[str, Any] = {
        "instance": index,
        "category": placed.model.category,
        "colour": placed.colour,
        "length_m": max(placed.model.size[:2]),
        "width_m": min(placed.model.size[:2]),
        "height_m": placed.model.size[2],
        "yaw_rad": placed.yaw,
        "box_size_m": list(placed.model.size),
        "centre_world_m": placed.centre.tolist(),
        "centre_camera_m": (
            world_to_camera[:3, :3] @ placed.centre + world_to_camera[:3, 3]
        ).tolist(),
        "visible_pixels": visible,
        "visible_fraction": min(1.0, visible / alone) if alone else 0.0,
        "truncated": truncated,
    }
    if visible:
        rows, columns = np.where(mask.any(axis=1))[0], np.where(mask.any(axis=0))[0]
        x1, x2 = int(columns[0]), int(columns[-1]) + 1
        y1, y2 = int(rows[0]), int(rows[-1]) + 1
        entry["box_xyxy"] = [x1, y1, x2, y2]
        size = (intrinsics.width, intrinsics.height)
        centre = ((x1 + x2 - 1) / 2, (y1 + y2 - 1) / 2)  # x2 and y2 are exclusive
        entry["centre_uv"] = [*fraction_from_pixel(*centre, *size)]
    return entry


def compose(rng: np.random.Generator) -> tuple[bool, float, list[PlacedObject]]:
    """The first random choices of a scene: large or small objects, the radius (metres) of the disc
    that they stand on, and the placed objects."""
    large = bool(rng.random() < 0.5)
    radius = rng.uniform(0.8, 1.7) if large else rng.uniform(0.25, 0.6)
    return large, radius, _place(_scene_models(rng, large), radius, rng)


def make_frame(renderer: Renderer, seed: int, scene: int, width: int) -> SimulatedFrame:
    """The frame of scene number `scene` of `seed`; the same arguments give the same bytes.

    Every object has `gaps_m`: by instance, as a string, metres between surfaces; 0 = they touch.
    """
    rng = np.random.default_rng([seed, scene])
    large, radius, placed = compose(rng)
    intrinsics = _sample_intrinsics(width, rng)
    pose = _camera(radius, large, intrinsics, rng)
    world_to_camera = np.asarray(np.linalg.inv(pose), np.float64)
    own: list[list[Solid]] = []
    for index, item in enumerate(placed, start=1):
        jitter = rng.uniform(0.85, 1.1)
        own.append(
            [
                Solid(
                    part.kind,
                    part.half,
                    item.rotation @ np.array(part.centre) + item.position,
                    item.rotation @ part.rotation,
                    _tinted(COLOURS[item.colour], part.tone * jitter),
                    index,
                )
                for part in item.model.parts
            ]
        )
    solids = _room(radius, large, pose[:3, 3], rng) + [solid for group in own for solid in group]
    picture = renderer.render(solids, _lights(rng), intrinsics, pose)
    depth_mm = read_depth(picture.depth, sample_sensor(rng), rng)
    grain = rng.normal(0, rng.uniform(0.5, 4.0), picture.rgb.shape)
    rgb = np.clip(picture.rgb + grain, 0, 255).astype(np.uint8)
    objects = [
        _describe(index, item, own[index - 1], picture.instance, intrinsics, world_to_camera)
        for index, item in enumerate(placed, start=1)
    ]
    gaps = signed_gaps([solid for group in own for solid in group])
    for entry in objects:
        entry["gaps_m"] = gaps_of(entry["instance"], gaps)
    return SimulatedFrame(scene, rgb, depth_mm, picture.instance, intrinsics, pose, objects)
