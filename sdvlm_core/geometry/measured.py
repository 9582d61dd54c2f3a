"""Measured: the result of measuring one region.

Does not know how anything is measured, or pairs of regions (`pairs`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sdvlm_core.cautions import OF_SIZES, Caution
from sdvlm_core.frame import Region
from sdvlm_core.geometry.object_pixels import ObjectPixels
from sdvlm_core.geometry.support_plane import Plane
from sdvlm_core.geometry.uncertainty import (
    STD_DEV_KEYS,
    UNKNOWN,
    ErrorSources,
    Situation,
    Spread,
    doubts,
)
from sdvlm_core.geometry.upright_box import UprightBox


@dataclass(frozen=True, eq=False)
class Measured:
    """One region's object: metres in the colour optical frame; NaN = unknown, never 0.

    Attributes:
        label: label of the region.
        position_m: centre of the upright box.
        camera_distance_m: from the camera to that centre.
        length_m, width_m: horizontal sides, length >= width.
        height_m: the object's own, from its foot to its top, along the support's normal.
        top_above_support_m: its top above the frame's plane (floor, table, shelf) that carries it
            and what it stands on; equals height_m for an object that stands on that plane.
        spreads: the errors by STD_DEV_KEYS; empty if nothing was measured.
        valid_fraction: fraction of the region's pixels with a depth reading.
        warnings: what makes the values doubtful: the scene's cautions, then the region's.
        region: the requested region.
        box, pixels, sources: the source of the values and of their errors; None without enough
            readings.
        situation: what the calibration of the errors distinguishes.
    """

    label: str
    position_m: tuple[float, float, float]
    camera_distance_m: float
    length_m: float
    width_m: float
    height_m: float
    top_above_support_m: float
    spreads: dict[str, Spread]
    valid_fraction: float
    warnings: tuple[Caution, ...]
    region: Region
    box: UprightBox | None = None
    pixels: ObjectPixels | None = None
    sources: ErrorSources | None = None
    situation: Situation = Situation.DOUBTFUL

    @property
    def std_dev(self) -> dict[str, float]:
        """1 sigma by STD_DEV_KEYS, metres; the one of position_m applies to each axis."""
        return {key: self.spreads.get(key, UNKNOWN).std_dev for key in STD_DEV_KEYS}

    @property
    def interval_90(self) -> dict[str, tuple[float, float]]:
        """(low, high) that contains the true value with a probability of 90 %, metres.

        By STD_DEV_KEYS without position_m.
        """
        return {
            key: self.spreads.get(key, UNKNOWN).interval_90(getattr(self, key))
            for key in STD_DEV_KEYS[1:]
        }

    @property
    def distance_warnings(self) -> tuple[Caution, ...]:
        """The warnings that concern the camera distance: without those of sizes only."""
        own = doubts(self.camera_distance_m, self.spreads.get("camera_distance_m", UNKNOWN))
        return (*(code for code in self.warnings if code not in OF_SIZES), *own)

    @property
    def orientation(self) -> tuple[float, float, float, float]:
        """Quaternion (x, y, z, w) that rotates the optical frame's axes into the box's axes.

        Those are x along the length, y along the width, z up; NaN if the object was not measured.
        """
        return (math.nan,) * 4 if self.box is None else self.box.orientation

    @property
    def support_plane(self) -> Plane | None:
        """The frame's plane that top_above_support_m starts at, optical frame; None = not found."""
        if self.box is None or self.pixels is None or not self.pixels.base.detected:
            return None
        return self.pixels.base


def unmeasured(
    region: Region, warnings: tuple[Caution, ...], valid_fraction: float = 0.0
) -> Measured:
    """The result for a region outside the image or with too few readings: every value is NaN."""
    return Measured(
        label=region.label,
        position_m=(math.nan, math.nan, math.nan),
        camera_distance_m=math.nan,
        length_m=math.nan,
        width_m=math.nan,
        height_m=math.nan,
        top_above_support_m=math.nan,
        spreads={},
        valid_fraction=valid_fraction,
        warnings=warnings,
        region=region,
    )
