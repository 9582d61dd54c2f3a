"""Plane search: the planes of a frame, which of them are level, and how clearly they show up.

Finds planes from depth alone, by RANSAC over local triples of points (Fischler and Bolles, 1981)
and a trimmed least-squares refinement. All thresholds are fractions of the distance or of the
measured residuals, so a scene twice as large gives twice the lengths. Does not know regions or
objects, and does not turn images (`scene`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sdvlm_core.geometry.point_cloud import Cloud, Mask, Points
from sdvlm_core.geometry.quarter_turn import turns_to_upright
from sdvlm_core.geometry.robust import MAD, median
from sdvlm_core.geometry.support_plane import BAND_FRACTION, IMAGE_UP, Plane

# Values without another source: tuned on the development frames of benchmarks/real_frames.py and
# on training.simulate.
#: Columns of the grid of points that the search uses: 64 x 48 points of a 4:3 image.
_GRID_COLUMNS = 64
_HYPOTHESES = 300
#: Largest distance between the three points of a hypothesis, as a fraction of the grid's width.
_REACH_FRACTION = 0.15
#: Fraction of the readings that must be inliers.
_MIN_INLIER_FRACTION = 0.03
#: Smallest number of readings on the grid for a plane.
_MIN_POINTS = 50
_MAX_PLANES = 4
#: Smaller level surfaces are searched where no plane has this fraction of the readings (shelves,
#: bins): their smallest fraction, the largest number of them, and of heights among them.
_MIN_DOMINANT_FRACTION, _MIN_SMALL_FRACTION = 0.25, 0.008
_MAX_SMALL_LEVELS, _MAX_BINS = 6, 10_000
#: Largest angle between two support planes of one frame (seats and shelves are not quite level),
#: and between a level plane's normal and a known up vector.
_MAX_TILT_RAD = np.radians(12.0)
#: Sine of the slope from which a surface is not level.
_STEEP_SINE = np.sin(np.radians(60.0))
# Cosines of the angle between a plane's normal and the image's up axis. The angle is 90 degrees
# for the floor below a camera that looks straight down, and for a wall in front of a level camera.
# The weight of a plane decreases from 1 at 70 degrees to 0 at 105 degrees, so a ceiling is never
# selected.
_FULL_WEIGHT_COS, _NO_WEIGHT_COS = np.cos(np.radians(70.0)), np.cos(np.radians(105.0))
_MIN_WEIGHT = 0.02

# The dominant plane of a frame shows what is up if it is clear; set on the development frames, so
# that none of them is silently wrong in any of its four positions. A rival is another plane that is
# not parallel: the floor would be a wall if the rival were the floor.
#: The dominant plane has this fraction of the readings, and a rival at most this many times fewer.
_CLEAR_FRACTION, _CLEAR_RIVAL_FRACTION = 0.25, 1 / 3
#: A rival may be as large as this if things touch the dominant plane, and hardly any the rival.
_BARE_RIVAL_FRACTION, _BARE_TOUCHING_FRACTION = 0.8, 0.25
#: The limits for a plane that contradicts the image's up axis, which is right for most cameras.
_SURE_FRACTION, _SURE_RIVAL_FRACTION = 0.4, 0.15
#: Other planes are not parallel from this angle on.
_RIVAL_COS = np.cos(np.radians(30.0))
#: A plane that faces the camera within this angle is a wall as probably as a floor from above.
_FACING_COS = np.cos(np.radians(30.0))
#: Things touch a plane if this fraction of the readings is between these heights above it, as
#: fractions of the distance; without those that are as near to a rival.
_TOUCHING_FRACTION, _TOUCHING_HEIGHTS = 0.005, (0.016, 0.05)
#: A large plane at such an angle to a known up vector is neither level nor a wall.
_SLOPED_COS = np.cos(np.radians(65.0))
# Depth is the range along each ray if that makes the largest plane this many times larger. In the
# 28 real frames the factor is at most 0.85, and with range instead of Z at least 1.23 in 27. Only
# planes up to the second value, a fraction of the readings, are examined: range bends larger ones.
# The plane must have the last fraction.
_RANGE_GAIN, _BENT_FRACTION, _UNBENT_FRACTION = 1.2, 0.45, 0.15


@dataclass(frozen=True, eq=False)
class PlaneSample:
    """Readings of a frame on a coarse grid, and the planes that may be in it.

    Attributes:
        grid: (h, w, 3) metres, Z = 0 is no reading.
        points: (N, 3) metres, the readings of the grid.
        planes: (K, 4) unit normal that faces the camera, and offset in metres, of each hypothesis.
        voters: (M, 3) float32, every other point: enough to rank the hypotheses.
        inliers: (K, M) float32, 1 where a voter lies on the plane, else 0.
    """

    grid: Points
    points: Points
    planes: Points
    voters: npt.NDArray[np.float32]
    inliers: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Orientation:
    """Which way is up, as far as the planes of a frame show it.

    Attributes:
        turns: quarter turns, counter-clockwise, that bring up to the top of the image.
        ambiguity: why another direction is plausible too; "" = it is not.
    """

    turns: int
    ambiguity: str = ""


def sample_planes(cloud: Cloud) -> PlaneSample | None:
    """Hypotheses of planes and their inliers; None with too few readings."""
    stride = max(1, round(cloud.width / _GRID_COLUMNS))
    rows = np.arange(stride // 2, cloud.height, stride)
    columns = np.arange(stride // 2, cloud.width, stride)
    return _sampled(cloud.points(*np.meshgrid(rows, columns, indexing="ij")))


def _sampled(grid: Points) -> PlaneSample | None:
    """Hypotheses of planes in a grid (h, w, 3) of points; Z = 0 is no reading."""
    valid = grid[..., 2] > 0
    if valid.sum() < _MIN_POINTS:
        return None
    planes = _hypotheses(grid, valid)
    if not len(planes):
        return None
    points = grid[valid]
    voters = points[::2].astype(np.float32)
    heights = planes[:, :3].astype(np.float32) @ voters.T
    heights += planes[:, 3:].astype(np.float32)
    np.abs(heights, out=heights)
    inliers = (heights < np.float32(BAND_FRACTION) * voters[:, 2]).astype(np.float32)
    return PlaneSample(grid, points, planes, voters, inliers)


def find_support_planes(
    sample: PlaneSample, up: tuple[float, float, float] | None = None
) -> tuple[Plane, ...]:
    """The horizontal surfaces of an upright frame (floor, table, seat), the dominant one first.

    Each of the others is the largest among the remaining readings and parallel to the first within
    `_MAX_TILT_RAD`. Empty if there is none.

    Args:
        sample: of the upright cloud.
        up: the known unit vector against gravity; None = the top of the image does not point to
            the ground, and no more is known.
    """
    normals = sample.planes[:, :3]
    weight = _up_weights(normals)
    if up is None:
        weight[weight <= _MIN_WEIGHT] = 0.0
    else:
        weight = np.where(
            _within(normals, up, np.cos(_MAX_TILT_RAD)), np.maximum(weight, _MIN_WEIGHT), 0.0
        )
    allowed = weight > 0
    found: list[Plane] = []
    remaining = np.ones(len(sample.points), bool)
    for _ in range(_MAX_PLANES):
        if not weight.any():
            break
        count = sample.inliers @ remaining[::2].astype(np.float32)
        best = int(np.argmax(weight * count))
        if weight[best] * count[best] == 0 or count[best] < _min_count(sample):
            break
        plane = _refined(sample.points[remaining], sample.planes[best])
        near = np.abs(plane.heights(sample.points)) < 2 * BAND_FRACTION * sample.points[:, 2]
        share = float(np.mean(near & remaining))
        remaining &= ~near
        if not found:
            remaining &= ~_steep(sample.grid, plane)[sample.grid[..., 2] > 0]
        found.append(replace(plane, share=share))
        # The dominant plane defines "horizontal"; only the search for it needs the prior.
        weight = (allowed & _within(normals, found[0].normal, np.cos(_MAX_TILT_RAD))).astype(float)
        if remaining.sum() < _MIN_POINTS:
            break
    if found and found[0].share < _MIN_DOMINANT_FRACTION:
        found += _small_levels(sample, found[0], remaining)
    return tuple(found)


def _small_levels(sample: PlaneSample, parallel: Plane, remaining: Mask) -> list[Plane]:
    """Level surfaces among readings (N,) that are too small for `_hypotheses`: shelf boards.

    They are peaks among the heights of the readings whose neighbours are as high.

    Args:
        parallel: shows what is level.
    """
    height = sample.grid @ np.array(parallel.normal) + parallel.offset
    z = sample.grid[..., 2]
    level = np.zeros(z.shape, bool)
    valid = (z[:-1] > 0) & (z[1:] > 0)
    level[1:] = valid & (np.abs(height[1:] - height[:-1]) < BAND_FRACTION * z[1:])
    heights, z = height[z > 0], sample.points[:, 2]
    left = remaining & level[sample.grid[..., 2] > 0] & (heights < parallel.offset)
    found: list[Plane] = []
    while len(found) < _MAX_SMALL_LEVELS and np.count_nonzero(left) >= 3:
        chosen, width = heights[left], BAND_FRACTION * median(z[left])
        low = float(chosen.min())
        bins = np.bincount(np.minimum((chosen - low) / width, _MAX_BINS).astype(int), minlength=2)
        pairs = bins[:-1] + bins[1:]
        best = int(np.argmax(pairs))
        if pairs[best] < _MIN_SMALL_FRACTION * len(heights):
            break
        on = left & (np.abs(heights - (low + (best + 1) * width)) < width)
        middle = median(heights[on])
        spread = MAD * median(np.abs(heights[on] - middle) / z[on])
        share = float(np.mean(on))
        found.append(replace(parallel.raised(middle, spread), share=share))
        left &= np.abs(heights - middle) > 2 * width
    return found


def _steep(grid: Points, plane: Plane) -> Mask:
    """(h, w): the surface at a reading rises from the plane, like a wall or the side of an object.

    A plane that is nearly level crosses a wall in a band, whose readings must not be counted as
    those of a level surface. The slope is that between the readings above and below on the grid.
    """
    steep = np.zeros(grid.shape[:2], bool)
    upper, lower = grid[:-2], grid[2:]
    along = upper - lower
    rise = np.abs(along @ np.array(plane.normal))
    valid = (upper[..., 2] > 0) & (lower[..., 2] > 0)
    steep[1:-1] = valid & (rise > _STEEP_SINE * np.linalg.norm(along, axis=-1))
    return steep


def orientation(sample: PlaneSample) -> Orientation:
    """Which way is up without a known vector: the side of the dominant plane, if it is clear.

    Objects stand on the camera's side of their support, whatever the camera's roll. The image's
    up axis counts where the plane is not clear, and it is right for most cameras: against it, a
    plane needs more evidence. Even then, a sideways camera over a table sees the same as an upright
    one beside a wall with shelves, so only an upside-down camera is certain.
    """
    count = sample.inliers.sum(axis=1)
    best = int(np.argmax(count))
    normal, height = sample.planes[best, :3], _relative_heights(sample, best)
    beyond = (np.abs(height) > 2 * BAND_FRACTION).astype(np.float32)
    normals = sample.planes[:, :3]
    rivals = (sample.inliers @ beyond) * (normals @ normal < _RIVAL_COS)
    rival = int(np.argmax(rivals))
    share, rival_share = count[best] / len(height), rivals[rival] / max(count[best], 1)
    if share < _CLEAR_FRACTION:
        return Orientation(0, "no large plane shows what is level")
    if -normal[2] > _FACING_COS:
        return Orientation(0, "the largest plane faces the camera: a floor from above, or a wall")
    turns = turns_to_upright((float(normal[0]), float(normal[1]), float(normal[2])))
    if turns == 0:
        other = _relative_heights(sample, rival)
        touching = _touching_fraction(height, np.abs(other) > _TOUCHING_HEIGHTS[1])
        on_rival = _touching_fraction(other, np.abs(height) > _TOUCHING_HEIGHTS[1])
        bare = touching > _TOUCHING_FRACTION and on_rival < _BARE_TOUCHING_FRACTION * touching
        limit = _BARE_RIVAL_FRACTION if bare else _CLEAR_RIVAL_FRACTION
        clear = rival_share <= limit
        return Orientation(0, "" if clear else "two large planes are not parallel: floor or wall?")
    sure = share > _SURE_FRACTION and rival_share < _SURE_RIVAL_FRACTION
    # Walls touch a ceiling; whatever is flat and not parallel does not count as a thing here.
    flat = (normals @ normal < _RIVAL_COS) & (rivals > _min_count(sample))
    if sure and _touching_fraction(height, ~sample.inliers[flat].any(axis=0)) > _TOUCHING_FRACTION:
        sideways = "the camera seems to be turned by 90 degrees, or it sees only a wall"
        return Orientation(turns, "" if turns == 2 else sideways)
    return Orientation(0, "the largest plane is no floor of an upright camera: a wall or ceiling?")


def contradicts(sample: PlaneSample, up: tuple[float, float, float]) -> bool:
    """Whether the frame's planes show that a known up vector is wrong.

    The dominant plane is then neither level nor a wall, or level with the camera below it, and no
    floor is nearly as large. A view of nothing but a ceiling looks the same as a table with the
    opposite vector (the direction of gravity), so it counts as wrong too.
    """
    count = sample.inliers.sum(axis=1)
    best = int(np.argmax(count))
    if count[best] < _CLEAR_FRACTION * len(sample.voters):
        return False
    cosines = sample.planes[:, :3] @ np.array(up)
    level = cosines > np.cos(_MAX_TILT_RAD)
    rival = float(np.max(count * level))
    return bool(
        not level[best]
        and abs(cosines[best]) > _SLOPED_COS
        and rival < _CLEAR_RIVAL_FRACTION * count[best]
    )


def seems_range(sample: PlaneSample) -> bool:
    """Whether depth is the range along each ray instead of Z: only as range is a surface plane."""
    share = _largest_share(sample)
    if share > _BENT_FRACTION:
        return False
    # A point Z (x, y, 1) whose Z is the range lies at Z (x, y, 1) / |(x, y, 1)|.
    distance = np.maximum(np.linalg.norm(sample.grid, axis=-1, keepdims=True), 1e-9)
    as_range = _sampled(sample.grid * sample.grid[..., 2:] / distance)
    return as_range is not None and _largest_share(as_range) > max(
        _RANGE_GAIN * share, _UNBENT_FRACTION
    )


def _largest_share(sample: PlaneSample) -> float:
    """Fraction of the readings that lie on the largest plane."""
    return float(sample.inliers.sum(axis=1).max()) / len(sample.voters)


def _relative_heights(sample: PlaneSample, plane: int) -> npt.NDArray[np.float32]:
    """Heights (M,) of the voters above a hypothesis, as fractions of their distance."""
    normal, offset = sample.planes[plane, :3], sample.planes[plane, 3]
    heights: npt.NDArray[np.float32] = sample.voters @ normal.astype(np.float32)
    return (heights + np.float32(offset)) / sample.voters[:, 2]


def _touching_fraction(heights: npt.NDArray[np.float32], counted: Mask | np.bool_) -> float:
    """Fraction of the readings (M,) that lie just above a plane, of those that count."""
    low, high = _TOUCHING_HEIGHTS
    return float(np.mean((heights > low) & (heights < high) & counted))


def _min_count(sample: PlaneSample) -> float:
    return _MIN_INLIER_FRACTION * len(sample.voters)


def _within(normals: Points, axis: tuple[float, float, float], cosine: float) -> Mask:
    """Mask (K,) of the unit normals (K, 3) with at least that cosine to an axis."""
    within: Mask = normals @ np.array(axis) > cosine
    return within


def _up_weights(normals: Points) -> Points:
    """Prior weights (K,) in [0, 1] of unit normals (K, 3) to point up in an upright image."""
    cosines = normals @ np.array(IMAGE_UP)
    return np.clip((cosines - _NO_WEIGHT_COS) / (_FULL_WEIGHT_COS - _NO_WEIGHT_COS), 0.0, 1.0) ** 2


def _hypotheses(grid: Points, valid: Mask) -> Points:
    """Planes (K, 4) through triples of neighbours on the grid (h, w, 3), facing the camera."""
    rng = np.random.default_rng(0)  # deterministic: the same frame gives the same planes
    height, width = valid.shape
    reach = max(3, round(_REACH_FRACTION * width))
    rows, columns = np.nonzero(valid)
    first = rng.integers(len(rows), size=_HYPOTHESES)
    corners = []
    for _ in range(2):
        row = np.clip(rows[first] + rng.integers(-reach, reach + 1, _HYPOTHESES), 0, height - 1)
        column = np.clip(
            columns[first] + rng.integers(-reach, reach + 1, _HYPOTHESES), 0, width - 1
        )
        corners.append((row, column))
    keep = valid[corners[0]] & valid[corners[1]]
    a = grid[rows[first], columns[first]][keep]
    b, c = (grid[corner][keep] for corner in corners)
    normal = np.cross(b - a, c - a)
    size = np.linalg.norm(normal, axis=1)
    not_collinear = size > 1e-4 * a[:, 2] ** 2
    normal, a = normal[not_collinear] / size[not_collinear, None], a[not_collinear]
    offset = -np.einsum("ij,ij->i", normal, a)
    side = np.where(offset < 0, -1.0, 1.0)
    return np.concatenate([normal, offset[:, None]], axis=1) * side[:, None]


def _refined(points: Points, start: Points) -> Plane:
    """Trimmed least squares from a hypothesis (4,), with residuals relative to the distance.

    Depth noise grows with the square of the distance. Relative residuals limit the weight of far
    readings.
    """
    normal, offset = start[:3], float(start[3])
    band = BAND_FRACTION
    previous = np.zeros(len(points), bool)
    for _ in range(5):
        residuals = (points @ normal + offset) / points[:, 2]
        inliers = np.abs(residuals) < band
        if np.count_nonzero(inliers) < 10 or np.array_equal(inliers, previous):
            break
        previous = inliers
        chosen = points[inliers]
        weight = 1.0 / chosen[:, 2] ** 2
        centre = (weight[:, None] * chosen).sum(axis=0) / weight.sum()
        centred = (chosen - centre) * np.sqrt(weight)[:, None]
        fitted = np.linalg.eigh(centred.T @ centred)[1][:, 0]
        normal = fitted if fitted @ normal > 0 else -fitted
        offset = -float(normal @ centre)
        residuals = (chosen @ normal + offset) / chosen[:, 2]
        spread = MAD * median(np.abs(residuals - median(residuals)))
        band = float(np.clip(3 * spread, 0.25 * BAND_FRACTION, BAND_FRACTION))
    residuals = (points @ normal + offset) / points[:, 2]
    residuals = residuals[np.abs(residuals) < BAND_FRACTION]
    spread = MAD * median(np.abs(residuals)) if residuals.size else BAND_FRACTION
    return Plane((float(normal[0]), float(normal[1]), float(normal[2])), offset, spread)
