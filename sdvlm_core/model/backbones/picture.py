"""Pictures as vision towers take them: resized as Pillow does, to the bit, and normalised.

On a CPU Pillow resizes; on a GPU the same integers come from matrix products, so that a picture
goes to the device once, as bytes. Rows first, then columns: so do torchvision and Pillow up to 12;
Pillow 13 does it the other way round where that is cheaper. Does not know models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

Filter = Literal["bilinear", "bicubic", "lanczos"]
_Kernel = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
#: Fractional bits of Pillow's weights for 8-bit pictures.
_WEIGHT_BITS = 22
#: Source pixels that are widened to float64 at a time.
_BLOCK_PX = 1 << 22


def resized(
    rgb: npt.NDArray[np.uint8] | torch.Tensor,
    height: int,
    width: int,
    kind: Filter,
    device: torch.device,
) -> torch.Tensor:
    """Array (H, W, 3) or tensor (3, H, W), uint8 -> (3, height, width) uint8; antialiased."""
    if device.type == "cuda":
        return resized_on(device, rgb, height, width, kind)
    if isinstance(rgb, torch.Tensor):
        rgb = rgb.permute(1, 2, 0).cpu().numpy()
    picture = Image.fromarray(np.ascontiguousarray(rgb))
    for size in ((width, picture.height), (width, height)):
        picture = picture.resize(size, Image.Resampling[kind.upper()])
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).to(device)


def resized_on(
    device: torch.device,
    rgb: npt.NDArray[np.uint8] | torch.Tensor,
    height: int,
    width: int,
    kind: Filter,
) -> torch.Tensor:
    """`resized` with the device's matrix products; Pillow's sums are exact in float64 too.

    Every row is resized alone, then every column, and rounded between; a side of the wanted length
    is left as it is.
    """
    if isinstance(rgb, torch.Tensor):
        picture = rgb.to(device)
    else:
        picture = torch.from_numpy(np.ascontiguousarray(rgb)).to(device).permute(2, 0, 1)
    rows, columns = picture.shape[1:]
    if columns != width:
        weights = _weights(columns, width, kind, device).T
        block = max(1, _BLOCK_PX // columns)
        parts = [
            _rounded(picture[:, row : row + block].double() @ weights)
            for row in range(0, rows, block)
        ]
        picture = torch.cat(parts, 1)
    if rows != height:
        picture = _rounded(_weights(rows, height, kind, device) @ picture.double())
    return picture


class Normalization(NamedTuple):
    """Mean and standard deviation of each colour channel, as parts of full brightness."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


CLIP = Normalization((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def normalized(picture: torch.Tensor, to: Normalization) -> torch.Tensor:
    """(..., 3, H, W) uint8 -> float32: (picture / 255 - mean) / std of each channel."""
    mean, std = (np.array(one, np.float32) for one in to)
    factors = np.stack([np.float32(1 / 255) / std, mean / std])
    scale, offset = torch.from_numpy(factors).to(picture.device)[..., None, None]
    return picture.float() * scale - offset


def filled(height: int, width: int, colour: Sequence[int], device: torch.device) -> torch.Tensor:
    """(3, height, width) uint8 of one colour."""
    tensor = torch.tensor(list(colour), dtype=torch.uint8, device=device)
    return tensor[:, None, None].repeat(1, height, width)


def _rounded(sums: torch.Tensor) -> torch.Tensor:
    """Sums of pixels with integer weights -> pixels, rounded as Pillow does."""
    whole = ((sums + 2.0 ** (_WEIGHT_BITS - 1)) / 2.0**_WEIGHT_BITS).floor()
    return whole.clamp(0, 255).to(torch.uint8)


@lru_cache(maxsize=16)
def _weights(length: int, size: int, kind: Filter, device: torch.device) -> torch.Tensor:
    """(size, length) float64: Pillow's weights of `length` pixels, integers.

    The kernel is widened by the scale where the picture shrinks; the weights of an output pixel are
    normalised, then rounded to 22 fractional bits.
    """
    kernel, reach = _KERNELS[kind]
    scale = length / size
    wide = max(scale, 1.0)
    centers = (np.arange(size)[:, None] + 0.5) * scale
    pixels = np.arange(length)[None]
    inside = (pixels >= np.floor(np.maximum(centers - reach * wide + 0.5, 0))) & (
        pixels < np.floor(np.minimum(centers + reach * wide + 0.5, length))
    )
    values = np.where(inside, kernel((pixels - centers + 0.5) / wide), 0.0)
    values /= values.sum(1, keepdims=True)
    scaled = values * 2.0**_WEIGHT_BITS
    whole = np.where(scaled < 0, np.ceil(scaled - 0.5), np.floor(scaled + 0.5))
    with torch.inference_mode(False):
        return torch.from_numpy(whole).to(device)


def _bilinear(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.maximum(1 - np.abs(x), 0)


def _bicubic(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Keys' cubic with a = -0.5."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _lanczos(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


#: Kernel and the distance at which it ends, in pixels of the larger picture.
_KERNELS: dict[Filter, tuple[_Kernel, float]] = {
    "bilinear": (_bilinear, 1.0),
    "bicubic": (_bicubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}
