"""A view of a scene -> its scene graph: visible objects, their visible part, place and size.

Casts rays at the whole mesh once, and at each visible object alone: on the object's own vertices
and faces, through the pixels of its projected box. Knows geometry. Does not know data sets, which
objects are asked about, or words.

An entry, the same for every source: instance, label, length_m >= width_m, height_m, yaw_rad,
centre_world_m, centre_camera_m, visible_pixels (of the full-size image), visible_fraction (of the
pixels that it would cover without occlusion), truncated (the image border cuts it), and, if it is
visible, box_xyxy and centre_uv of its visible pixels, and centre_on_object (`shows`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import trimesh
from scipy import ndimage
from trimesh.ray.ray_pyembree import RayMeshIntersector

from sdvlm_core.frame import CameraIntrinsics, fraction_from_pixel
from training.build.labels_unlabelled import surface_depth, unlabelled
from training.build.scene import Entry, Instance, Mesh, Scene, Vector, View

#: In wider images, rays are cast through every second, third, ... pixel.
_MAX_RAY_COLUMNS = 648
_NEAR_M = 0.05
_FLOOR_QUANTILE = 0.005
_BORDER_PX = 1.0
#: Half of the last decimal of a written coordinate.
_HALF_STEP = 0.005


_Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Part:
    """One object of a mesh: its own vertices (V, 3), and what casts rays at it alone.

    caster: None = it has no surface.
    """

    vertices: Vector
    caster: RayMeshIntersector | None


class Rasterizer:
    """Casts rays at the mesh of one scene; built once per scene.

    An object's own acceleration structure is built when the object is first seen, and kept. All of
    them together have the size of that of the whole mesh, because a face has one owner.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._whole = _intersector(mesh.vertices, mesh.faces)
        #: Height of the floor, metres: below it lie only outliers of the scan.
        self.floor_z = float(np.quantile(mesh.vertices[:, 2], _FLOOR_QUANTILE))
        #: Faces in the order of their owners, so that an object's faces are one slice.
        self._by_owner = np.argsort(mesh.owner, kind="stable")
        self._owners = mesh.owner[self._by_owner]
        self._parts: dict[int, _Part] = {}

    def cast(
        self, k: CameraIntrinsics, camera_to_world: Vector, stride: int
    ) -> tuple[npt.NDArray[np.int64], Vector]:
        """Instance numbers (0 = none) and depth of every stride-th pixel, each (rows, columns).

        Depth is in metres along the optical axis; NaN = no surface.
        """
        columns, rows = _grid(k, stride)
        rays = _rays(k, *np.meshgrid(columns, rows))
        face = self._first(self._whole, rays, camera_to_world)
        hit = face >= 0
        owner = np.where(hit, self._mesh.owner[face], 0)
        depth = np.full(len(face), np.nan)
        corners = self._mesh.vertices[self._mesh.faces[face[hit]]]
        directions = rays[hit] @ camera_to_world[:3, :3].T
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        reach = ((corners[:, 0] - camera_to_world[:3, 3]) * normal).sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            # Rays have Z = 1, so that the ray parameter is the depth.
            depth[hit] = reach / (directions * normal).sum(1)
        shape = (len(rows), len(columns))
        return owner.reshape(shape), depth.reshape(shape)

    def alone(
        self, number: int, k: CameraIntrinsics, camera_to_world: Vector, stride: int
    ) -> tuple[int, bool]:
        """Pixels that an object covers without occlusion; whether the image border cuts it."""
        part = self._part(number)
        camera = (part.vertices - camera_to_world[:3, 3]) @ camera_to_world[:3, :3]
        if part.caster is None or (camera[:, 2] < _NEAR_M).any():
            return 0, True
        pixels = k.project(camera)
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        cut = (
            min(low) < _BORDER_PX
            or high[0] > k.width - 1 - _BORDER_PX
            or high[1] > k.height - 1 - _BORDER_PX
        )
        # The same pixels as in `cast`, within the object's rectangle.
        columns, rows = _grid(k, stride)
        columns = columns[(columns >= low[0] - 1) & (columns <= high[0] + 1)]
        rows = rows[(rows >= low[1] - 1) & (rows <= high[1] + 1)]
        rays = _rays(k, *np.meshgrid(columns, rows))
        covered = self._first(part.caster, rays, camera_to_world) >= 0
        return int(covered.sum()) * stride**2, bool(cut)

    def _part(self, number: int) -> _Part:
        if number not in self._parts:
            first, last = np.searchsorted(self._owners, [number, number + 1])
            faces = self._mesh.faces[self._by_owner[first:last]]
            used, own = np.unique(faces, return_inverse=True)
            vertices = self._mesh.vertices[used]
            caster = _intersector(vertices, own.reshape(-1, 3)) if len(faces) else None
            self._parts[number] = _Part(vertices, caster)
        return self._parts[number]

    @staticmethod
    def _first(
        intersector: RayMeshIntersector, rays: Vector, camera_to_world: Vector
    ) -> npt.NDArray[np.int64]:
        """Index of the first triangle of each ray (N, 3) in camera axes; -1 = none."""
        if len(rays) == 0:
            return np.zeros(0, np.int64)
        directions = rays @ camera_to_world[:3, :3].T
        origins = np.broadcast_to(camera_to_world[:3, 3], directions.shape)
        return intersector.intersects_first(origins, directions)


