"""Depth map -> depth of each image token -> sinusoidal code: the Depth Positional Encoding.

Without parameters, in two steps, both on the model's device. Pooling averages depth, or the
back-projected X, Y, Z, over the pixels of each image token; invalid pixels do not count, and a
token without a valid pixel is marked invalid. Encoding turns a token's coordinates into sines and
cosines, always from float32 frequencies; the code of an invalid token is zero. Does not know
colours, weights, or which pixels a token shows (`image_tokens`).

    tokens = square_tokens(frame.width, frame.height, cells=24)
    depth = pool(frame.depth, frame.intrinsics, settings, tokens)
    code = encode(depth.coordinates, depth.valid, settings, channels=4096)   # (576, 4096)

Sources: SD-VLM (arXiv 2509.17664), equation of the DPE; the kinds `metric` and `xyz`, the masking
and the `padded` alignment are this project's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from sdvlm_core.errors import CheckpointError, DepthError, IntrinsicsError, shown
from sdvlm_core.frame import CameraIntrinsics, DepthSource
from sdvlm_core.model.image_tokens import TokenPixels, pixels_of, truncated_boxes

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
#: Largest factor on the code; the largest float16 is 65504.
MAX_GAIN = 1e4
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
        alignment: `padded` pools over what a token shows; `reference` on LLaVA's grid laid over the
            frame without its padding, with the released code's windows, overlapping for estimated
            depth and truncated for a sensor's; a cell of `relative` without a reading then counts
            as 0.
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
        for name in ("normalize_features", "optional"):
            if type(getattr(self, name)) is not bool:  # the text "false" would count as true
                given = shown(repr(getattr(self, name)), 60)
                raise CheckpointError(f"depth_encoding.{name} must be true or false, got {given}")
        if type(self.gain) not in (int, float) or not 0 < self.gain <= MAX_GAIN:
            given = shown(repr(self.gain), 60)
            raise CheckpointError(
                f"depth_encoding.gain must be a number above 0, up to {MAX_GAIN:g}, got {given}"
            )

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
class TokenDepth:
    """The depth of each of N image tokens.

    coordinates: (N, K) float32; K = 3 for `xyz` (metres), else 1; 0 where not valid.
    valid: (N,) bool: the token has at least one depth reading.
    """

    coordinates: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]


def pool(
    depth: npt.NDArray[np.float32],
    intrinsics: CameraIntrinsics | None,
    settings: EncodingSettings,
    tokens: TokenPixels,
    source: DepthSource = "sensor",
) -> TokenDepth:
    """Depth (H, W), NaN = no reading -> the depth of each token; see `pool_on`."""
    import torch

    coordinates, valid = pool_on(torch.device("cpu"), depth, intrinsics, settings, tokens, source)
    return TokenDepth(coordinates.numpy(), valid.numpy())


def pool_on(
    device: torch.device,
    depth: npt.NDArray[np.float32],
    intrinsics: CameraIntrinsics | None,
    settings: EncodingSettings,
    tokens: TokenPixels,
    source: DepthSource = "sensor",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Depth (H, W), NaN = no reading -> the arrays of `TokenDepth`, computed on a device.

    Depth is metres; or, if `source` is `estimated_relative` (an RgbdFrame's `depth_source`),
    inverse depth up to scale and shift, which only the kind `relative` accepts.

    Averages are sums by two small matrix products: X scales columns and Y rows, so that no
    full-size X or Y image is made. The host waits for the device once, to check the result.

    Raises:
        DepthError: no pixel has a usable reading, the encoding needs metres and the depth is a
            relative estimate, or a mean is beyond `MAX_COORDINATE`.
        IntrinsicsError: `xyz` without intrinsics, or with rays that give such a mean.
    """
    import torch

    relative = source == "estimated_relative"
    if relative and settings.kind != "relative":
        raise DepthError(
            f"{settings.kind} encoding needs metres; this depth is a relative estimate"
        )
    if settings.kind == "xyz" and intrinsics is None:
        raise IntrinsicsError(
            "this model's encoding is xyz, which needs camera intrinsics (fx, fy, cx, cy); "
            "pass them or use a model with a relative or metric encoding"
        )
    height, width = depth.shape
    pixels = torch.from_numpy(np.ascontiguousarray(depth)).to(device)
    # Zero means "no reading" from a sensor, but "farthest" in a relative estimate.
    usable = pixels.isfinite() if relative else pixels.isfinite() & (pixels > 0)
    value = _pooled_quantity(pixels, usable, settings, source)
    if settings.alignment == "reference":
        tokens = _reference_tokens(width, height, len(tokens.row_of))
    rows, columns, of = _on(tokens, device)
    count = rows @ usable.float() @ columns.T
    weight = torch.where(count > 0, 1 / count, 0)
    valid = (count > 0)[of]
    if settings.kind == "xyz":
        assert intrinsics is not None
        with np.errstate(all="ignore"):  # the result is checked
            slopes = [one.astype(np.float32) for one in intrinsics.ray_slopes()]
        ray_x, ray_y = (torch.from_numpy(one).to(device) for one in slopes)
        banded = rows @ value
        x = banded @ (columns * ray_x).T * weight
        y = (rows * ray_y) @ value @ columns.T * weight
        z = banded @ columns.T * weight
        coordinates = torch.stack([x[of], y[of], z[of]], dim=-1)
    else:
        mean = (rows @ value @ columns.T * weight)[of]
        low: torch.Tensor | float
        scale: torch.Tensor | float
        if settings.kind == "metric":
            low, scale = math.log(MIN_DEPTH_M), SPAN / math.log(MAX_DEPTH_M / MIN_DEPTH_M)
        else:
            if settings.alignment == "reference":
                valid = torch.ones_like(valid)
                if source != "sensor":
                    mean = _adaptive_mean(value, math.isqrt(len(mean)))
            low = torch.where(valid, mean, math.inf).min()
            high = torch.where(valid, mean, -math.inf).max()
            # Flat depth has no relative order: every token is then "nearest", and finite.
            scale = torch.where(high > low, SPAN / (high - low), 0)
        coordinates = torch.where(valid, (mean - low) * scale, 0)[:, None]
    _check(coordinates, usable, pixels, settings, intrinsics)
    return coordinates, valid


