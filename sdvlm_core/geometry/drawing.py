"""Drawing of measured objects into their colour image.

Draws regions, the objects' outlines, their upright boxes with length, width and height in three
colours, the values with their uncertainty, and the outlines of the support planes. What makes the
whole frame doubtful, and what lies outside it, is written at the lower border. Text is sized for
640x480 and scales with the image. Does not measure; does not know files or messages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from sdvlm_core.cautions import Caution
from sdvlm_core.errors import shown
from sdvlm_core.geometry.measured import Measured
from sdvlm_core.geometry.pairs import Pair
from sdvlm_core.geometry.point_cloud import Cloud, Points
from sdvlm_core.geometry.scene import Scene
from sdvlm_core.geometry.support_plane import Plane, plane_outline

Picture = npt.NDArray[np.uint8]
Rectangle = tuple[int, int, int, int]

#: RGB of length, width, height: RViz's colours of x, y, z.
AXES = ((255, 70, 70), (80, 230, 80), (90, 150, 255))
#: RGB of a support plane's outline, and of a pair's line.
SUPPORT, PAIR = (0, 200, 200), (255, 120, 255)
_REGION, _OUTLINE, _EDGE = (255, 255, 255), (255, 220, 0), (200, 200, 200)
_LABEL, _WARNING = (255, 255, 255), (255, 190, 60)
#: Contours smaller than this are not drawn.
_MIN_CONTOUR_PX2 = 20
#: OpenCV clips lines with 16-bit coordinates; points farther outside the image are moved here.
_MAX_COORDINATE_PX = 8000
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_measurements(
    scene: Scene, found: Sequence[Measured], pairs: Sequence[Pair] = ()
) -> Picture:
    """A copy (H, W, 3) uint8 RGB of the scene's colour image with the measurements drawn in.

    Args:
        scene: the frame that was measured.
        found: the result of `measure`.
        pairs: a line between the centres with the distance beside it; only drawn for a single
            pair, because lines between many objects hide the image.
    """
    cloud = scene.cloud
    picture = scene.frame.rgb.copy()
    scale = max(0.5, cloud.width / 640)
    for plane in supports(found):
        for outline in plane_outline(cloud, plane):
            cv2.polylines(picture, [outline.astype(np.int32)], True, SUPPORT, 1, cv2.LINE_AA)
    inside = [one for one in found if Caution.OUTSIDE_IMAGE not in one.warnings]
    for one in inside:
        _outline(picture, one, scale)
    for one in inside:
        _box(picture, cloud, one, scale)
    taken: list[Rectangle] = []
    by_label = {one.label: one for one in found}
    for pair in shown_pairs(pairs):
        ends = np.array([by_label[pair.a].position_m, by_label[pair.b].position_m])
        _pair(picture, cloud, ends, pair_texts(pair, scene.cautions), scale, taken)
    _border_text(picture, scene.cautions, found, scale, taken)
    for one in inside:
        _caption(picture, one, scene.cautions, scale, taken)
    return picture


def supports(found: Sequence[Measured]) -> list[Plane]:
    """The support planes of the objects, each once, in the order of the objects."""
    planes = dict.fromkeys(one.support_plane for one in found)
    return [plane for plane in planes if plane is not None]


def shown_pairs(pairs: Sequence[Pair]) -> list[Pair]:
    """The pair, if it is the only one and was measured; else an empty list."""
    return [pair for pair in pairs if len(pairs) == 1 and not math.isnan(pair.distance_m)]


def _outline(picture: Picture, one: Measured, scale: float) -> None:
    region = one.region
    if region.box is not None:
        x1, y1, x2, y2 = (
            round(min(max(value, -_MAX_COORDINATE_PX), _MAX_COORDINATE_PX)) for value in region.box
        )
        cv2.rectangle(picture, (x1, y1), (x2 - 1, y2 - 1), _REGION, 1)
    elif region.point is not None:
        at = (round(region.point[0]), round(region.point[1]))
        cv2.drawMarker(picture, at, _REGION, cv2.MARKER_CROSS, round(12 * scale), 1, cv2.LINE_AA)
    if one.pixels is None or not len(one.pixels.rows):
        return
    mask = np.zeros(picture.shape[:2], np.uint8)
    mask[one.pixels.rows, one.pixels.columns] = 1
    if one.pixels.step > 1:  # fill the pixels between the subsampled ones
        mask = cv2.dilate(mask, np.ones((one.pixels.step, one.pixels.step), np.uint8))
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    kept = [contour for contour in contours if cv2.contourArea(contour) > _MIN_CONTOUR_PX2]
    cv2.drawContours(picture, kept, -1, _OUTLINE, 1, cv2.LINE_AA)


def _projected(cloud: Cloud, points: Points) -> npt.NDArray[np.int32] | None:
    """Pixels (M, 2) of points (M, 3); None if one is not finite or not in front of the camera."""
    if not (np.isfinite(points).all() and (points[:, 2] > 0.01).all()):
        return None
    u, v = cloud.pixels(points)
    pixels = np.round(np.stack([u, v], axis=1))
    return np.clip(pixels, -_MAX_COORDINATE_PX, _MAX_COORDINATE_PX).astype(np.int32)


def _box(picture: Picture, cloud: Cloud, one: Measured, scale: float) -> None:
    """The upright box: thin edges, thick ones where three meet at the nearest lower corner."""
    if one.box is None or not one.box.size.all():
        return
    pixels, nearest = _projected(cloud, one.box.corners), one.box.nearest_corner
    if pixels is None:
        return
    for start in range(8):
        for axis in range(3):
            end = start ^ (1 << axis)
            if start < end and nearest not in (start, end):
                ends = (pixels[start].tolist(), pixels[end].tolist())
                cv2.line(picture, *ends, _EDGE, 1, cv2.LINE_AA)
    for axis, colour in enumerate(AXES):
        ends = (pixels[nearest].tolist(), pixels[nearest ^ (1 << axis)].tolist())
        cv2.line(picture, *ends, colour, max(2, round(2 * scale)), cv2.LINE_AA)


def _pair(
    picture: Picture,
    cloud: Cloud,
    centres: Points,
    texts: list[str],
    scale: float,
    taken: list[Rectangle],
) -> None:
    """A line between two centres (2, 3), and beside it the distance and the warnings of a pair."""
    ends = _projected(cloud, centres)
    if ends is None:
        return
    cv2.line(picture, ends[0].tolist(), ends[1].tolist(), PAIR, 1, cv2.LINE_AA)
    distance, *warnings = texts
    lines = [[(distance, PAIR)], *([(warning, _WARNING)] for warning in warnings)]
    middle = ends.mean(axis=0).astype(int)
    _text(picture, lines, (int(middle[0]), int(middle[1])), scale, taken)


def _border_text(
    picture: Picture,
    cautions: Sequence[Caution],
    found: Sequence[Measured],
    scale: float,
    taken: list[Rectangle],
) -> None:
    """The frame's cautions and the regions outside the image, at the lower left."""
    lines = [f"frame: {_words(code)}" for code in cautions]
    outside = [one.label for one in found if Caution.OUTSIDE_IMAGE in one.warnings]
    if outside:
        lines.append(shown(f"{_words(Caution.OUTSIDE_IMAGE)}: {', '.join(outside)}", 80))
    if lines:
        at = (0, picture.shape[0] + picture.shape[0] // 2)
        _text(picture, [[(line, _WARNING)] for line in lines], at, scale, taken)


def _caption(
    picture: Picture,
    one: Measured,
    cautions: Sequence[Caution],
    scale: float,
    taken: list[Rectangle],
) -> None:
    corner = one.region.box or one.region.point or (4.0, 4.0)
    x1, y1 = one.pixels.box[:2] if one.pixels is not None else map(round, corner[:2])
    lines = [[(shown(one.label, 80), _LABEL)]]
    lines += [[(text, colour)] for text, colour in zip(size_texts(one), AXES, strict=False)]
    lines += [[(_words(code), _WARNING)] for code in one.warnings if code not in cautions]
    _text(picture, lines, (x1, y1), scale, taken)


def _words(code: Caution) -> str:
    return code.value.replace("_", " ")


def size_texts(one: Measured) -> list[str]:
    """Length, width and height as text; empty if the object was not measured."""
    if one.box is None:
        return []
    sizes = {"L": "length_m", "W": "width_m", "H": "height_m"}
    return [
        f"{name} {length_text(getattr(one, key), one.std_dev[key])}" for name, key in sizes.items()
    ]


def pair_texts(pair: Pair, cautions: Sequence[Caution] = ()) -> list[str]:
    """The distance of a pair as text, then its warnings without the frame's cautions."""
    warnings = [_words(code) for code in pair.warnings if code not in cautions]
    return [length_text(pair.distance_m, pair.distance_std_dev_m), *warnings]


def length_text(value: float, std_dev: float) -> str:
    """A length with its uncertainty, in the unit that reads best: "97 +-5 mm", "1.42 +-0.03 m"."""
    if math.isnan(value):
        return "?"
    if value < 1.0:
        return f"{1000 * value:.0f} +-{1000 * std_dev:.0f} mm"
    return f"{value:.2f} +-{std_dev:.2f} m"


def _text(
    picture: Picture,
    lines: list[list[tuple[str, tuple[int, int, int]]]],
    at: tuple[int, int],
    scale: float,
    taken: list[Rectangle],
) -> None:
    """Lines of coloured words on a dark background, near `at`, without covering other text."""
    size, step, pad = 0.38 * scale, round(13 * scale), round(3 * scale)
    width = max(
        sum(cv2.getTextSize(word, _FONT, size, 1)[0][0] for word, _ in line) for line in lines
    )
    across, down = width + 2 * pad, step * len(lines) + pad
    x, y = _free_place(at, (across, down), picture.shape, taken)
    taken.append((x, y, x + across, y + down))
    background = picture[y : y + down, x : x + across]
    background[:] = (background * 0.2).astype(np.uint8)
    for index, line in enumerate(lines):
        left = x + pad
        for word, colour in line:
            base = (left, y + step * (index + 1) - round(2 * scale))
            cv2.putText(picture, word, base, _FONT, size, colour, 1, cv2.LINE_AA)
            left += cv2.getTextSize(word, _FONT, size, 1)[0][0]


def _free_place(
    at: tuple[int, int],
    size: tuple[int, int],
    shape: tuple[int, ...],
    taken: list[Rectangle],
) -> tuple[int, int]:
    """The free position inside the image that is closest to the one above `at`."""
    across, down = size
    max_x, max_y = max(0, shape[1] - across), max(0, shape[0] - down)
    wanted = (at[0], at[1] - down)
    best, best_cost = (min(max(wanted[0], 0), max_x), min(max(wanted[1], 0), max_y)), math.inf
    for y in range(0, max_y + 1, 6):
        for x in range(0, max_x + 1, 12):
            cost = abs(x - wanted[0]) + abs(y - wanted[1])
            if cost >= best_cost:
                continue
            if all(
                x + across <= left or x >= right or y + down <= top or y >= bottom
                for left, top, right, bottom in taken
            ):
                best, best_cost = (x, y), cost
    return best
