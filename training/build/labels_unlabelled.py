"""The surfaces of a view that no annotation names: how large a thing may they be, or hide?

Knows pixels and geometry. Does not know categories (`labels_absence`).
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from sdvlm_core.frame import CameraIntrinsics
from training.build.labels import UNLABELLED
from training.build.scene import Entry, Vector

#: A surface that rises less than this above the floor is the floor, or a flat thing on it.
FLOOR_M = 0.05


def unlabelled(
    owner: npt.NDArray[np.int64],
    depth_m: Vector,
    intrinsics: CameraIntrinsics,
    stride: int,
    camera_to_world: Vector,
    floor_z: float,
) -> Entry | None:
    """The entry of everything in view without an annotation; None = all of it is annotated.

    A surface is measured by the largest disc that lies within it in the image, at its depth: seams
    between annotations are long, but slim.

    Args:
        owner: (rows, columns) instance number of every `stride`-th pixel, 0 = none.
        depth_m: (rows, columns) metres along the optical axis, of the mesh, or where it has a hole
            of the sensor; NaN = neither sees a surface, so that nothing is said about the pixel.
        intrinsics: of the full-size image.
        camera_to_world: (4, 4), z up.
        floor_z: height of the floor in the world, metres.

    Returns:
        {instance: 0, label: "", visible_pixels, disc_m, floor_disc_m}: pixels of the full-size
        image; diameters of the largest discs above the floor and within `FLOOR_M` of it, metres.

    Raises:
        ValueError: owner and depth differ in shape.
    """
    if owner.shape != depth_m.shape:
        raise ValueError(f"owner is {owner.shape}, depth {depth_m.shape}: expected the same shape")
    bare = (owner == 0) & np.isfinite(depth_m) & (depth_m > 0)
    if not bare.any():
        return None
    rows, columns = np.indices(owner.shape)
    first = stride // 2
    depth = np.where(bare, depth_m, 1.0)
    points = intrinsics.back_project(
        (columns * stride + first).ravel(), (rows * stride + first).ravel(), depth.ravel()
    )
    height = (points @ camera_to_world[2, :3] + camera_to_world[2, 3]).reshape(owner.shape)
    floor = height < floor_z + FLOOR_M
    metres_per_cell = depth * stride / min(intrinsics.fx, intrinsics.fy)
    return {
        "instance": 0,
        "label": "",
        "unnamed": UNLABELLED,
        "visible_pixels": int(bare.sum()) * stride**2,
        "disc_m": _disc_m(bare & ~floor, metres_per_cell),
        "floor_disc_m": _disc_m(bare & floor, metres_per_cell),
    }


def surface_depth(
    rendered_m: Vector, sensor_mm: npt.NDArray[np.uint16] | None, stride: int
) -> Vector:
    """The depth of every `stride`-th pixel: of the mesh, and where it has a hole of the sensor.

    Args:
        rendered_m: (rows, columns) metres, NaN = no surface, as `graph.Rasterizer.cast` returns it.
        sensor_mm: (height, width) millimetres, 0 = no reading; None = there is no sensor.

    Raises:
        ValueError: the two do not show the same image.
    """
    if sensor_mm is None:
        return rendered_m
    sensed = sensor_mm[stride // 2 :: stride, stride // 2 :: stride] / 1000.0
    if sensed.shape != rendered_m.shape:
        raise ValueError(
            f"every {stride}th pixel of a {sensor_mm.shape} depth image is {sensed.shape}, "
            f"expected {rendered_m.shape}"
        )
    return np.where(np.isfinite(rendered_m), rendered_m, np.where(sensed > 0, sensed, np.nan))


def _disc_m(mask: npt.NDArray[np.bool_], metres_per_cell: Vector) -> float:
    """Diameter of the largest disc within a mask, metres; the image border does not bound it."""
    if not mask.any():
        return 0.0
    if mask.all():
        return float(metres_per_cell.max() * 2 * max(mask.shape))
    radius = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float((2 * radius * metres_per_cell)[mask].max())
