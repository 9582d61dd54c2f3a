"""Draws answers into the picture they are about: crosses where they point, words underneath.

The scene's pixels stay where they are; words go into a strip below it, so nothing is hidden. Uses
matplotlib's DejaVu Sans, which has the letters OpenCV's own font lacks. Does not know messages,
files or time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sdvlm_core.frame import pixel_from_fraction

Picture = npt.NDArray[np.uint8]

#: Told apart by people who see red and green alike; questions take them in turn.
COLORS = ("#ff2d78", "#00b8d9", "#ffab00", "#8c6bff", "#38d3a5", "#ff7452")
_STRIP, _INK, _SOFT, _BAD = "#101418", "#ffffff", "#98a4b1", "#ff6b81"


@lru_cache(maxsize=8)
def _font(size: int) -> Any:
    import matplotlib as mpl
    from PIL import ImageFont

    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def draw_points(rgb: Picture, points: Sequence[tuple[float, float, str]]) -> Picture:
    """A copy (H, W, 3) with a cross at each (u, v, colour), u and v in [0, 1] of the picture."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(rgb)
    draw = ImageDraw.Draw(image)
    height, width = rgb.shape[:2]
    arm = max(5, round(min(height, width) / 40))
    thick = max(1, round(arm / 4))
    for u, v, color in points:
        x, y = pixel_from_fraction(u, v, width, height)
        for ink, extra in (("#000000", 2), (color, 0)):  # dark rim, for bright pictures
            draw.line((x - arm, y, x + arm, y), fill=ink, width=thick + extra)
            draw.line((x, y - arm, x, y + arm), fill=ink, width=thick + extra)
    return np.asarray(image)


def strip_height(width: int, lines: int) -> int:
    """Pixels that `add_strip` adds for so many answers below a picture of that width."""
    return lines * 2 * _line_height(width) + _line_height(width) // 2


def add_strip(
    rgb: Picture, rows: Sequence[tuple[str, str, str, bool]], lines: int | None = None
) -> Picture:
    """The picture with (question, answer, colour, whether it is an answer) in words below it.

    `lines` keeps room for so many, so that the pictures of a video are of one size.
    """
    from PIL import Image, ImageDraw

    height, width = rgb.shape[:2]
    line = _line_height(width)
    strip = strip_height(width, max(len(rows), lines or 0))
    image = Image.new("RGB", (width, height + strip), _STRIP)
    image.paste(Image.fromarray(rgb), (0, 0))
    draw = ImageDraw.Draw(image)
    font = _font(line * 3 // 4)
    top = height + line // 4
    for question, answer, color, good in rows:
        draw.rectangle((line // 3, top + 2, line // 3 + 3, top + 2 * line - 3), fill=color)
        for text, ink in ((question, _SOFT), (answer, _INK if good else _BAD)):
            draw.text((line, top), _cut(text, font, width - 2 * line), fill=ink, font=font)
            top += line
    return np.asarray(image)


def _line_height(width: int) -> int:
    return max(10, round(width / 36))


def _cut(text: str, font: Any, width: int) -> str:
    """One line of text that is no wider than that."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high)
            if font.getlength(text[:middle] + "\u2026") <= width
            else (low, middle - 1)
        )
    return text[:low] + "\u2026"


def jpeg(rgb: Picture, quality: int = 90) -> bytes:
    """The picture as JPEG."""
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def shrunk(rgb: Picture, width: int) -> Picture:
    """The picture no wider than that."""
    import cv2

    if rgb.shape[1] <= width:
        return rgb
    size = (width, round(rgb.shape[0] * width / rgb.shape[1]))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
