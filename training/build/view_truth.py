"""Whether the images of a view agree with the mesh of its scene, seen from the pose of the view.

A number in a question comes from the mesh, its picture from the camera: a row is true only if both
show the same. Sensor depth is compared with depth rendered from the mesh. A wrong pose, depth that
is displaced against colour and a wrong unit of depth are found; sensor noise, missing readings,
holes of the mesh and single objects that were moved between scan and image are tolerated.

A view without sensor depth is compared by colour (`colour_truth`), which finds less. Does not know
files.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from sdvlm_core.frame import CameraIntrinsics
from training.build.colour_truth import MeshColours
from training.build.reasons import Reason
from training.build.scene import Mesh, SceneError, Vector, View

#: Images are compared at about this many columns.
_COLUMNS = 96
#: Least share of rays that hit the mesh, and of depth readings with a surface of the mesh.
_MIN_HITS, _MIN_COVERED = 0.2, 0.4
#: Least share of pixels with a depth reading.
_MIN_READINGS = 0.03
#: A reading agrees within this part in metres plus this part of the depth.
_TOLERANCE = (0.05, 0.03)
_MIN_AGREEING = 0.8
#: The same for the median of all differences: noise cancels out, a wrong unit or offset does not.
_BIAS = (0.015, 0.02)
#: Depth is displaced if it fits better when moved by at least as many of the compared columns ...
_MIN_SHIFT, _MAX_SHIFT = 2, 8
#: ... where "better" is a cost of at most this part, and less by this much at least.
_BETTER, _BETTER_BY = 0.6, 0.04
#: Least share of the masked pixels of an object whose surface is that object, mean of all objects.
_MIN_SAME_OBJECT = 0.5


class Caster(Protocol):
    """What renders the mesh of a scene (`graph.Rasterizer`)."""

    def cast(
        self, k: CameraIntrinsics, camera_to_world: Vector, stride: int
    ) -> tuple[npt.NDArray[np.int64], Vector]:
        """(instance numbers, depth in metres, NaN = no surface) of every stride-th pixel."""


class ViewCheck:
    """Compares the views of one scene with its mesh."""

    def __init__(self, mesh: Mesh, caster: Caster) -> None:
        self._caster = caster
        self._colours = MeshColours(mesh)

    def __call__(self, view: View) -> None:
        """Compare a view with the mesh.

        Raises:
            SceneError: `off the mesh`, `no depth reading`, or that depth, colour or mask disagrees
                with the mesh, with the values.
        """
        k, pose = view.intrinsics, view.camera_to_world
        stride = max(1, k.width // _COLUMNS)
        owner, rendered = self._caster.cast(k, pose, stride)
        hits = float(np.isfinite(rendered).mean())
        if hits < _MIN_HITS:
            raise SceneError(
                Reason.OFF_THE_MESH,
                f"{view.name}: {hits:.0%} of the rays hit the mesh, at least {_MIN_HITS:.0%} must",
            )
        samples = slice(stride // 2, None, stride)
        if view.depth_mm is None:
            self._colours.check(view.rgb, rendered, k, pose, stride, view.name)
        else:
            check_depth(view.depth_mm[samples, samples] / 1000.0, rendered, view.name)
        if view.mask is not None:
            _check_mask(view.mask[samples, samples], owner, view.name)


def check_depth(measured: Vector, rendered: Vector, name: str) -> None:
    """Compare sensor depth (rows, columns) with rendered depth, both metres.

    Args:
        measured: 0 = no reading.
        rendered: NaN = no surface.
        name: of the view, for the error.

    Raises:
        SceneError: they are not of the same camera at the same place.
    """
    readings = measured > 0
    if readings.mean() < _MIN_READINGS:
        raise SceneError(
            Reason.NO_DEPTH_READING, f"{name}: {readings.mean():.1%} of the pixels have a reading"
        )
    both = readings & np.isfinite(rendered)
    covered = both.sum() / readings.sum()
    if covered < _MIN_COVERED:
        raise SceneError(
            Reason.OFF_THE_MESH,
            f"{name}: {covered:.0%} of the depth readings have a surface of the mesh, at least "
            f"{_MIN_COVERED:.0%} must",
        )
    difference, surface = (measured - rendered)[both], rendered[both]
    agreeing = float((np.abs(difference) <= _TOLERANCE[0] + _TOLERANCE[1] * surface).mean())
    if agreeing < _MIN_AGREEING:
        raise SceneError(
            Reason.DEPTH_DISAGREES,
            f"{name}: {agreeing:.0%} of the depth readings agree with the mesh, at least "
            f"{_MIN_AGREEING:.0%} must",
        )
    bias = float(np.median(difference / (_BIAS[0] + _BIAS[1] * surface)))
    if abs(bias) > 1:
        raise SceneError(
            Reason.DEPTH_DISAGREES,
            f"{name}: depth differs by {np.median(difference):+.3f} m at a median depth of "
            f"{np.median(surface):.2f} m",
        )
    shift = _displacement(measured * float(np.median(surface / measured[both])), rendered)
    if shift is not None:
        raise SceneError(
            Reason.DEPTH_DISAGREES,
            f"{name}: depth fits better when moved by {shift} of {rendered.shape[1]} columns",
        )


def _displacement(measured: Vector, rendered: Vector) -> tuple[int, int] | None:
    """(columns, rows) by which depth must be moved to fit the mesh; None = it is in place."""
    margin = _MAX_SHIFT
    rows, columns = rendered.shape
    if min(rows, columns) < 4 * margin:
        return None
    middle = rendered[margin : rows - margin, margin : columns - margin]

    def cost(x: int, y: int) -> float:
        moved = measured[margin - y : rows - margin - y, margin - x : columns - margin - x]
        both = (moved > 0) & np.isfinite(middle)
        if both.sum() < middle.size * _MIN_READINGS:
            return 1.0
        tolerance = _TOLERANCE[0] + _TOLERANCE[1] * middle[both]
        return float(np.minimum(np.abs(moved[both] - middle[both]) / tolerance, 1).mean())

    shifts = range(-_MAX_SHIFT, _MAX_SHIFT + 1)
    costs = {(x, y): cost(x, y) for x in shifts for y in shifts}
    best = min(costs, key=lambda shift: costs[shift])
    here = costs[0, 0]
    if max(map(abs, best)) < _MIN_SHIFT:
        return None
    better = costs[best] <= _BETTER * here and costs[best] <= here - _BETTER_BY
    return best if better else None


def _check_mask(mask: npt.NDArray[np.int32], owner: npt.NDArray[np.int64], name: str) -> None:
    """Compare the objects of a mask, each with the same weight: walls must not decide alone."""
    both = (mask > 0) & (owner > 0)
    if not both.any():
        return
    same = float(
        np.mean([(owner[both] == n)[mask[both] == n].mean() for n in np.unique(mask[both])])
    )
    if same < _MIN_SAME_OBJECT:
        raise SceneError(
            Reason.MASK_DISAGREES,
            f"{name}: {same:.0%} of the pixels of a masked object show that object, at least "
            f"{_MIN_SAME_OBJECT:.0%} must",
        )
