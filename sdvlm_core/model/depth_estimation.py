"""Estimated depth for frames without a depth image: Depth-Anything-V2 and Depth Pro.

RGB image -> depth of the same size. A relative network predicts inverse depth up to scale and
shift; its `source` is `estimated_relative`; metres are never computed from it. Depth Pro
predicts metres, and the focal length where the camera's intrinsics are unknown. Does not know
depth encodings or questions; downloads nothing.

Depth-Anything's release differs from transformers' preprocessing in three points, which are
implemented here: the size rule, the interpolation without antialiasing, and DINOv2's offset when
position embeddings are resized.
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
from transformers import DepthAnythingForDepthEstimation, DepthProForDepthEstimation

from sdvlm_core.errors import CheckpointError, FrameError, IntrinsicsError, shown
from sdvlm_core.files import read_json
from sdvlm_core.frame import CameraIntrinsics, DepthSource, RgbdFrame
from sdvlm_core.model import hub
from sdvlm_core.model.checkpoint import load_strictly, require_files

#: Shorter side of the network's input, and the patch size that divides both sides.
SHORT_SIDE_PX, PATCH_PX = 518, 14
#: Largest ratio of an image's sides; the network's input is then 4.3 megapixels.
MAX_ASPECT = 16
_MEAN = np.array([0.485, 0.456, 0.406])
_STD = np.array([0.229, 0.224, 0.225])
_MIN_INVERSE_DEPTH_PER_M = 1e-4  # Depth Pro's lower limit
_OFFSET_CELLS = 0.1  # DINOv2's, against rounding when position embeddings are resized


@dataclass(frozen=True, eq=False)
class DepthEstimator:
    """A depth network ready to run; `source` is the `depth_source` of its output."""

    name: str
    model: DepthAnythingForDepthEstimation | DepthProForDepthEstimation
    source: DepthSource
    device: torch.device


def network_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) of the network's input: the shorter side is 518, the ratio is kept nearly.

    Small images are scaled up. transformers instead scales as little as possible, which differs
    where both sides are below 518.

    Raises:
        FrameError: the image is so long that its input would be too large.
    """
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise FrameError(
            f"the image is {width}x{height}; depth is estimated only of images whose longer side "
            f"is at most {MAX_ASPECT} times the shorter one"
        )
    scale = max(SHORT_SIDE_PX / width, SHORT_SIDE_PX / height)

    def fitted(side: int) -> int:
        patches = side * scale / PATCH_PX
        nearest = round(patches) * PATCH_PX
        return nearest if nearest >= SHORT_SIDE_PX else math.ceil(patches) * PATCH_PX

    return fitted(width), fitted(height)