def _intersector(vertices: Vector, faces: npt.NDArray[np.int64]) -> RayMeshIntersector:
    return RayMeshIntersector(trimesh.Trimesh(vertices, faces, process=False, validate=False))


def _grid(k: CameraIntrinsics, stride: int) -> tuple[_Integers, _Integers]:
    """Columns and rows of every stride-th pixel."""
    columns = np.arange(stride // 2, k.width, stride, dtype=np.int64)
    return columns, np.arange(stride // 2, k.height, stride, dtype=np.int64)


def _rays(k: CameraIntrinsics, u: _Integers, v: _Integers) -> Vector:
    """Directions (N, 3) with Z = 1 through pixels, in camera axes."""
    return k.back_project(u.ravel(), v.ravel(), 1.0)


def describe(scene: Scene, view: View, rasterizer: Rasterizer | None) -> list[Entry]:
    """The entries of all visible objects, and one of all surfaces without an annotation.

    Args:
        rasterizer: rasterizer of the scene's mesh; None only if the view has its own objects.
    """
    if view.objects is not None:
        return view.objects
    assert rasterizer is not None
    k, pose = view.intrinsics, view.camera_to_world
    stride = -(-k.width // _MAX_RAY_COLUMNS)
    owner, rendered = rasterizer.cast(k, pose, stride)
    depth = surface_depth(rendered, view.depth_mm, stride)
    if view.mask is None:
        bare = unlabelled(owner, depth, k, stride, pose, rasterizer.floor_z)
    else:
        owner = view.mask.astype(np.int64)
        sampled = owner[stride // 2 :: stride, stride // 2 :: stride]
        bare = unlabelled(sampled, depth, k, stride, pose, rasterizer.floor_z)
        stride = 1
    pixels = np.bincount(owner.ravel())
    places = ndimage.find_objects(owner)
    entries = [
        _entry(instance, int(pixels[instance.number]), place, owner, stride, view, rasterizer)
        for instance in scene.instances
        if instance.number <= len(places) and (place := places[instance.number - 1]) is not None
    ]
    return entries if bare is None else [*entries, bare]


def _entry(
    instance: Instance,
    pixels: int,
    place: tuple[slice, slice],
    owner: _Integers,
    stride: int,
    view: View,
    rasterizer: Rasterizer,
) -> Entry:
    """The entry of an object with `pixels` visible grid pixels within `place` (rows, columns)."""
    k, pose, box = view.intrinsics, view.camera_to_world, instance.box
    visible = pixels * stride**2
    alone, truncated = rasterizer.alone(instance.number, k, pose, stride)
    rows, columns = place
    middle = (columns.start + columns.stop - 1) // 2, (rows.start + rows.stop - 1) // 2
    x1, x2 = columns.start * stride, min(k.width, columns.stop * stride)
    y1, y2 = rows.start * stride, min(k.height, rows.stop * stride)
    return {
        "instance": instance.number,
        "label": instance.label,
        "length_m": box.length,
        "width_m": box.width,
        "height_m": box.height,
        "yaw_rad": box.yaw,
        "centre_world_m": box.centre.tolist(),
        "centre_camera_m": ((box.centre - pose[:3, 3]) @ pose[:3, :3]).tolist(),
        "visible_pixels": visible,
        "visible_fraction": min(1.0, visible / alone) if alone else 0.0,
        "truncated": truncated,
        "box_xyxy": [x1, y1, x2, y2],
        # x2 and y2 are exclusive.
        "centre_uv": [
            *fraction_from_pixel((x1 + x2 - 1) / 2, (y1 + y2 - 1) / 2, k.width, k.height)
        ],
        "centre_on_object": shows(owner, instance.number, *middle),
    }


def shows(owner: npt.NDArray[Any], number: int, column: int, row: int) -> bool:
    """Whether a place of an image shows an object, and not what is before or beside it.

    Coordinates are written with two decimals, so all pixels that are as near count.

    Args:
        owner: (rows, columns) instance number of each pixel.
    """
    down, across = (math.ceil(_HALF_STEP * size) for size in owner.shape)
    around = owner[
        max(0, row - down) : row + down + 1, max(0, column - across) : column + across + 1
    ]
    return bool((around == number).all())


def depth_of(view: View, rasterizer: Rasterizer | None) -> npt.NDArray[np.uint16] | None:
    """Depth (H, W) uint16 millimetres, 0 = none: from the sensor, else the mesh, else None."""
    if view.depth_mm is not None or rasterizer is None:
        return view.depth_mm
    _, depth = rasterizer.cast(view.intrinsics, view.camera_to_world, 1)
    millimetres = np.nan_to_num(np.round(depth * 1000), nan=0.0, posinf=0.0, neginf=0.0)
    return np.where((millimetres > 0) & (millimetres < 65536), millimetres, 0).astype(np.uint16)
