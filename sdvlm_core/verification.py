"""Verification: a model's lengths against measurements from the depth image.

Locates the objects of an answer (the caller's regions; otherwise the model is asked for their
coordinates, one short question each on the open session), measures them (`geometry`), and compares
each length with its measurement. Fuses the two only if they agree; a disagreement is reported and
both values stay. Uses answers, sessions and measurements; does not know messages or requests.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sdvlm_core.answer import Measurement, Quantity, Source, SpatialAnswer, Status
from sdvlm_core.cautions import UNFIT, Caution
from sdvlm_core.errors import DepthError, IntrinsicsError
from sdvlm_core.frame import Region, is_in_image, pixel_from_fraction
from sdvlm_core.geometry.measure import measure_in
from sdvlm_core.geometry.measured import Measured
from sdvlm_core.geometry.pairs import measure_pair
from sdvlm_core.geometry.scene import Scene, open_scene
from sdvlm_core.geometry.sensor_noise import DEFAULT_SENSOR
from sdvlm_core.model.generation_options import GenerationOptions

if TYPE_CHECKING:  # imports torch
    from sdvlm_core.engine import FrameSession

#: Two lengths agree if their ratio is below this: the success rule of MSMU-Bench.
MAX_RATIO = 1.25
#: 1 sigma of a length that a model answers without one, as a fraction of it: the rule above.
_LANGUAGE_STD_DEV_FRACTION = MAX_RATIO - 1
#: Tokens of an answer with a coordinate.
_MAX_COORDINATE_TOKENS = 32
#: A point with one of these warnings missed its object. Then points around it are tried, on rings
#: with these radii, as fractions of the image's longer side.
_MISSED = frozenset((Caution.TOO_FEW_POINTS, Caution.NOTHING_STANDS_OUT))
_RING_FRACTIONS, _RING_POINTS = (0.02, 0.04), 8
#: Names of the camera in an answer.
_VIEWER = re.compile(
    r"((your|my|our) )?(camera|viewer|observer|viewpoint)('s)?( (lens|position|location))?"
    r"|(where )?(you|i|me|us|we)|(your|my|our) (position|location)|here",
    re.IGNORECASE,
)
_ROBOT = re.compile(r"((your|my|our) )?robot('s)?( (base|position|location))?", re.IGNORECASE)
_SIZES = {Quantity.LENGTH: "length_m", Quantity.WIDTH: "width_m", Quantity.HEIGHT: "height_m"}


@dataclass(frozen=True)
class Check:
    """The comparison of one answered length with its measurement.

    Attributes:
        claim: the model's length.
        measurement: the measurement from depth; None if nothing was measured.
        agrees: None if it cannot be decided.
        reason: the reason for `agrees`, as text for logs and people.
        warnings: warnings of the measured object, or of the pair of objects.
        objects: the measured objects, one or two.
    """

    claim: Measurement
    measurement: Measurement | None
    agrees: bool | None
    reason: str
    warnings: tuple[Caution, ...] = ()
    objects: tuple[Measured, ...] = ()


def verify(
    session: FrameSession,
    answer: SpatialAnswer,
    regions: Sequence[Region] = (),
    sensor: str = DEFAULT_SENSOR,
    deadline: float | None = None,
    cancel: threading.Event | None = None,
) -> tuple[SpatialAnswer, tuple[Check, ...]]:
    """Measure the objects of an answer's lengths, and compare the lengths.

    Args:
        session: the session of the answer's frame.
        answer: the answer of the session.
        regions: the objects' regions by label; the model is asked for the other objects.
        sensor: preset of `sensor_noise`.
        deadline: as in `FrameSession.ask`.
        cancel: as in `FrameSession.ask`.

    Returns:
        The answer with the measurements added, and one check per length. Where the two agree, a
        FUSED measurement is added; where they do not, the status becomes DISAGREEMENT. In a frame
        without metric depth or intrinsics every check is undecided.

    Raises:
        QueryError: a mask is not of the image's size, or the sensor is unknown.
        QueryTimeout, QueryCanceled, ModelMemoryError: from the questions that locate the objects.
    """
    distances = (Quantity.DISTANCE, Quantity.CAMERA_DISTANCE)
    claims = [m for m in answer.measurements if m.kind in distances or m.kind in _SIZES]
    if not claims:
        return answer, ()
    try:
        scene = open_scene(session.frame)
    except (DepthError, IntrinsicsError) as error:
        return answer, tuple(_undecided(claim, str(error)) for claim in claims)
    objects = _Objects(session, scene, regions, sensor, deadline, cancel)
    checks = tuple(_check(claim, objects) for claim in claims)
    added = [check.measurement for check in checks if check.measurement is not None]
    added += [
        fused(check.claim, check.measurement)
        for check in checks
        if check.agrees and check.measurement is not None
    ]
    disagrees = any(check.agrees is False for check in checks)
    return replace(
        answer,
        measurements=(*answer.measurements, *added),
        status=Status.DISAGREEMENT if disagrees else answer.status,
        cautions=scene.cautions,
    ), checks


def lengths_agree(a: float, b: float) -> bool:
    """MSMU's rule: max(a / b, b / a) < 1.25; False unless both are positive and finite."""
    if not (a > 0 and b > 0 and math.isfinite(a) and math.isfinite(b)):
        return False
    return max(a / b, b / a) < MAX_RATIO


