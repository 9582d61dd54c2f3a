"""Language against geometry: is what a model said of an object what the depth image shows?

Finds the objects an answer speaks of (the caller's regions, else the model itself is asked where
they are, one short question each on the open session), measures them (`geometry`), and sets the
two side by side. Fuses them only where they agree; a contradiction is reported, never smoothed
over. Knows answers, sessions and measurements; does not know who asked.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sdvlm_core.answer import Kind, Measurement, Source, SpatialAnswer, Status
from sdvlm_core.engine import FrameSession
from sdvlm_core.errors import DepthError, IntrinsicsError
from sdvlm_core.frame import Region, is_in_image, pixel_from_fraction
from sdvlm_core.geometry.measure import UNFIT, Caution, Measured, Pair, measure_in, measure_pair
from sdvlm_core.geometry.scene import Scene, open_scene
from sdvlm_core.geometry.sensor_noise import DEFAULT_SENSOR

#: MSMU's success rule: two lengths agree when neither is so many times the other.
AGREE = 1.25
#: Standard deviation of a length that a model gives without one, as a part of it: the rule above.
_LANGUAGE_SPREAD = AGREE - 1
#: A point with one of these lies beside its object, within a few hundredths of the image.
_MISSED = frozenset((Caution.TOO_FEW_POINTS, Caution.NOTHING_STANDS_OUT))
_RINGS, _AROUND = (0.02, 0.04), 8
#: Names of where the picture was taken from, and of what may be elsewhere.
_VIEWER = re.compile(
    r"((your|my|our) )?(camera|viewer|observer|viewpoint)('s)?( (lens|position|location))?"
    r"|(where )?(you|i|me|us|we)|(your|my|our) (position|location)|here",
    re.IGNORECASE,
)
_ROBOT = re.compile(r"((your|my|our) )?robot('s)?( (base|position|location))?", re.IGNORECASE)
_SIZES = {Kind.LENGTH: "length_m", Kind.WIDTH: "width_m", Kind.HEIGHT: "height_m"}


@dataclass(frozen=True)
class Check:
    """One number's second opinion.

    Attributes:
        said: the model's number.
        seen: geometry's, with `warnings`; None = nothing to measure it by.
        agree: None = it cannot be told.
        why: in words, for logs and people.
        objects: those that were measured for it, one or two.
    """

    said: Measurement
    seen: Measurement | None
    agree: bool | None
    why: str
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
    """The answer with geometry's measurements beside its own, and what came of each.

    Where the two agree a fused measurement follows; where they do not, the status becomes
    DISAGREEMENT and both stay. A frame without metric depth or intrinsics is not checked, and says
    so in the checks.

    Args:
        regions: where the objects are, by label; what they do not name, the model is asked for.
        deadline: as in `FrameSession.ask`.
        cancel: as in `FrameSession.ask`.

    Raises:
        QueryError: a region lies outside the image.
        QueryTimeout, QueryCanceled, ModelMemoryError: of the questions that locate the objects.
    """
    lengths = [m for m in answer.measurements if m.kind is Kind.DISTANCE or m.kind in _SIZES]
    if not lengths:
        return answer, ()
    try:
        scene = open_scene(session.frame)
    except (DepthError, IntrinsicsError) as error:
        return answer, tuple(Check(m, None, None, str(error)) for m in lengths)
    found: dict[str, Measured | None] = {}

    def measured(label: str) -> Measured | None:
        if label not in found:
            region = _region_of(label, regions)
            if region is not None:
                found[label] = _measured(scene, region, sensor)
            else:
                point = _asked(session, label, deadline, cancel)
                found[label] = point and _near(scene, label, point, sensor)
        return found[label]

    checks = tuple(_check(said, measured, regions) for said in lengths)
    added = [check.seen for check in checks if check.seen is not None]
    added += [fused(c.said, c.seen) for c in checks if c.agree and c.seen is not None]
    status = answer.status
    if any(check.agree is False for check in checks):
        status = Status.DISAGREEMENT
    return replace(answer, measurements=(*answer.measurements, *added), status=status), checks


def agree(one: float, other: float) -> bool:
    """MSMU's rule: max(a / b, b / a) < 1.25; never for what is not positive and finite."""
    if not (one > 0 and other > 0 and math.isfinite(one) and math.isfinite(other)):
        return False
    return max(one / other, other / one) < AGREE


def fused(said: Measurement, seen: Measurement) -> Measurement:
    """Both weighed by their inverse variances; the model's is the agreement rule if unknown."""
    spread = said.std_dev if said.std_dev > 0 else _LANGUAGE_SPREAD * said.value
    a, b = spread**-2, max(seen.std_dev, 1e-6) ** -2
    value = (a * said.value + b * seen.value) / (a + b)
    return replace(seen, value=value, std_dev=(a + b) ** -0.5, source=Source.FUSED)


def _named(label: str, regions: Sequence[Region]) -> Region | None:
    """The caller's region of that name."""
    wanted = label.strip().lower()
    same = (region for region in regions if region.label.strip().lower() == wanted)
    return next(same, None)


