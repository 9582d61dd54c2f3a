"""Measurements as plain JSON values: the document of `sdvlm measure --json`.

Does not measure, and does not know who prints or sends the document.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sdvlm_core.answer import without_nan
from sdvlm_core.cautions import Caution
from sdvlm_core.geometry.measured import Measured
from sdvlm_core.geometry.pairs import Pair
from sdvlm_core.geometry.support_plane import Plane


def measurement_document(
    found: Sequence[Measured], pairs: Sequence[Pair], cautions: Sequence[Caution]
) -> dict[str, Any]:
    """The JSON document of `sdvlm measure`: metres, null = unknown, warnings as codes.

    `position_m` is the centre of the box. `orientation_xyzw` rotates the axes of the colour optical
    frame into those of the box: x along the length, y along the width, z up. `support_plane` is the
    surface that carries the object: the points p with normal . p + offset_m = 0.
    `distance_warnings` are the `warnings` that concern `camera_distance_m`, or `distance_m`.
    """
    document: dict[str, Any] = {
        "cautions": [code.value for code in cautions],
        "regions": [
            {
                "label": one.label,
                "position_m": list(one.position_m),
                "orientation_xyzw": list(one.orientation),
                "camera_distance_m": one.camera_distance_m,
                "length_m": one.length_m,
                "width_m": one.width_m,
                "height_m": one.height_m,
                "top_above_support_m": one.top_above_support_m,
                "support_plane": _plane_fields(one.support_plane),
                "std_dev": one.std_dev,
                "interval_90": {key: list(ends) for key, ends in one.interval_90.items()},
                "valid_fraction": one.valid_fraction,
                "warnings": [code.value for code in one.warnings],
                "distance_warnings": [code.value for code in one.distance_warnings],
            }
            for one in found
        ],
        "pairs": [
            {
                "a": pair.a,
                "b": pair.b,
                "distance_m": pair.distance_m,
                "gap_m": pair.gap_m,
                "distance_std_dev_m": pair.distance_std_dev_m,
                "gap_std_dev_m": pair.gap_std_dev_m,
                "distance_interval_90_m": list(pair.distance_interval_90_m),
                "gap_interval_90_m": list(pair.gap_interval_90_m),
                "warnings": [code.value for code in pair.warnings],
                "distance_warnings": [code.value for code in pair.distance_warnings],
            }
            for pair in pairs
        ],
    }
    return without_nan(document)


def _plane_fields(plane: Plane | None) -> dict[str, Any] | None:
    """A plane as JSON: the unit normal, up, and the camera's height above the plane."""
    return None if plane is None else {"normal": list(plane.normal), "offset_m": plane.offset}
