"""Frames of geometry scenes: rendered, read by a real camera's errors, with exact truth.

Composes `geometry_scenes`, `renderer` and `stereo_sensor`, and derives the scene graph from the
solids. Does not know files or shards.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from sdvlm_core.frame import CameraIntrinsics, fraction_from_pixel
from training.simulate.frames import SimulatedFrame
from training.simulate.gaps import gaps_of, signed_gaps
from training.simulate.geometry_scenes import GeometryScene, View, compose_geometry
from training.simulate.meshes import mesh_elements, package_meshes
from training.simulate.placement import Body
from training.simulate.renderer import Light, Renderer, Rendering, Solid
from training.simulate.silhouette import silhouette_pixels
from training.simulate.stereo_sensor import draw_camera, read_stereo_depth
from training.simulate.textures import texture_assets
from training.simulate.truth import upright_box

Vector = npt.NDArray[np.float64]

#: Distance of camera and target, metres.
_NEAREST_M, _FARTHEST_M = 0.35, 3.0
#: A thing under this visible fraction is `occluded`; gaps under this many metres are contact.
_OCCLUDED_FRACTION, _CONTACT_M = 0.85, 0.001
#: Families of `stereo_sensor` by the noise preset (`--sensor`) that a user would choose.
PRESETS = {"kinect": "kinect", "realsense": "realsense", "time_of_flight": "azure_kinect"}


@cache
def geometry_renderer(width: int) -> Renderer:
    """The renderer of this process for geometry frames of a width."""
    assets = texture_assets()
    meshes = mesh_elements(sorted(package_meshes().meshes), with_faces=True)
    return Renderer(width, width * 3 // 4, replace(assets, mjcf=assets.mjcf + meshes, slices=64))


def _intrinsics(width: int, rng: np.random.Generator) -> CameraIntrinsics:
    """Horizontal field of view 50-72 degrees as of depth cameras' colour images; 4:3 or 16:9."""
    height = width * 3 // 4 if rng.random() < 0.75 else width * 9 // 16
    focal = width / 2 / math.tan(math.radians(rng.uniform(50, 72)) / 2)
    cx = (width - 1) / 2 + width * rng.uniform(-0.02, 0.02)
    cy = (height - 1) / 2 + height * rng.uniform(-0.02, 0.02)
    return CameraIntrinsics(focal, focal, cx, cy, width, height)


def _turn(axes: Vector, first: int, second: int, angle: float) -> Vector:
    """Camera axes (3, 3, columns) with two of them turned in their plane, towards `second`."""
    c, s = math.cos(angle), math.sin(angle)
    result = axes.copy()
    result[:, first] = c * axes[:, first] + s * axes[:, second]
    result[:, second] = c * axes[:, second] - s * axes[:, first]
    return result


def camera_pose(
    scene: GeometryScene, intrinsics: CameraIntrinsics, near: float, rng: np.random.Generator
) -> Vector:
    """camera_to_world (4, 4) for the view of a scene; the scene is beyond `near` metres."""
    view, k = scene.view, intrinsics
    aim = view.target if view.cut is None else upright_box(scene.bodies[view.cut].solids()).centre
    half_view = math.atan(min(k.width / k.fx, k.height / k.fy) / 2)
    distance = view.room / math.sin(half_view) * view.closeness
    distance = min(max(distance, _NEAREST_M, 0.9 * view.room + near), _FARTHEST_M)
    level = math.cos(view.elevation)
    forward = np.array(
        [math.sin(view.azimuth) * level, math.cos(view.azimuth) * level, -math.sin(view.elevation)]
    )
    right = np.array([math.cos(view.azimuth), -math.sin(view.azimuth), 0.0])
    axes = np.stack([right, np.cross(forward, right), forward], axis=1)
    position = aim - distance * forward
    axes = _turn(axes, 0, 1, view.roll)
    if view.cut is not None:
        axes = _cut(axes, scene.bodies[view.cut], distance, k, rng)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = axes, position
    return pose


def _cut(
    axes: Vector, body: Body, distance: float, k: CameraIntrinsics, rng: np.random.Generator
) -> Vector:
    """The camera turned so that the body in its middle moves to the border of the image."""
    box = upright_box(body.solids())
    size = math.hypot(box.length, box.height) / 2 * k.fx / distance
    inside = rng.uniform(-0.3, 0.6) * size  # of its middle, in pixels
    # Turned towards +x, the camera sees the body move to the left.
    side = float(rng.choice([-1, 1]))
    if rng.random() < 0.7:
        return _turn(axes, 2, 0, side * math.atan((k.width / 2 - inside) / k.fx))
    return _turn(axes, 2, 1, side * math.atan((k.height / 2 - inside) / k.fy))


def _lights(rng: np.random.Generator) -> list[Light]:
    def direction() -> tuple[float, float, float]:
        return (rng.uniform(-0.9, 0.9), rng.uniform(-0.5, 0.9), -1.0)

    # The renderer leaves out the ambient part of a light that casts shadows.
    key = Light(direction(), rng.uniform(0.25, 0.7), 0.0, bool(rng.random() < 0.85))
    fill = Light(direction(), rng.uniform(0.0, 0.3), rng.uniform(0.2, 0.45), False)
    return [key, fill]


