"""Draws answers into their image: crosses at the image points, captions below the image.

The captions are in a strip below the scene, so they hide nothing. Uses matplotlib's DejaVu Sans,
because OpenCV's own fonts are ASCII only. Does not know messages, files or time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sdvlm_core.frame import pixel_from_fraction

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

Picture = npt.NDArray[np.uint8]

#: One colour for each question in turn; distinguishable with red-green colour blindness.
COLORS = ("#ff2d78", "#00b8d9", "#ffab00", "#8c6bff", "#38d3a5", "#ff7452")
_STRIP_COLOR, _ANSWER_COLOR, _QUESTION_COLOR = "#101418", "#ffffff", "#98a4b1"
_ERROR_COLOR, _CAUTION_COLOR = "#ff6b81", "#ffab00"


@dataclass(frozen=True)
class Caption:
    """A question and its answer, or its error if not `answered`, marked with a colour.

    `cautions` are the codes of the answer's cautions.
    """

    question: str
    answer: str
    color: str
    answered: bool
    cautions: tuple[str, ...] = ()


@lru_cache(maxsize=8)
def _font(size: int) -> FreeTypeFont:
    import matplotlib as mpl
    from PIL import ImageFont

    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def draw_points(rgb: Picture, points: Sequence[tuple[float, float, str]]) -> Picture:
    """A copy (H, W, 3) with a cross at each (u, v, colour); u and v are image fractions."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(rgb)
    draw = ImageDraw.Draw(image)
    height, width = rgb.shape[:2]
    arm = max(5, round(min(height, width) / 40))
    thick = max(1, round(arm / 4))
    for u, v, color in points:
        x, y = pixel_from_fraction(u, v, width, height)
        for fill, rim in (("#000000", 2), (color, 0)):  # dark rim, for bright images
            draw.line((x - arm, y, x + arm, y), fill=fill, width=thick + rim)
            draw.line((x, y - arm, x, y + arm), fill=fill, width=thick + rim)
    return np.asarray(image)


def strip_height(width: int, captions: int) -> int:
    """Height in pixels of the strip for this many captions below an image of this width."""
    return captions * 2 * _line_height(width) + _line_height(width) // 2


def add_captions(rgb: Picture, captions: Sequence[Caption], room_for: int = 0) -> Picture:
    """The image with the captions in a strip below it.

    The strip has room for at least `room_for` captions, so that all images of a video have the same
    size.
    """
    from PIL import Image, ImageDraw

    height, width = rgb.shape[:2]
    line = _line_height(width)
    strip = strip_height(width, max(len(captions), room_for))
    image = Image.new("RGB", (width, height + strip), _STRIP_COLOR)
    image.paste(Image.fromarray(rgb), (0, 0))
    draw = ImageDraw.Draw(image)
    font = _font(line * 3 // 4)
    top = height + line // 4
    for caption in captions:
        mark = (line // 3, top + 2, line // 3 + 3, top + 2 * line - 3)
        draw.rectangle(mark, fill=caption.color)
        answer, answer_color = caption.answer, _ANSWER_COLOR
        if not caption.answered:
            answer_color = _ERROR_COLOR
        elif caption.cautions:  # first, because a long line is cut at its end
            answer, answer_color = f"[{', '.join(caption.cautions)}] {answer}", _CAUTION_COLOR
        for text, fill in ((caption.question, _QUESTION_COLOR), (answer, answer_color)):
            draw.text((line, top), _shortened(text, font, width - 2 * line), fill=fill, font=font)
            top += line
    return np.asarray(image)


def _line_height(width: int) -> int:
    return max(10, round(width / 36))


def _shortened(text: str, font: FreeTypeFont, width: int) -> str:
    """The text as one line of at most `width` pixels; an ellipsis marks omitted text."""
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
    """The image as JPEG."""
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def shrink(rgb: Picture, width: int) -> Picture:
    """The image, scaled down to at most this width."""
    import cv2

    if rgb.shape[1] <= width:
        return rgb
    size = (width, round(rgb.shape[0] * width / rgb.shape[1]))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