def fused(claim: Measurement, measurement: Measurement) -> Measurement:
    """The mean of claim and measurement, weighted by inverse variance.

    A claim without a standard deviation gets the one that the agreement rule implies.
    """
    std_dev = claim.std_dev if claim.std_dev > 0 else _LANGUAGE_STD_DEV_FRACTION * claim.value
    a, b = std_dev**-2, max(measurement.std_dev, 1e-6) ** -2
    value = (a * claim.value + b * measurement.value) / (a + b)
    return replace(measurement, value=value, std_dev=(a + b) ** -0.5, source=Source.FUSED)


@dataclass(frozen=True, eq=False)
class _Objects:
    """The objects of one answer, each located and measured once."""

    session: FrameSession
    scene: Scene
    regions: Sequence[Region]
    sensor: str
    deadline: float | None
    cancel: threading.Event | None
    found: dict[str, Measured | None] = field(default_factory=dict)

    def measured(self, label: str) -> Measured | None:
        """The object of that name; None if neither the caller nor the model locates it."""
        if label not in self.found:
            self.found[label] = self._locate_and_measure(label)
        return self.found[label]

    def is_named(self, label: str) -> bool:
        """The caller gave a region of that name."""
        return self._region_named(label) is not None

    def _locate_and_measure(self, label: str) -> Measured | None:
        region = self._region_named(label)
        if region is None and len(self.regions) == 1 and not self.regions[0].label:
            region = self.regions[0]  # a single region needs no name
        if region is not None:
            return self._measure(region)
        pixel = self._ask_pixel(label)
        return None if pixel is None else self._measure_near(label, pixel)

    def _region_named(self, label: str) -> Region | None:
        wanted = label.strip().lower()
        same = (region for region in self.regions if region.label.strip().lower() == wanted)
        return next(same, None)

    def _ask_pixel(self, label: str) -> tuple[float, float] | None:
        """The pixel that the model answers to MSMU's grounding question about an object."""
        if not label:
            return None
        reply = self.session.ask(
            f"What is the coordinate of the {label}?",
            GenerationOptions(
                deadline=self.deadline, cancel=self.cancel, max_new_tokens=_MAX_COORDINATE_TOKENS
            ),
        )
        if not reply.image_points:
            return None
        u, v = reply.image_points[0]
        frame = self.scene.frame
        return pixel_from_fraction(u, v, frame.width, frame.height)

    def _measure_near(self, label: str, pixel: tuple[float, float]) -> Measured:
        """The object at a pixel from the model, or on a ring around it, the nearest ring first."""
        width, height = self.scene.frame.width, self.scene.frame.height
        first = self._measure(Region(label, point=pixel))
        if not _MISSED.intersection(first.warnings):
            return first
        for fraction in _RING_FRACTIONS:
            for step in range(_RING_POINTS):
                angle = 2 * math.pi * step / _RING_POINTS
                u = pixel[0] + fraction * max(width, height) * math.cos(angle)
                v = pixel[1] + fraction * max(width, height) * math.sin(angle)
                if not is_in_image(u, v, width, height):
                    continue
                one = self._measure(Region(label, point=(u, v)))
                if not _MISSED.intersection(one.warnings):
                    return one
        return first

    def _measure(self, region: Region) -> Measured:
        return measure_in(self.scene, [region], self.sensor)[0][0]


