"""A claimed comparison ("A is taller than B", "the mug is the closest") against geometry.

The difference of two measurements decides where it exceeds two standard deviations and the 90 %
interval. Does not know sessions, regions or numbers in answers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sdvlm_core.answer import Quantity, Verdict
from sdvlm_core.cautions import UNFIT, Caution
from sdvlm_core.geometry.measured import Measured
from sdvlm_core.language.object_names import matched_name
from sdvlm_core.language.question import RELATIONS
from sdvlm_core.verification.check import Check, StatedVerdict, undecided
from sdvlm_core.verification.estimates import ONE, Estimate, difference, log_volume, of_one
from sdvlm_core.verification.numbers import GREATER
from sdvlm_core.verification.objects import NotLocatedError, Objects

#: A difference of less than this many standard deviations decides nothing.
_SIGMAS = 2.0
#: 1 sigma of the middle of a box around an object in the image, as a fraction of its width: the
#: sides of a detector's box are loose by about a tenth. And of any such middle, pixels.
_MIDDLE_FRACTION, _MIDDLE_PX = 0.05, 1.0


@dataclass(frozen=True)
class _Finding:
    """Whether a relation holds between two objects: None = geometry cannot tell."""

    holds: bool | None
    reason: str
    warnings: tuple[Caution, ...]


def check_verdict(claim: StatedVerdict, objects: Objects) -> Check:
    """Compare a verdict or a choice; undecided, with the reason, where geometry cannot judge it."""
    asked = claim.asked
    if asked.quantity is not Quantity.COMPARISON or asked.relation not in RELATIONS:
        return undecided(claim, f"depth does not judge {asked.quantity.name}")
    if RELATIONS[asked.relation] is Quantity.FREE:
        reason = f"{asked.relation!r} may compare heights or places: ask for taller, or for above"
        return undecided(claim, reason)
    order, expected = _ordered(claim)
    if not order:
        what = "names none of the objects" if asked.which else "says neither yes nor no"
        return undecided(claim, f"the answer {what}")
    try:
        first, *others = objects.measured(order)
    except NotLocatedError as error:
        return undecided(claim, str(error))
    findings = [_finding(asked.relation, first, other, objects) for other in others]
    holds = _all_hold([finding.holds for finding in findings])
    agrees = None if holds is None else holds == expected
    word = {True: "agrees", False: "disagrees", None: "cannot tell"}[agrees]
    return Check(
        claim=claim,
        measurement=None,
        agrees=agrees,
        reason=f"geometry {word}: " + "; ".join(finding.reason for finding in findings),
        warnings=tuple(dict.fromkeys(code for one in findings for code in one.warnings)),
        objects=(first, *others),
    )


def _ordered(claim: StatedVerdict) -> tuple[tuple[str, ...], bool]:
    """The object of which the relation to all others is claimed first, and whether it holds."""
    names = claim.asked.objects
    if claim.asked.which:
        chosen = matched_name(claim.chosen, names)
        return ((chosen, *(one for one in names if one != chosen)) if chosen else ()), True
    known = claim.verdict is not Verdict.UNDECIDED and len(names) == 2
    return (names if known else ()), claim.verdict is Verdict.HOLDS


def _all_hold(parts: Sequence[bool | None]) -> bool | None:
    if False in parts:
        return False
    return None if None in parts else True


def _finding(relation: str, a: Measured, b: Measured, objects: Objects) -> _Finding:
    kind = RELATIONS[relation]
    if kind is Quantity.SIZE:
        difference_ = difference(log_volume(a), log_volume(b))
        return _from_difference(relation, "log of the volumes", "", difference_)
    if kind in ONE:
        return _from_difference(
            relation, kind.name.lower(), " m", difference(of_one(kind, a), of_one(kind, b))
        )
    if relation in ("left", "right"):
        return _beside(relation, a, b, objects.scene.upright.turn.turns)
    upper, lower = (a, b) if relation == "above" else (b, a)
    return _above(upper, lower)


def _from_difference(relation: str, name: str, unit: str, value: Estimate) -> _Finding:
    if math.isnan(value.value) or value.unfit:
        return _unfit(value.warnings)
    holds = None
    # The errors of heights have heavy tails: their 90 % interval is wider than two std_dev.
    if abs(value.value) > max(_SIGMAS * value.std_dev, value.half_90):
        holds = (value.value > 0) == (relation in GREATER)
    reason = f"difference of {name} {value.value:.3f}{unit} ± {value.std_dev:.3f}{unit}"
    return _Finding(holds, reason, value.warnings)


def _beside(relation: str, a: Measured, b: Measured, turns: int) -> _Finding:
    """Left and right, by the middles of the two objects in the image."""
    warnings = _warnings(a, b)
    if turns:
        reason = "the camera is turned: left in its image is not left of the scene"
        return _Finding(None, reason, warnings)
    if UNFIT.intersection(warnings):
        return _unfit(warnings)
    (left_a, right_a), (left_b, right_b) = _columns(a), _columns(b)
    apart = (left_a + right_a - left_b - right_b) / 2
    widths = math.hypot(right_a - left_a, right_b - left_b)
    std_dev = math.hypot(_MIDDLE_FRACTION * widths, _MIDDLE_PX)
    holds = None
    if abs(apart) > _SIGMAS * std_dev:
        holds = (apart > 0) == (relation == "right")
    return _Finding(holds, f"middles apart by {apart:.0f} ± {std_dev:.0f} columns", warnings)


def _columns(one: Measured) -> tuple[float, float]:
    """The first and the last column of an object in the image."""
    if one.region.box is not None:
        return float(one.region.box[0]), float(one.region.box[2])
    assert one.pixels is not None  # measured
    return float(one.pixels.columns.min()), float(one.pixels.columns.max())


def _above(upper: Measured, lower: Measured) -> _Finding:
    """Whether one object is above another: wholly higher, and over it.

    It is not above if its centre is lower. Geometry does not judge what is between the two.
    """
    warnings = _warnings(upper, lower)
    a, b = upper.box, lower.box
    if UNFIT.intersection(warnings) or a is None or b is None:
        return _unfit(warnings)
    up = (a.axes[2] + b.axes[2]) / np.linalg.norm(a.axes[2] + b.axes[2])
    apart = a.centre - b.centre
    rise = float(apart @ up)
    across = float(np.linalg.norm(apart - rise * up))
    place = math.hypot(upper.std_dev["position_m"], lower.std_dev["position_m"])
    heights = math.hypot(upper.std_dev["height_m"], lower.std_dev["height_m"])
    std_dev = math.hypot(place, heights / 2)
    half_heights = (upper.height_m + lower.height_m) / 2
    reason = f"centre higher by {rise:.3f} m ± {std_dev:.3f} m, {across:.3f} m aside"
    if rise < -_SIGMAS * place:
        return _Finding(False, reason, warnings)
    over = across < max(upper.length_m, lower.length_m) / 2
    clear = rise > half_heights - _SIGMAS * std_dev and rise > _SIGMAS * place
    return _Finding(True if over and clear else None, reason, warnings)


def _warnings(a: Measured, b: Measured) -> tuple[Caution, ...]:
    return tuple(dict.fromkeys((*a.warnings, *b.warnings)))


def _unfit(warnings: tuple[Caution, ...]) -> _Finding:
    codes = ", ".join(sorted(code.value for code in UNFIT.intersection(warnings)))
    return _Finding(None, f"the measurement is unfit to act on: {codes}", warnings)
