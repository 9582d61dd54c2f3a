"""Depth map -> token grid -> sinusoidal code: the Depth Positional Encoding, without parameters.

Two steps. Pooling (NumPy, on the CPU) averages depth, or the back-projected X, Y, Z, over the
pixels of each image token; invalid pixels do not count, and a cell without a valid pixel is marked
invalid. Encoding (torch, on the model's device) turns a cell's coordinates into sines and cosines,
always from float32 frequencies; the code of an invalid cell is zero. Does not know colours or
weights.

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
from sdvlm_core.model.image_tokens import Membership, padded_windows, truncated_windows

if TYPE_CHECKING:
    import torch

Kind = Literal["none", "relative", "metric", "xyz"]
Alignment = Literal["padded", "reference"]
Orientation = Literal["inverse", "direct", "source"]

#: `metric`: log-depth between these two depths fills the paper's range [0, SPAN].
MIN_DEPTH_M, MAX_DEPTH_M, SPAN = 0.1, 100.0, 100.0
#: `xyz`: wavelengths of a band. The shortest separates centimetres; the longest turns less than
#: half way over a room, so that left and right never get the same code.
MIN_WAVELENGTH_M, MAX_WAVELENGTH_M = 0.2, 40.0
#: Largest coordinate, metres or code units. Sines of larger float32 numbers are noise.
MAX_COORDINATE = 1e5
_PAPER_BASE = 10000.0
_CHOICES: dict[str, tuple[str, ...]] = {
    "kind": ("none", "relative", "metric", "xyz"),
    "alignment": ("padded", "reference"),
    "orientation": ("inverse", "direct", "source"),
}


@dataclass(frozen=True)
class EncodingSettings:
    """How depth is added to a model's image tokens: `depth_encoding` in its config.json.

    Attributes:
        kind: `relative` (the paper: per-image min-max x 100), `metric` (log-depth, absolute),
            `xyz` (back-projected X, Y, Z in metres, one band of channels each), or `none`.
        alignment: `padded` pools on CLIP's square input canvas; `reference` on the un-padded
            frame with the released code's windows, overlapping for estimated depth and truncated
            for a sensor's; a cell of `relative` without a reading then counts as 0.
        orientation: for `relative` only. `inverse` grows towards the camera, `direct` away from it;
            `source`, as released, is `inverse` for a relative estimate and `direct` for metres.
        gain: factor on the code before it is added; 1.0 in the paper.
        normalize_features: scale each projected feature to unit variance first, so that a code of
            norm sqrt(channels / 2) does not dominate small features; False in the paper.
        optional: the model is trained to answer without depth too. A frame without depth is then
            answered from colour alone, and the answer's status is NO_DEPTH.

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
        """Read the result of `to_mapping`; an unknown key is an error."""
        try:
            return cls(**values)
        except TypeError as error:
            raise CheckpointError(f"depth_encoding in config.json: {error}") from error

    def to_mapping(self) -> dict[str, Any]:
        """For config.json."""
        return asdict(self)


#: The encoding of the released code, with its defects.
PARITY = EncodingSettings(kind="relative", alignment="reference", orientation="source")


@dataclass(frozen=True, eq=False)
class TokenGrid:
    """The depth of each of cells x cells image tokens, row-major.

    coordinates: (cells^2, K) float32; K = 3 for `xyz` (metres), else 1; 0 where not valid.
    valid: (cells^2,) bool: the cell has at least one depth reading.
    """

    coordinates: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]


@np.errstate(all="ignore")  # the grid is checked at the end
def pool(
    depth: npt.NDArray[np.float32],
    intrinsics: CameraIntrinsics | None,
    settings: EncodingSettings,
    cells: int,
    source: DepthSource = "sensor",
) -> TokenGrid:
    """Depth (H, W), NaN = no reading -> the token grid of `cells` x `cells`.

    Depth is metres; or, if `source` is `estimated_relative` (an RgbdFrame's `depth_source`),
    inverse depth up to scale and shift, which only the kind `relative` accepts.

    Averages are sums by two small matrix products: X scales columns and Y rows, so that no
    full-size X or Y image is made.

    Raises:
        DepthError: no pixel has a usable reading, the encoding needs metres and the depth is a
            relative estimate, or a mean is beyond `MAX_COORDINATE`.
        IntrinsicsError: `xyz` without intrinsics, or with rays that give such a mean.
    """
    height, width = depth.shape
    usable = _usable(depth, settings, source)
    value = _pooled_quantity(depth, usable, settings, source)
    windows = padded_windows if settings.alignment == "padded" else truncated_windows
    rows, columns = windows(width, height, cells)
    count = rows @ usable.astype(np.float32) @ columns.T
    valid = count > 0
    weight = np.divide(1, count, where=valid, out=np.zeros_like(count))
    if settings.kind == "xyz":
        coordinates = _mean_points(value, rows, columns, weight, intrinsics)
        if not _is_bounded(coordinates[:, :2]) and _is_bounded(coordinates[:, 2]):
            raise IntrinsicsError(
                f"the intrinsics {intrinsics} give points beyond {MAX_COORDINATE:g} m; compare "
                "them with the camera's"
            )
        return _grid(coordinates, valid, depth, usable)
    mean = rows @ value @ columns.T * weight
    if settings.kind == "metric":
        low, scale = math.log(MIN_DEPTH_M), SPAN / math.log(MAX_DEPTH_M / MIN_DEPTH_M)
    else:
        if settings.alignment == "reference":
            valid = np.ones_like(valid)
            if source != "sensor":
                mean = _adaptive_mean(value, cells)
        low, high = mean[valid].min(), mean[valid].max()
        # Flat depth has no relative order: every cell is then "nearest", and finite.
        scale = SPAN / (high - low) if high > low else 0.0
    coordinates = np.where(valid, (mean - low) * scale, 0).reshape(-1, 1)
    return _grid(coordinates, valid, depth, usable)