def _check(claim: Measurement, objects: _Objects) -> Check:
    if claim.kind in (Quantity.DISTANCE, Quantity.CAMERA_DISTANCE):
        return _check_distance(claim, objects)
    one = objects.measured(claim.name)
    if one is None:
        return _not_located(claim, claim.name)
    key = _SIZES[claim.kind]
    return _compared(claim, getattr(one, key), one.std_dev[key], one.warnings, (one,))


def _check_distance(claim: Measurement, objects: _Objects) -> Check:
    """Check a distance from the camera to one object, or between two objects."""
    names = _names_in(claim.name, objects)
    unnamed = [name for name in names if not objects.is_named(name)]
    if any(_ROBOT.fullmatch(name) for name in unnamed):
        return _undecided(claim, "robot position unknown: the robot is not the camera")
    targets = [name for name in names if name not in unnamed or not _VIEWER.fullmatch(name)]
    if not targets:
        return _undecided(claim, f"no object in {claim.name!r}: both ends are the camera")
    found = []
    for name in targets:
        one = objects.measured(name)
        if one is None:
            return _not_located(claim, name)
        found.append(one)
    if len(found) == 1:
        (one,) = found
        std_dev = one.std_dev["camera_distance_m"]
        return _compared(claim, one.camera_distance_m, std_dev, one.distance_warnings, (one,))
    first, second = found
    if first.region is second.region:
        reason = f"both objects of {claim.name!r} have one region: give each object a region"
        return _undecided(claim, reason)
    pair = measure_pair(first, second)
    return _compared(
        claim, pair.distance_m, pair.distance_std_dev_m, pair.distance_warnings, (first, second)
    )


def _names_in(label: str, objects: _Objects) -> tuple[str, ...]:
    """The one or two names in a distance's label.

    "salt and pepper and box" can be split in two ways: the split with more known names wins.
    """
    if objects.is_named(label):
        return (label,)
    words = label.split(" and ")
    splits = [(" and ".join(words[:at]), " and ".join(words[at:])) for at in range(1, len(words))]

    def known(names: tuple[str, str]) -> int:
        return sum(objects.is_named(name) or _VIEWER.fullmatch(name) is not None for name in names)

    return max(splits, key=known, default=(label,))


def _compared(
    claim: Measurement,
    value_m: float,
    std_dev_m: float,
    warnings: tuple[Caution, ...],
    objects: tuple[Measured, ...],
) -> Check:
    """Compare a claim with its measurement; undecided if the measurement is unfit to act on."""
    codes = ", ".join(sorted(code.value for code in UNFIT.intersection(warnings)))
    if math.isnan(value_m):
        return Check(claim, None, None, f"nothing was measured: {codes}", warnings, objects)
    measurement = Measurement(claim.kind, value_m, std_dev_m, Source.GEOMETRY, claim.objects)
    if codes:
        reason = f"the measurement is unfit to act on: {codes}"
        return Check(claim, measurement, None, reason, warnings, objects)
    agrees = lengths_agree(claim.value, value_m)
    verdict = "agrees" if agrees else "disagrees"
    reason = f"geometry {verdict}: {value_m:.3f} m ± {std_dev_m:.3f} m, answer {claim.value:.3f} m"
    return Check(claim, measurement, agrees, reason, warnings, objects)


def _not_located(claim: Measurement, name: str) -> Check:
    return _undecided(claim, f"object not located: {name or 'unnamed'}")


def _undecided(claim: Measurement, reason: str) -> Check:
    return Check(claim, None, None, reason)