def network_pixels(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(H, W, 3) uint8 -> (3, h, w) float32, resized by cubic interpolation and normalised."""
    size = network_size(rgb.shape[1], rgb.shape[0])
    resized = cv2.resize(rgb / 255.0, size, interpolation=cv2.INTER_CUBIC)
    normal = (resized - _MEAN) / _STD
    return np.ascontiguousarray(normal.transpose(2, 0, 1), dtype=np.float32)


def load_estimator(
    name: str | Path, device: torch.device, dtype: torch.dtype | None = None
) -> DepthEstimator:
    """Load a directory in transformers' layout, or a name that has been downloaded.

    `sdvlm convert` makes such a directory from a released Depth-Anything-V2 file.

    Args:
        dtype: None = float16 on CUDA (the large network: 15 instead of 52 ms on an H200), else
            float32.

    Raises:
        CheckpointError: missing, incomplete, or of another architecture.
    """
    directory = hub.find(str(name))
    require_files(directory, "config.json")
    kinds = {
        "depth_anything": DepthAnythingForDepthEstimation,
        "depth_pro": DepthProForDepthEstimation,
    }
    kind = read_json(directory / "config.json", CheckpointError).get("model_type")
    if not isinstance(kind, str) or kind not in kinds:
        given = shown(repr(kind))
        raise CheckpointError(f"{directory} is a {given}, not one of {', '.join(kinds)}")
    if dtype is None:
        dtype = torch.float16 if device.type == "cuda" else torch.float32
    model = load_strictly(kinds[kind], directory, dtype=dtype, device_map={"": device})
    source: DepthSource = "estimated_metric"
    if kind == "depth_anything":
        embeddings = model.backbone.embeddings
        embeddings.interpolate_pos_encoding = partial(_positions, embeddings)
        if model.config.depth_estimation_type != "metric":
            source = "estimated_relative"
    return DepthEstimator(str(name), model, source, device)


def _positions(embeddings: Any, tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """DINOv2's position embeddings for another grid, resized as in its release.

    The scale is (cells + 0.1) / trained cells, not the ratio of the sizes.
    """
    stored = embeddings.position_embeddings
    side = math.isqrt(stored.shape[1] - 1)
    rows, columns = height // embeddings.patch_size, width // embeddings.patch_size
    if rows == columns == side:
        return stored
    grid = stored[:, 1:].float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(
        grid,
        scale_factor=((rows + _OFFSET_CELLS) / side, (columns + _OFFSET_CELLS) / side),
        mode="bicubic",
        align_corners=False,
    )
    assert resized.shape[-2:] == (rows, columns)
    patches = resized.permute(0, 2, 3, 1).reshape(1, rows * columns, -1).to(stored.dtype)
    return torch.cat([stored[:, :1], patches], dim=1)


@torch.inference_mode()
def estimate(
    estimator: DepthEstimator,
    rgb: npt.NDArray[np.uint8],
    intrinsics: CameraIntrinsics | None = None,
) -> tuple[npt.NDArray[np.float32], CameraIntrinsics | None]:
    """Depth (H, W) float32 of an image (H, W, 3) uint8, and the camera's intrinsics.

    Depth is metres, or inverse depth up to scale and shift (larger = nearer), see
    `estimator.source`. Unknown intrinsics are estimated if the network can, else None.

    Raises:
        FrameError: the image is too long (`network_size`).
        IntrinsicsError: the network needs intrinsics and they are unknown.
    """
    if isinstance(estimator.model, DepthProForDepthEstimation):
        return _depth_pro(estimator, rgb, intrinsics)
    pixels = torch.from_numpy(network_pixels(rgb))[None]
    depth = estimator.model(
        pixels.to(estimator.device, estimator.model.dtype)
    ).predicted_depth.float()
    # From the network's size by bilinear interpolation with aligned corners, as released.
    resized = torch.nn.functional.interpolate(
        depth[None], rgb.shape[:2], mode="bilinear", align_corners=True
    )
    return resized[0, 0].cpu().numpy(), intrinsics


def _depth_pro(
    estimator: DepthEstimator,
    rgb: npt.NDArray[np.uint8],
    intrinsics: CameraIntrinsics | None,
) -> tuple[npt.NDArray[np.float32], CameraIntrinsics | None]:
    """Depth Pro (arXiv 2410.02073, section 3): canonical inverse depth / (width / focal length).

    Uses the camera's own focal length where it is known.
    """
    height, width = rgb.shape[:2]
    config = estimator.model.config
    side = round(config.patch_size / min(config.scaled_images_ratios))
    picture = torch.from_numpy(rgb).to(estimator.device, torch.float32).permute(2, 0, 1)[None]
    pixels = torch.nn.functional.interpolate(
        picture / 127.5 - 1, (side, side), mode="bilinear", align_corners=False
    )
    output = estimator.model(pixels.to(estimator.model.dtype))
    if intrinsics is None:
        if output.field_of_view is None:
            raise IntrinsicsError(
                f"{estimator.name} has no field-of-view network; give the camera's intrinsics"
            )
        angle = math.radians(float(output.field_of_view[0]))
        if not 0 < angle < math.pi:
            raise IntrinsicsError(
                f"{estimator.name} estimates a field of view of {math.degrees(angle):.1f} "
                "degrees; give the camera's intrinsics"
            )
        focal = 0.5 * width / math.tan(0.5 * angle)
        center = ((width - 1) / 2, (height - 1) / 2)
        intrinsics = CameraIntrinsics(focal, focal, *center, width, height)
    inverse = output.predicted_depth[None].float() * (width / intrinsics.fx)
    resized = torch.nn.functional.interpolate(
        inverse, (height, width), mode="bilinear", align_corners=False
    )
    # The release predicts 10 km for pixels without a surface; here they have no reading.
    depth = torch.where(resized > _MIN_INVERSE_DEPTH_PER_M, 1 / resized, torch.nan)
    return depth[0, 0].cpu().numpy(), intrinsics


def with_estimated_depth(frame: RgbdFrame, estimator: DepthEstimator) -> RgbdFrame:
    """The frame with estimated depth, and with `depth_source` set accordingly."""
    depth, intrinsics = estimate(estimator, frame.rgb, frame.intrinsics)
    return replace(frame, depth=depth, intrinsics=intrinsics, depth_source=estimator.source)
