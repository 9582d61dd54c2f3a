"""vision_msgs: 2-D detections -> regions to measure; measured objects -> 3-D detections.

The package vision_msgs comes from apt with ROS, not with its wheels, so its classes are looked up
by name. Conversions only: does not know topics, rates, or how anything is measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from geometry_msgs.msg import Pose, Vector3
from sensor_msgs.msg import RegionOfInterest
from std_msgs.msg import Header

from sdvlm.msg import Region, RegionMeasurement
from sdvlm_core.cautions import UNFIT
from sdvlm_core.errors import shown
from sdvlm_ros.conversions import make_message, message_class

DETECTIONS_2D = "vision_msgs/msg/Detection2DArray"
DETECTIONS_3D = "vision_msgs/msg/Detection3DArray"
#: Longest class_id and id of a detection, characters.
MAX_NAME = 100
#: Largest number of hypotheses of one detection.
MAX_HYPOTHESES = 20
# The measurement has no standard deviation of the orientation. Its variance is that of an angle of
# which nothing is known, which is finite, unlike NaN: a consumer's matrices stay usable.
_UNKNOWN_ANGLE_VARIANCE = math.pi**2 / 3
# Pixels. A coordinate beyond this is no box of an image.
_MAX_COORDINATE = 100_000.0
_UNFIT = frozenset(code.value for code in UNFIT)


@dataclass(frozen=True)
class Named:
    """What an object is called.

    Attributes:
        id: of the detection; "" = none.
        hypotheses: (class, score); a score of NaN is unknown.
    """

    id: str
    hypotheses: tuple[tuple[str, float], ...]


def missing_package() -> str:
    """Why vision_msgs cannot be used, and what to do; "" = it can."""
    try:
        for name in (DETECTIONS_2D, DETECTIONS_3D):
            message_class(name)
    except (ImportError, AttributeError) as error:
        return (
            f"the package vision_msgs cannot be imported ({error}): apt install "
            "ros-$ROS_DISTRO-vision-msgs, and source ROS again"
        )
    return ""


def region_of(detection: Any, taken: Sequence[str]) -> tuple[Region, Named]:
    """A vision_msgs/Detection2D as a region, with its names.

    The box is rounded to whole pixels of the colour image, and ends at the left and upper border.
    The region's label is the class of the first hypothesis, with a number if that label is taken.

    Raises:
        ValueError: states why the detection is malformed.
    """
    if len(detection.id) > MAX_NAME:
        raise ValueError(f"an id has {len(detection.id)} characters; at most {MAX_NAME} are read")
    if len(detection.results) > MAX_HYPOTHESES:
        raise ValueError(f"{len(detection.results)} hypotheses; at most {MAX_HYPOTHESES} are read")
    hypotheses = tuple(
        (str(result.hypothesis.class_id), float(result.hypothesis.score))
        for result in detection.results
    )
    for name, _ in hypotheses:
        if len(name) > MAX_NAME:
            raise ValueError(f"a class_id has {len(name)} characters; at most {MAX_NAME} are read")
    roi = _roi(detection.bbox)
    name = hypotheses[0][0] if hypotheses else ""
    return Region(label=_label(name or "object", taken), roi=roi), Named(detection.id, hypotheses)


def _roi(box: Any) -> RegionOfInterest:
    centre, width, height = box.center.position, box.size_x, box.size_y
    text = f"box of {width:g}x{height:g} at ({centre.x:g}, {centre.y:g})"
    if not all(map(math.isfinite, (centre.x, centre.y, box.center.theta, width, height))):
        raise ValueError(f"a {text}, theta {box.center.theta:g}, is not finite")
    if box.center.theta:
        raise ValueError(f"a {text} is turned by theta {box.center.theta:g}; only 0 is measured")
    left, right = centre.x - width / 2, centre.x + width / 2
    top, bottom = centre.y - height / 2, centre.y + height / 2
    if max(map(abs, (left, right, top, bottom))) > _MAX_COORDINATE:
        raise ValueError(f"a {text} is no box of an image")
    x1, y1, x2, y2 = max(0, round(left)), max(0, round(top)), round(right), round(bottom)
    if not (x1 < x2 and y1 < y2):
        raise ValueError(f"a {text} is empty or outside the image")
    return RegionOfInterest(x_offset=x1, y_offset=y1, width=x2 - x1, height=y2 - y1)


def _label(name: str, taken: Sequence[str]) -> str:
    numbered = (f"{name} {number}" for number in range(2, len(taken) + 3))
    return next(label for label in (name, *numbered) if label not in taken)


def is_fit(one: RegionMeasurement) -> bool:
    """Whether a measurement may be published where it has no place for its warnings."""
    position = one.pose.position
    values = (
        *(position.x, position.y, position.z, one.position_std_dev),
        *(one.length, one.width, one.height, one.pose.orientation.w),
    )
    return all(map(math.isfinite, values)) and not _UNFIT.intersection(one.warnings)


def detections_message(
    regions: Sequence[RegionMeasurement], names: Sequence[Named], header: Header
) -> Any:
    """A vision_msgs/Detection3DArray of the measurements that are fit to act on.

    Args:
        regions: in the frame of the header.
        names: one for each region.
    """
    return make_message(
        DETECTIONS_3D,
        header=header,
        detections=[
            _detection_3d(one, named, header)
            for one, named in zip(regions, names, strict=True)
            if is_fit(one)
        ],
    )


def _detection_3d(one: RegionMeasurement, named: Named, header: Header) -> Any:
    pose = make_message(
        "geometry_msgs/msg/PoseWithCovariance", pose=one.pose, covariance=_covariance(one)
    )
    hypotheses = [
        make_message(
            "vision_msgs/msg/ObjectHypothesisWithPose",
            hypothesis=make_message(
                "vision_msgs/msg/ObjectHypothesis", class_id=class_id, score=score
            ),
            pose=pose,
        )
        for class_id, score in named.hypotheses or (("", math.nan),)
    ]
    return make_message(
        "vision_msgs/msg/Detection3D",
        header=header,
        results=hypotheses,
        bbox=_box(one.pose, Vector3(x=one.length, y=one.width, z=one.height)),
        id=named.id,
    )


def _box(pose: Pose, size: Vector3) -> Any:
    return make_message("vision_msgs/msg/BoundingBox3D", center=pose, size=size)


def _covariance(one: RegionMeasurement) -> list[float]:
    """Row-major 6x6 of x, y, z and three angles; the same in every frame."""
    variances = [one.position_std_dev**2] * 3 + [_UNKNOWN_ANGLE_VARIANCE] * 3
    return [variances[i] if i == j else 0.0 for i in range(6) for j in range(6)]


def reasons_text(reasons: Sequence[str], count: int) -> str:
    """The first reason of refused detections, for the log and the diagnostics."""
    return shown(f"{len(reasons)} of {count} detections are refused: {reasons[0]}", 500)
