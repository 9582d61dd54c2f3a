"""Colour image -> the square, normalised pixels that a CLIP tower takes as input.

Pads as LLaVA does and resizes as CLIP does; `image_tokens` has the geometry of the padding. Does
not know depth or models.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sdvlm_core.model.image_tokens import SquareCanvas

if TYPE_CHECKING:
    import torch

#: openai/clip's normalisation, used by every LLaVA tower.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
#: LLaVA's padding colour, int(255 * CLIP_MEAN).
PADDING_RGB = tuple(int(255 * channel) for channel in CLIP_MEAN)
#: Fractional bits of Pillow's weights for 8-bit pictures.
_WEIGHT_BITS = 22
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


def clip_pixels_on(device: torch.device, rgb: npt.NDArray[np.uint8], size: int) -> torch.Tensor:
    """`clip_pixels` as a tensor on a device; on a GPU the picture is resized there.

    The pixels are the same, to the bit: Pillow computes with integers, whose sums are exact in
    float64 too.
    """
    import torch

    if device.type != "cuda":
        return torch.from_numpy(clip_pixels(rgb, size)).to(device)
    return resized_on(device, rgb, size)


def resized_on(device: torch.device, rgb: npt.NDArray[np.uint8], size: int) -> torch.Tensor:
    """`clip_pixels` with the device's matrix products."""
    import torch

    canvas = SquareCanvas(rgb.shape[1], rgb.shape[0])
    weights = _weights(canvas.side, size, device)
    padding = torch.tensor(PADDING_RGB, dtype=torch.uint8, device=device)
    narrow = padding[:, None, None].double().repeat(1, canvas.side, size)
    block = max(1, _BLOCK_PX // canvas.side)
    for row in range(0, canvas.height, block):
        rows = torch.from_numpy(np.ascontiguousarray(rgb[row : row + block])).to(device)
        padded = padding.repeat(len(rows), canvas.side, 1)
        padded[:, canvas.left : canvas.left + canvas.width] = rows
        top = canvas.top + row
        columns = _rounded(padded.permute(2, 0, 1).double() @ weights.T)
        narrow[:, top : top + len(rows)] = columns
    grey = _rounded(weights @ narrow).float()
    scale = np.float32(1 / 255) / np.array(CLIP_STD, np.float32)
    offset = np.array(CLIP_MEAN, np.float32) / np.array(CLIP_STD, np.float32)
    factors = torch.from_numpy(np.stack([scale, offset])).to(device)[:, :, None, None]
    return grey * factors[0] - factors[1]


def _rounded(sums: torch.Tensor) -> torch.Tensor:
    """Sums of pixels with integer weights -> pixels 0..255, rounded as Pillow does."""
    return ((sums + 2.0 ** (_WEIGHT_BITS - 1)) / 2.0**_WEIGHT_BITS).floor().clamp(0, 255)


@lru_cache(maxsize=8)
def _weights(length: int, size: int, device: torch.device) -> torch.Tensor:
    """(size, length) float64: Pillow's bicubic weights of `length` pixels, integers.

    Keys' cubic kernel with a = -0.5, widened by the scale where the picture shrinks; the weights of
    an output pixel are normalised, then rounded to 22 fractional bits.
    """
    import torch

    scale = length / size
    width = max(scale, 1.0)
    centers = (np.arange(size)[:, None] + 0.5) * scale
    pixels = np.arange(length)[None]
    inside = (pixels >= np.floor(np.maximum(centers - 2 * width + 0.5, 0))) & (
        pixels < np.floor(np.minimum(centers + 2 * width + 0.5, length))
    )
    x = np.abs(pixels - centers + 0.5) / width
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    kernel = np.where(inside, np.where(x < 1, near, np.where(x < 2, far, 0.0)), 0.0)
    kernel /= kernel.sum(1, keepdims=True)
    scaled = kernel * 2.0**_WEIGHT_BITS
    whole = np.where(scaled < 0, np.ceil(scaled - 0.5), np.floor(scaled + 0.5))
    with torch.inference_mode(False):
        return torch.from_numpy(whole).to(device)