def _check(
    coordinates: torch.Tensor,
    usable: torch.Tensor,
    depth: torch.Tensor,
    settings: EncodingSettings,
    intrinsics: CameraIntrinsics | None,
) -> None:
    """Raise DepthError or IntrinsicsError as `pool_on`; waits for the device once."""
    import torch

    bounded = coordinates.abs() <= MAX_COORDINATE  # False for NaN
    found = torch.stack([usable.any(), bounded.all(), bounded[:, -1].all()])
    any_usable, all_bounded, last_bounded = found.tolist()
    if not any_usable:
        height, width = depth.shape
        raise DepthError(
            f"the depth image ({width}x{height}) has no valid reading: every pixel is 0, NaN or "
            "infinite; check the sensor's range and that something is in front of it"
        )
    if all_bounded:
        return
    if settings.kind == "xyz" and last_bounded:
        raise IntrinsicsError(
            f"the intrinsics {intrinsics} give points beyond {MAX_COORDINATE:g} m; compare "
            "them with the camera's"
        )
    readings = depth[usable]
    raise DepthError(
        f"the depth image's readings are from {readings.min():g} to {readings.max():g}, which "
        "the model's depth encoding cannot express; are they metres? (parameter depth_unit, "
        "option --depth-scale)"
    )


def _pooled_quantity(
    depth: torch.Tensor, usable: torch.Tensor, settings: EncodingSettings, source: DepthSource
) -> torch.Tensor:
    """The quantity (H, W) that is averaged over a token; 0 without a reading.

    Metres grow away from the camera; a relative estimate is an inverse depth up to scale and
    shift, so it can be negated but not inverted.
    """
    import torch

    value = depth
    if settings.kind == "metric":
        value = depth.log()
    elif settings.kind == "relative":
        if settings.orientation == "inverse" and source != "estimated_relative":
            value = 1 / depth
        elif settings.orientation == "direct" and source == "estimated_relative":
            value = -depth
    return torch.where(usable, value, 0)


@lru_cache(maxsize=8)
def _on(
    tokens: TokenPixels, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """Rows and columns of the tokens on a device, and the index of each token in their product."""
    import torch

    with torch.inference_mode(False):
        rows, columns, row_of, column_of = (
            torch.from_numpy(array).to(device)
            for array in (tokens.rows, tokens.columns, tokens.row_of, tokens.column_of)
        )
    return rows, columns, (row_of, column_of)


@lru_cache(maxsize=8)
def _reference_tokens(width: int, height: int, count: int) -> TokenPixels:
    cells = math.isqrt(count)
    if cells * cells != count:
        raise CheckpointError(
            "depth_encoding.alignment 'reference' is for the square token grid of LLaVA; this "
            f"model has {count} image tokens: use 'padded'"
        )
    return pixels_of(truncated_boxes(width, height, cells), width, height)


def _adaptive_mean(value: torch.Tensor, cells: int) -> torch.Tensor:
    """The released pooling of estimates: windows that round outwards, summed in torch's order.

    torch adds in float32, one value after another. An exact sum would differ by 5e-6, which the
    stretching to 0..100 makes 3e-4.
    """
    import torch

    return torch.nn.functional.adaptive_avg_pool2d(value[None], cells).flatten()


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
