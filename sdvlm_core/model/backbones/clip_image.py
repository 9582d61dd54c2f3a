"""Colour image -> the square, normalised pixels that a CLIP tower takes as input.

Pads as LLaVA does and resizes as CLIP does; `image_tokens` has the geometry of the padding. Does
not know depth or models.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sdvlm_core.model.image_tokens import SquareCanvas

#: openai/clip's normalisation, used by every LLaVA tower.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
#: LLaVA's padding colour, int(255 * CLIP_MEAN).
PADDING_RGB = tuple(int(255 * channel) for channel in CLIP_MEAN)
# Pixels that are padded and resized at a time; a frame of 4 megapixels is one block.
_BLOCK_PX = 1 << 22


def square_picture(rgb: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 -> (size, size, 3) uint8: padded to a square, resized as CLIP does.

    Pillow's bicubic (antialiased) is what CLIP's own preprocessing uses; OpenCV's is not the same.
    Pillow resizes every row alone, then every column. Therefore the rows can be resized before the
    rows of padding are added: the pixels are the same, and no side x side image is made.
    """
    from PIL import Image

    canvas = SquareCanvas(rgb.shape[1], rgb.shape[0])
    narrow = np.empty((canvas.side, size, 3), np.uint8)
    narrow[:] = PADDING_RGB
    block = max(1, _BLOCK_PX // canvas.side)
    for row in range(0, canvas.height, block):
        rows = rgb[row : row + block]
        if canvas.left or canvas.width < canvas.side:
            padded = np.empty((len(rows), canvas.side, 3), np.uint8)
            padded[:] = PADDING_RGB
            padded[:, canvas.left : canvas.left + canvas.width] = rows
            rows = padded
        resized = Image.fromarray(np.ascontiguousarray(rows)).resize(
            (size, len(rows)), Image.Resampling.BICUBIC
        )
        narrow[canvas.top + row : canvas.top + row + len(rows)] = np.asarray(resized)
    return np.asarray(Image.fromarray(narrow).resize((size, size), Image.Resampling.BICUBIC))


def clip_pixels(rgb: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.float32]:
    """(H, W, 3) uint8 -> (3, size, size) float32, padded, resized and normalised for CLIP."""
    scale = np.float32(1 / 255) / np.array(CLIP_STD, np.float32)
    offset = np.array(CLIP_MEAN, np.float32) / np.array(CLIP_STD, np.float32)
    return np.ascontiguousarray((square_picture(rgb, size) * scale - offset).transpose(2, 0, 1))