def _region_of(label: str, regions: Sequence[Region]) -> Region | None:
    """The caller's region of an object; a single one needs no name."""
    region = _named(label, regions)
    if region is not None:
        return region
    return regions[0] if len(regions) == 1 and not regions[0].label else None


def _asked(
    session: FrameSession, label: str, deadline: float | None, cancel: threading.Event | None
) -> tuple[float, float] | None:
    """Pixel where the model says the object is: MSMU's grounding question on the cached prefix."""
    if not label:
        return None
    question = f"What is the coordinate of the {label}?"
    said = session.ask(question, deadline=deadline, cancel=cancel, max_new_tokens=32)
    if not said.image_points:
        return None
    u, v = said.image_points[0]
    frame = session.frame
    return pixel_from_fraction(u, v, frame.width, frame.height)


def _near(scene: Scene, label: str, at: tuple[float, float], sensor: str) -> Measured:
    """What stands at a pixel that a model named, or next to it: it may have missed by a little.

    Where nothing stands out there, rings around it are tried, the nearest first.
    """
    width, height = scene.frame.width, scene.frame.height
    first = _measured(scene, Region(label, point=at), sensor)
    if not _MISSED.intersection(first.warnings):
        return first
    for radius in _RINGS:
        for step in range(_AROUND):
            angle = 2 * math.pi * step / _AROUND
            u = at[0] + radius * max(width, height) * math.cos(angle)
            v = at[1] + radius * max(width, height) * math.sin(angle)
            if not is_in_image(u, v, width, height):
                continue
            found = _measured(scene, Region(label, point=(u, v)), sensor)
            if not _MISSED.intersection(found.warnings):
                return found
    return first


def _measured(scene: Scene, region: Region, sensor: str) -> Measured:
    return measure_in(scene, [region], sensor)[0][0]


def _check(
    said: Measurement, measured: Callable[[str], Measured | None], regions: Sequence[Region]
) -> Check:
    if said.kind is Kind.DISTANCE:
        return _check_distance(said, measured, regions)
    one = measured(said.label)
    if one is None:
        return Check(said, None, None, f"nobody says where the {said.label or 'object'} is")
    key = _SIZES[said.kind]
    return _compared(said, getattr(one, key), one.std_dev[key], (one,))


def _check_distance(
    said: Measurement, measured: Callable[[str], Measured | None], regions: Sequence[Region]
) -> Check:
    """From the camera to what is named, or between two things of which neither is the viewer."""
    names = _ends_of(said.label, regions)
    unnamed = [name for name in names if _named(name, regions) is None]
    if any(_ROBOT.fullmatch(name) for name in unnamed):
        return Check(said, None, None, "the robot is not the camera: nobody says where it is")
    things = [name for name in names if name not in unnamed or not _VIEWER.fullmatch(name)]
    if not things:
        return Check(said, None, None, "a distance of the camera to itself")
    found = []
    for name in things:
        one = measured(name)
        if one is None:
            return Check(said, None, None, f"nobody says where the {name or 'object'} is")
        found.append(one)
    if len(found) == 1:
        spread = found[0].std_dev["camera_distance_m"]
        return _compared(said, found[0].camera_distance_m, spread, (found[0],))
    first, second = found
    if first.region is second.region:
        return Check(said, None, None, f"one region stands for both of {said.label}")
    pair: Pair = measure_pair(first, second)
    return _compared(said, pair.distance_m, pair.std_dev_m, (first, second))


def _ends_of(label: str, regions: Sequence[Region]) -> tuple[str, ...]:
    """The one or two names in a distance's label; of "salt and pepper and box", those known."""
    if _named(label, regions) is not None:
        return (label,)
    words = label.split(" and ")
    splits = [(" and ".join(words[:at]), " and ".join(words[at:])) for at in range(1, len(words))]

    def known(names: tuple[str, str]) -> int:
        return sum(
            _named(name, regions) is not None or _VIEWER.fullmatch(name) is not None
            for name in names
        )

    return max(splits, key=known, default=(label,))


def _compared(
    said: Measurement, value: float, std_dev: float, objects: tuple[Measured, ...]
) -> Check:
    warnings = tuple(dict.fromkeys(code for one in objects for code in one.warnings))
    if math.isnan(value):
        return Check(said, None, None, "nothing could be measured there", warnings, objects)
    seen = Measurement(said.kind, value, std_dev, Source.GEOMETRY, said.label)
    unfit = UNFIT.intersection(warnings)
    if unfit:
        codes = ", ".join(sorted(code.value for code in unfit))
        why = f"geometry is not to be trusted here: {codes}"
        return Check(said, seen, None, why, warnings, objects)
    same = agree(said.value, value)
    word = "agrees" if same else "disagrees"
    why = f"geometry {word}: {value:.3f} m ± {std_dev:.3f} m against {said.value:.3f} m"
    return Check(said, seen, same, why, warnings, objects)