def _colour(picture: Rendering, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """The colour image with the lens' blur, exposure, white balance and noise."""
    blurred = cv2.GaussianBlur(picture.rgb, (0, 0), rng.uniform(0.5, 0.9)).astype(np.float32)
    exposure = rng.uniform(90, 130) / max(float(np.mean(blurred)), 25.0)
    gain = min(exposure, 2.5) * rng.uniform(0.93, 1.07, 3).astype(np.float32)
    grain = rng.normal(0, rng.uniform(1.0, 4.0), picture.rgb.shape)
    return np.clip(blurred * gain + grain, 0, 255).astype(np.uint8)


def _stands_on(
    instance: int, scene: GeometryScene, feet: list[float], gaps: dict[tuple[int, int], float]
) -> list[int]:
    """Instances that carry a thing; empty = the plane does."""
    foot = feet[instance - 1]
    if foot - scene.bodies[instance - 1].plane_height < _CONTACT_M:
        return []
    return [
        other
        for other in range(1, len(feet) + 1)
        if feet[other - 1] < foot - _CONTACT_M
        and gaps.get((min(instance, other), max(instance, other)), math.inf) < _CONTACT_M
    ]


def _situations(body: Body, view: View, entry: dict[str, Any]) -> list[str]:
    names = [name for name in body.situation if name != "plain"]
    if entry["truncated"]:
        names.append("border_cut")
    elif entry["visible_fraction"] < _OCCLUDED_FRACTION:
        names.append("occluded")
    if abs((view.roll + math.pi) % (2 * math.pi) - math.pi) > math.radians(15):
        names.append("camera_turned")
    return list(dict.fromkeys(names)) or ["plain"]


def _describe(
    instance: int,
    scene: GeometryScene,
    solids: list[Solid],
    ids: npt.NDArray[np.uint8],
    k: CameraIntrinsics,
    world_to_camera: Vector,
) -> dict[str, Any]:
    """The scene-graph entry of one thing: metres, radians, pixels."""
    body, box, mask = scene.bodies[instance - 1], upright_box(solids), ids == instance
    visible = int(mask.sum())
    alone, truncated = silhouette_pixels(solids, k, world_to_camera)
    entry: dict[str, Any] = {
        "instance": instance,
        "category": body.shape.category,
        "colour": body.finish.colour,
        "length_m": box.length,
        "width_m": box.width,
        "height_m": box.height,
        "yaw_rad": box.yaw,
        "box_size_m": [box.length, box.width, box.height],
        "centre_world_m": box.centre.tolist(),
        "centre_camera_m": (world_to_camera[:3, :3] @ box.centre + world_to_camera[:3, 3]).tolist(),
        "foot_above_plane_m": box.foot - body.plane_height,
        "top_above_support_m": box.top - body.plane_height,
        "plane": body.plane,
        "plane_height_m": body.plane_height,
        "visible_pixels": visible,
        "visible_fraction": min(1.0, visible / alone) if alone else 0.0,
        "truncated": truncated,
    }
    entry["situation"] = _situations(body, scene.view, entry)
    if visible:
        rows, columns = np.where(mask.any(axis=1))[0], np.where(mask.any(axis=0))[0]
        x1, x2 = int(columns[0]), int(columns[-1]) + 1
        y1, y2 = int(rows[0]), int(rows[-1]) + 1
        entry["box_xyxy"] = [x1, y1, x2, y2]
        middle = ((x1 + x2 - 1) / 2, (y1 + y2 - 1) / 2)  # x2 and y2 are exclusive
        entry["centre_uv"] = [*fraction_from_pixel(*middle, k.width, k.height)]
    return entry


def make_geometry_frame(renderer: Renderer, seed: int, scene: int, width: int) -> SimulatedFrame:
    """The frame of scene number `scene` of `seed`; the same arguments give the same bytes.

    Its objects have, beside the fields of a room's: `situation` (list of str), `plane` ("table",
    "floor" or "shelf") with `plane_height_m`, `foot_above_plane_m`, `top_above_support_m` (over
    that plane), `stands_on` (instances; empty = the plane) and `gaps_m` (by instance, as a string:
    metres between surfaces, 0 = they touch) and `sensor`, the noise preset of the camera.
    """
    composed = compose_geometry(seed, scene)
    rng = np.random.default_rng([seed, scene, 3])
    intrinsics = _intrinsics(width, rng)
    camera = draw_camera(rng)
    pose = camera_pose(composed, intrinsics, camera.near, rng)
    world_to_camera = np.asarray(np.linalg.inv(pose), np.float64)
    own = [body.solids(index) for index, body in enumerate(composed.bodies, start=1)]
    things = [solid for group in own for solid in group]
    picture = renderer.render([*composed.room, *things], _lights(rng), intrinsics, pose)
    rgb = _colour(picture, rng)
    absorbing = np.array([0.0, *(body.finish.absorbs for body in composed.bodies)], np.float32)
    depth_mm = read_stereo_depth(
        picture.depth, rgb, absorbing[picture.instance], intrinsics.fx, camera, rng
    )
    objects = [
        _describe(index, composed, group, picture.instance, intrinsics, world_to_camera)
        for index, group in enumerate(own, start=1)
    ]
    gaps = signed_gaps(things)
    feet = [entry["foot_above_plane_m"] + entry["plane_height_m"] for entry in objects]
    for entry in objects:
        mine = entry["instance"]
        entry["stands_on"] = _stands_on(mine, composed, feet, gaps)
        entry["gaps_m"] = gaps_of(mine, gaps)
        entry["sensor"] = PRESETS[camera.family]
    return SimulatedFrame(scene, rgb, depth_mm, picture.instance, intrinsics, pose, objects)
