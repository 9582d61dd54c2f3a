"""Depth map -> token grid -> sinusoidal code: the Depth Positional Encoding, free of parameters.

Two steps. Pooling (NumPy, where the frame is) averages depth, or the back-projected X, Y, Z, over
the pixels of each image token; invalid pixels do not count and a cell without a valid pixel is
marked. Coding (torch, where the model is) turns a cell's coordinates into sines and cosines,
always from float32 frequencies; a marked cell's code is zero. Knows neither images nor weights.

    grid = pool(frame.depth, frame.intrinsics, settings, cells=24)
    code = encode(grid.coordinates, grid.valid, settings, channels=4096)   # (576, 4096)

Sources: SD-VLM (arXiv 2509.17664), equation of the DPE; the kinds `metric` and `xyz`, the masking
and the `padded` alignment are this project's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from sdvlm_core.errors import CheckpointError, DepthError, IntrinsicsError
from sdvlm_core.frame import CameraIntrinsics, DepthSource
from sdvlm_core.model.backbones.clip_image import SquareCanvas

if TYPE_CHECKING:
    import torch

Kind = Literal["none", "relative", "metric", "xyz"]
Alignment = Literal["padded", "reference"]
Orientation = Literal["inverse", "direct", "source"]

#: `metric`: log-depth from NEAREST to FARTHEST metres fills the paper's range [0, SPAN].
NEAREST, FARTHEST, SPAN = 0.1, 100.0, 100.0
#: `xyz`: wavelengths of a band, metres; the shortest tells centimetres apart, the longest turns
#: less than half way over a room, so that left and right never look alike.
SHORTEST, LONGEST = 0.2, 40.0
_PAPER_BASE = 10000.0
_CHOICES: dict[str, tuple[str, ...]] = {
    "kind": ("none", "relative", "metric", "xyz"),
    "alignment": ("padded", "reference"),
    "orientation": ("inverse", "direct", "source"),
}


@dataclass(frozen=True)
class EncodingSettings:
    """How a model's image tokens carry depth; stored in its config.json as `depth_encoding`.

    Attributes:
        kind: `relative` (the paper: per-image min-max x 100), `metric` (log-depth, absolute),
            `xyz` (back-projected X, Y, Z in metres, one band of channels each), or `none`.
        alignment: `padded` pools on the square canvas CLIP sees; `reference` on the un-padded
            frame with the released code's windows, overlapping for estimated depth and truncated
            for a sensor's, where a cell of `relative` without a reading counts as 0.
        orientation: of `relative` only; `inverse` grows towards the camera, `direct` away, and
            `source`, as released, is `inverse` for a relative estimate and `direct` for metres.
        gain: what the code is multiplied by before it is added; 1.0 in the paper.
        normalize_features: bring each projected feature to unit variance first, so that small
            features are not drowned by a code of norm sqrt(channels / 2); False in the paper.
        optional: the model was trained to answer without depth, too; then a frame without any is
            answered from colour alone, and the answer says so.

    Raises:
        CheckpointError: a value is not one of the above.
    """

    kind: Kind = "relative"
    alignment: Alignment = "padded"
    orientation: Orientation = "direct"
    gain: float = 1.0
    normalize_features: bool = False
    optional: bool = False

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise CheckpointError(
                    f"depth_encoding.{name} must be one of {choices}, got {getattr(self, name)!r}"
                )
        if not (math.isfinite(self.gain) and self.gain > 0):
            raise CheckpointError(f"depth_encoding.gain must be positive, got {self.gain}")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> EncodingSettings:
        """Read what `to_mapping` wrote; an unknown key is an error, not ignored."""
        try:
            return cls(**values)
        except TypeError as error:
            raise CheckpointError(f"depth_encoding in config.json: {error}") from error

    def to_mapping(self) -> dict[str, Any]:
        """For config.json."""
        return asdict(self)


#: What the released code computes, defects included.
PARITY = EncodingSettings(kind="relative", alignment="reference", orientation="source")


@dataclass(frozen=True, eq=False)
class TokenGrid:
    """What each of cells x cells image tokens knows of depth, row-major.

    coordinates: (cells^2, K) float32; K = 3 for `xyz` (metres), else 1; 0 where not valid.
    valid: (cells^2,) bool: the cell has at least one depth reading.
    """

    coordinates: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]


def _membership(starts: npt.NDArray[Any], ends: npt.NDArray[Any], size: int) -> Any:
    """(cells, size) float32: 1 where pixel lies in the half-open window of the cell."""
    pixels = np.arange(size)
    return ((pixels >= starts[:, None]) & (pixels < ends[:, None])).astype(np.float32)


def _padded_windows(size: int, offset: int, side: int, cells: int) -> Any:
    """Cells of the square canvas; a pixel belongs to the cell that holds its centre."""
    edges = np.ceil(np.arange(cells + 1) * (side / cells) - 0.5 - offset - 1e-9)
    return _membership(edges[:-1], edges[1:], size)


def _truncated_windows(size: int, cells: int) -> Any:
    """The released sensor path: the un-padded side cut at truncated multiples of size / cells."""
    edges = (np.arange(cells + 1) * (size / cells)).astype(np.int64)
    return _membership(edges[:-1], edges[1:], size)


def _adaptive_mean(value: npt.NDArray[np.float32], cells: int) -> npt.NDArray[np.float32]:
    """The released path for estimates: windows that round outwards, summed as torch does.

    torch adds in float32, one by one; an exact sum would be 5e-6 off its result, which the
    stretching to 0..100 makes 3e-4.
    """
    import torch

    return torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(value)[None], cells)[0].numpy()


def _nearness(
    value: npt.NDArray[np.float32],
    usable: npt.NDArray[np.bool_],
    orientation: Orientation,
    source: DepthSource,
) -> npt.NDArray[np.float32]:
    """The quantity that `relative` stretches over its range, in place.

    Metres grow away from the camera; a relative estimate is an inverse depth up to scale and
    shift, so that it can be negated but not inverted.
    """
    if orientation == "inverse" and source != "estimated_relative":
        return np.divide(1, value, where=usable, out=value)
    if orientation == "direct" and source == "estimated_relative":
        return np.negative(value, out=value)
    return value


def pool(
    depth: npt.NDArray[np.float32],
    intrinsics: CameraIntrinsics | None,
    settings: EncodingSettings,
    cells: int,
    source: DepthSource = "sensor",
) -> TokenGrid:
    """Depth (H, W), NaN = none -> the token grid of `cells` x `cells`.

    Depth is metres, or inverse depth up to scale and shift if `source` is `estimated_relative`
    (an RgbdFrame's `depth_source`), which only the kind `relative` takes.

    Averages are sums by two small matrix products: X scales columns and Y rows, so that no
    full-size X or Y image is ever made.

    Raises:
        DepthError: no pixel has a usable reading, or metres are needed and there are none.
        IntrinsicsError: `xyz` without intrinsics.
    """
    height, width = depth.shape
    relative = source == "estimated_relative"
    if relative and settings.kind != "relative":
        raise DepthError(
            f"{settings.kind} encoding needs metres; this depth is a relative estimate"
        )
    # Zero is "no reading" of a sensor, but "farthest" of a relative estimate.
    usable = np.isfinite(depth) if relative else np.isfinite(depth) & (depth > 0)
    if not usable.any():
        raise DepthError(
            f"the depth image ({width}x{height}) has no valid reading: every pixel is 0, NaN or "
            "infinite; check the sensor's range and that something is in front of it"
        )
    value = np.where(usable, depth, np.float32(0))
    if settings.kind == "relative":
        value = _nearness(value, usable, settings.orientation, source)
    elif settings.kind == "metric":
        value = np.log(value, where=usable, out=value)
    if settings.alignment == "padded":
        canvas = SquareCanvas(width, height)
        rows = _padded_windows(height, canvas.top, canvas.side, cells)
        columns = _padded_windows(width, canvas.left, canvas.side, cells)
    else:
        rows, columns = _truncated_windows(height, cells), _truncated_windows(width, cells)
    count = rows @ usable.astype(np.float32) @ columns.T
    valid = count > 0
    share = np.divide(1, count, where=valid, out=np.zeros_like(count))
    banded = rows @ value
    mean = banded @ columns.T * share
    if settings.kind == "xyz":
        if intrinsics is None:
            raise IntrinsicsError(
                "this model's encoding is xyz, which needs camera intrinsics (fx, fy, cx, cy); "
                "pass them or use a model with a relative or metric encoding"
            )
        ray_x = ((np.arange(width) - intrinsics.cx) / intrinsics.fx).astype(np.float32)
        ray_y = ((np.arange(height) - intrinsics.cy) / intrinsics.fy).astype(np.float32)
        x = banded @ (columns * ray_x).T * share
        y = (rows * ray_y) @ value @ columns.T * share
        coordinates = np.stack([x, y, mean], axis=-1).reshape(cells * cells, 3)
    elif settings.kind == "metric":
        scaled = (mean - math.log(NEAREST)) * (SPAN / math.log(FARTHEST / NEAREST))
        coordinates = np.where(valid, scaled, 0).reshape(-1, 1)
    else:
        if settings.alignment == "reference":
            valid = np.ones_like(valid)
            if source != "sensor":
                mean = _adaptive_mean(value, cells)
        low, high = mean[valid].min(), mean[valid].max()
        # Flat depth has no relative order; every cell is then "nearest", and finite.
        scaled = (mean - low) * (SPAN / (high - low) if high > low else 0.0)
        coordinates = np.where(valid, scaled, 0).reshape(-1, 1)
    return TokenGrid(coordinates.astype(np.float32), valid.reshape(-1))


def encode(
    coordinates: torch.Tensor,
    valid: torch.Tensor,
    settings: EncodingSettings,
    channels: int,
) -> torch.Tensor:
    """Coordinates (..., K) and validity (...) -> code (..., channels), float32, same device.

    Each coordinate gets a band of channels // (2 K) frequencies, sine and cosine interleaved;
    channels that do not divide stay zero, as do the codes of invalid cells.
    """
    import torch

    bands = coordinates.shape[-1]
    count = channels // (2 * bands)
    step = torch.arange(count, dtype=torch.float32, device=coordinates.device)
    if settings.kind == "xyz":
        spread = (SHORTEST / LONGEST) ** (step / max(1, count - 1))
        frequencies = 2 * math.pi / SHORTEST * spread
    else:
        frequencies = _PAPER_BASE ** (-step / count)
    angles = coordinates.float().unsqueeze(-1) * frequencies  # (..., K, count)
    code = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-3)
    code = code * valid.unsqueeze(-1)
    return torch.nn.functional.pad(code, (0, channels - code.shape[-1]))
