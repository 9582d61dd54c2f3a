"""Pooling over LLaVA's square grid, whose size is all that most tests need to say."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sdvlm_core.frame import CameraIntrinsics, DepthSource
from sdvlm_core.model.depth_encoding import EncodingSettings, TokenDepth, pool
from sdvlm_core.model.image_tokens import square_tokens


def pool_square(
    depth: npt.NDArray[np.float32],
    intrinsics: CameraIntrinsics | None,
    settings: EncodingSettings,
    cells: int,
    source: DepthSource = "sensor",
) -> TokenDepth:
    """The depth of the cells x cells tokens of a frame that is padded to a square."""
    height, width = depth.shape
    return pool(depth, intrinsics, settings, square_tokens(width, height, cells), source)
