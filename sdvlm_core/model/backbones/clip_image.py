"""Colour image -> the square, normalised picture a CLIP tower sees, and where it put the pixels.

LLaVA pads the frame to a square before CLIP resizes it; everything that must line up with image
tokens (the depth grid above all) takes the geometry of that padding from here. Knows nothing of
depth or models.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: openai/clip's normalisation, which every LLaVA tower uses.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
#: LLaVA's padding colour, int(255 * CLIP_MEAN).
PADDING_RGB = tuple(int(255 * channel) for channel in CLIP_MEAN)


@dataclass(frozen=True)
class SquareCanvas:
    """A frame of `width` x `height` centred on a square of side `side`, pixels."""

    width: int
    height: int

    @property
    def side(self) -> int:
        """Side of the square."""
        return max(self.width, self.height)

    @property
    def left(self) -> int:
        """Padding columns left of the frame (the odd one goes right, as LLaVA does)."""
        return (self.side - self.width) // 2

    @property
    def top(self) -> int:
        """Padding rows above the frame."""
        return (self.side - self.height) // 2


def square_picture(rgb: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 -> (size, size, 3) uint8: padded to a square, resized as CLIP does.

    Pillow's bicubic (antialiased) is what CLIP's own preprocessing uses; OpenCV's is not the same.
    """
    from PIL import Image

    canvas = SquareCanvas(rgb.shape[1], rgb.shape[0])
    padded = np.empty((canvas.side, canvas.side, 3), np.uint8)
    padded[:] = PADDING_RGB
    padded[canvas.top : canvas.top + canvas.height, canvas.left : canvas.left + canvas.width] = rgb
    resized = Image.fromarray(padded).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def clip_pixels(rgb: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.float32]:
    """(H, W, 3) uint8 -> (3, size, size) float32, padded, resized and normalised for CLIP."""
    scale = np.float32(1 / 255) / np.array(CLIP_STD, np.float32)
    offset = np.array(CLIP_MEAN, np.float32) / np.array(CLIP_STD, np.float32)
    return np.ascontiguousarray((square_picture(rgb, size) * scale - offset).transpose(2, 0, 1))
