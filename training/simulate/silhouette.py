"""The silhouette that an object has alone: its area, and whether the image border cuts it.

Knows convex solids and a pinhole camera. Does not know what hides an object.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from sdvlm_core.frame import CameraIntrinsics
from training.simulate.meshes import package_meshes
from training.simulate.renderer import Solid

Vector = npt.NDArray[np.float64]


def surface_points(kind: str, half: tuple[float, float, float], steps: int = 24) -> Vector:
    """Surface points (N, 3) whose convex hull is the primitive, in its own frame.

    steps: points around a circle.
    """
    a, b, c = half
    angle = np.linspace(0, 2 * math.pi, steps, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    if kind == "box":
        signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
        return signs * np.array([a, b, c])
    if kind == "cylinder":
        ring = np.concatenate([circle * a, np.zeros((steps, 1))], axis=1)
        return np.concatenate([ring + np.array([0, 0, b]), ring - np.array([0, 0, b])])
    polar = np.linspace(0, math.pi, steps // 2)
    sphere = np.concatenate(
        [
            np.concatenate([circle * math.sin(p), np.full((steps, 1), math.cos(p))], axis=1)
            for p in polar
        ]
    )
    if kind == "capsule":
        return np.concatenate([sphere * a + np.array([0, 0, b]), sphere * a - np.array([0, 0, b])])
    return sphere * (np.array([a, a, a]) if kind == "sphere" else np.array([a, b, c]))


def silhouette_pixels(
    solids: list[Solid], intrinsics: CameraIntrinsics, world_to_camera: Vector
) -> tuple[float, bool]:
    """Pixels that an object covers alone on an unbounded image; whether the image border cuts it.

    Every primitive is convex, so that its silhouette is the hull of its projected surface points.
    """
    k, margin = intrinsics, 1.0
    outlines = []
    for solid in solids:
        own = (
            package_meshes().meshes[solid.mesh].vertices
            if solid.mesh
            else surface_points(solid.kind, solid.half)
        )
        points = own @ solid.rotation.T + solid.position
        camera = points @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
        if (camera[:, 2] < 0.05).any():
            return 0.0, True
        outlines.append(k.project(camera).astype(np.float32))
    everything = np.concatenate(outlines)
    low, high = everything.min(axis=0), everything.max(axis=0)
    cut = bool((low < margin).any() or (high > np.array([k.width, k.height]) - 1 - margin).any())
    # Drawn enlarged: OpenCV fills the border pixels too, which would enlarge a small silhouette.
    scale = float(min(8.0, 600.0 / (high - low).max()))
    canvas = np.zeros(np.ceil((high - low) * scale).astype(int)[::-1] + 3, np.uint8)
    for outline in outlines:
        hull = cv2.convexHull(np.round((outline - low) * scale).astype(np.int32))
        cv2.fillConvexPoly(canvas, hull, 1)
    return float(canvas.sum()) / scale**2, cut