def _grid(
    coordinates: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_],
    depth: npt.NDArray[np.float32],
    usable: npt.NDArray[np.bool_],
) -> TokenGrid:
    """The token grid; raises DepthError if a coordinate is not finite or beyond the limit."""
    if not _is_bounded(coordinates):
        readings = depth[usable]
        raise DepthError(
            f"the depth image's readings are from {readings.min():g} to {readings.max():g}, which "
            "the model's depth encoding cannot express; are they metres? (parameter depth_unit, "
            "option --depth-scale)"
        )
    return TokenGrid(coordinates.astype(np.float32), valid.reshape(-1))


def _is_bounded(coordinates: npt.NDArray[Any]) -> bool:
    return bool((np.abs(coordinates) <= MAX_COORDINATE).all())  # False for NaN


def _usable(
    depth: npt.NDArray[np.float32], settings: EncodingSettings, source: DepthSource
) -> npt.NDArray[np.bool_]:
    """(H, W) bool: the pixel has a reading; raises DepthError as `pool`."""
    relative = source == "estimated_relative"
    if relative and settings.kind != "relative":
        raise DepthError(
            f"{settings.kind} encoding needs metres; this depth is a relative estimate"
        )
    # Zero means "no reading" from a sensor, but "farthest" in a relative estimate.
    usable = np.isfinite(depth) if relative else np.isfinite(depth) & (depth > 0)
    if not usable.any():
        height, width = depth.shape
        raise DepthError(
            f"the depth image ({width}x{height}) has no valid reading: every pixel is 0, NaN or "
            "infinite; check the sensor's range and that something is in front of it"
        )
    return usable


def _pooled_quantity(
    depth: npt.NDArray[np.float32],
    usable: npt.NDArray[np.bool_],
    settings: EncodingSettings,
    source: DepthSource,
) -> npt.NDArray[np.float32]:
    """The quantity (H, W) that is averaged over a token; 0 without a reading.

    Metres grow away from the camera; a relative estimate is an inverse depth up to scale and
    shift, so it can be negated but not inverted.
    """
    value = np.where(usable, depth, np.float32(0))
    if settings.kind == "metric":
        return np.log(value, where=usable, out=value)
    if settings.kind == "relative":
        if settings.orientation == "inverse" and source != "estimated_relative":
            return np.divide(1, value, where=usable, out=value)
        if settings.orientation == "direct" and source == "estimated_relative":
            return np.negative(value, out=value)
    return value


def _mean_points(
    depth: npt.NDArray[np.float32],
    rows: Membership,
    columns: Membership,
    weight: npt.NDArray[np.float32],
    intrinsics: CameraIntrinsics | None,
) -> npt.NDArray[np.float32]:
    """(cells^2, 3): the mean back-projected X, Y, Z of each token's pixels, metres."""
    if intrinsics is None:
        raise IntrinsicsError(
            "this model's encoding is xyz, which needs camera intrinsics (fx, fy, cx, cy); "
            "pass them or use a model with a relative or metric encoding"
        )
    ray_x, ray_y = (slopes.astype(np.float32) for slopes in intrinsics.ray_slopes())
    banded = rows @ depth
    x = banded @ (columns * ray_x).T * weight
    y = (rows * ray_y) @ depth @ columns.T * weight
    z = banded @ columns.T * weight
    return np.stack([x, y, z], axis=-1).reshape(-1, 3)


def _adaptive_mean(value: npt.NDArray[np.float32], cells: int) -> npt.NDArray[np.float32]:
    """The released pooling of estimates: windows that round outwards, summed in torch's order.

    torch adds in float32, one value after another. An exact sum would differ by 5e-6, which the
    stretching to 0..100 makes 3e-4.
    """
    import torch

    return torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(value)[None], cells)[0].numpy()


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
        spread = (MIN_WAVELENGTH_M / MAX_WAVELENGTH_M) ** (step / max(1, count - 1))
        frequencies = 2 * math.pi / MIN_WAVELENGTH_M * spread
    else:
        frequencies = _PAPER_BASE ** (-step / count)
    angles = coordinates.float().unsqueeze(-1) * frequencies  # (..., K, count)
    code = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-3)
    code = code * valid.unsqueeze(-1)
    return torch.nn.functional.pad(code, (0, channels - code.shape[-1]))
