"""Depth where the camera gives none: Depth-Anything-V2 by transformers, prepared as released.

Picture -> depth of the same size, once per frame and only when asked. What a relative network gives
is inverse depth up to scale and shift, and says so (`estimated_relative`): no metre is ever read
from it. Knows no encoding and no question; downloads nothing.

Three things of the release differ from the library's own preparation and are done here: the size
rule, the interpolation without antialiasing, and DINOv2's offset in resizing its positions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from transformers import DepthAnythingForDepthEstimation

from sdvlm_core.errors import CheckpointError
from sdvlm_core.frame import DepthSource, RgbdFrame

#: Shortest side the network sees, and what sides are multiples of (its patch).
SHORT_SIDE, PATCH = 518, 14
_MEAN = np.array([0.485, 0.456, 0.406])
_STD = np.array([0.229, 0.224, 0.225])
_OFFSET = 0.1  # DINOv2's, against rounding when positions are resized


@dataclass(frozen=True, eq=False)
class DepthEstimator:
    """A depth network ready to run, and what its output is."""

    name: str
    model: DepthAnythingForDepthEstimation
    source: DepthSource
    device: torch.device


def network_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) the network sees: the shorter side 518, the other near the same ratio.

    Always scales, also up: small pictures too get a short side of 518. The library instead scales
    as little as possible, which differs where both sides are below 518.
    """
    scale = max(SHORT_SIDE / width, SHORT_SIDE / height)

    def fitted(side: int) -> int:
        multiple = round(side * scale / PATCH) * PATCH
        return multiple if multiple >= SHORT_SIDE else math.ceil(side * scale / PATCH) * PATCH

    return fitted(width), fitted(height)


def network_pixels(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(H, W, 3) uint8 -> (3, h, w) float32, resized by plain cubic and normalised."""
    size = network_size(rgb.shape[1], rgb.shape[0])
    resized = cv2.resize(rgb / 255.0, size, interpolation=cv2.INTER_CUBIC)
    normal = (resized - _MEAN) / _STD
    return np.ascontiguousarray(normal.transpose(2, 0, 1), dtype=np.float32)


def load_estimator(
    directory: Path, device: torch.device, dtype: torch.dtype = torch.float32
) -> DepthEstimator:
    """Load a directory in transformers' layout (`sdvlm convert` makes one of a released file).

    Raises:
        CheckpointError: absent, not a Depth-Anything, or not all of its weights are there.
    """
    if not (directory / "config.json").exists():
        raise CheckpointError(f"{directory} holds no depth estimator: config.json is missing")
    try:
        model, report = DepthAnythingForDepthEstimation.from_pretrained(
            directory,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"{directory} does not load as a Depth-Anything: {error}") from error
    if report["missing_keys"] or report["mismatched_keys"]:
        raise CheckpointError(
            f"{directory} lacks weights the depth estimator needs: "
            f"{sorted(report['missing_keys']) or report['mismatched_keys']}"
        )
    model.eval().requires_grad_(False).to(device)
    embeddings = model.backbone.embeddings
    embeddings.interpolate_pos_encoding = partial(_positions, embeddings)
    metric = model.config.depth_estimation_type == "metric"
    source: DepthSource = "estimated_metric" if metric else "estimated_relative"
    return DepthEstimator(str(directory), model, source, device)


def _positions(embeddings: Any, tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """DINOv2's position embeddings for another grid, resized as its authors do.

    The scale is (cells + 0.1) / cells trained on, not the ratio of the sizes.
    """
    stored = embeddings.position_embeddings
    side = math.isqrt(stored.shape[1] - 1)
    rows, columns = height // embeddings.patch_size, width // embeddings.patch_size
    if rows == columns == side:
        return stored
    grid = stored[:, 1:].float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(
        grid,
        scale_factor=((rows + _OFFSET) / side, (columns + _OFFSET) / side),
        mode="bicubic",
        align_corners=False,
    )
    assert resized.shape[-2:] == (rows, columns)
    patches = resized.permute(0, 2, 3, 1).reshape(1, rows * columns, -1).to(stored.dtype)
    return torch.cat([stored[:, :1], patches], dim=1)


@torch.inference_mode()
def estimate(estimator: DepthEstimator, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Depth (H, W) float32 of a picture (H, W, 3) uint8, as `estimator.source` says:

    metres, or inverse depth up to scale and shift (larger = nearer). Resized from the network's
    size by bilinear interpolation with aligned corners, as released.
    """
    pixels = torch.from_numpy(network_pixels(rgb))[None]
    depth = estimator.model(
        pixels.to(estimator.device, estimator.model.dtype)
    ).predicted_depth.float()
    resized = torch.nn.functional.interpolate(
        depth[None], rgb.shape[:2], mode="bilinear", align_corners=True
    )
    return resized[0, 0].cpu().numpy()


def with_estimated_depth(frame: RgbdFrame, estimator: DepthEstimator) -> RgbdFrame:
    """The frame with depth from the estimator, and `depth_source` saying so."""
    depth = estimate(estimator, frame.rgb)
    return replace(frame, depth=depth, depth_source=estimator.source)
