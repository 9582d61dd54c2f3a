"""The Qwen vision-language models: Qwen2-VL, Qwen2.5-VL, Qwen3-VL and Qwen3.5.

A picture keeps its shape: it is resized to whole blocks of merge x merge patches, within a least
and a largest number of pixels, and every block is one image token. The projected features
(`pooler_output`) are in raster order in all of them; Qwen2.5-VL's `last_hidden_state` is in the
order of its attention windows, and is not used. Does not know depth, videos, or several images in
one prompt.

Sources: transformers' `Qwen2VLImageProcessor` (resizing, order of the patches) and `get_rope_index`
(positions) of each model; the preprocessor_config.json and chat templates that Qwen publishes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from sdvlm_core.errors import CheckpointError, FrameError, shown
from sdvlm_core.model.backbones.contract import Backbone, Boxes
from sdvlm_core.model.backbones.picture import CLIP, HALF, Normalization, normalized, resized
from sdvlm_core.model.backbones.settings import PixelRule, agreeing, part, pixel_rule, whole
from sdvlm_core.model.image_tokens import grid_boxes

#: The largest ratio of a picture's sides that the library's processor takes.
MAX_ASPECT = 200
#: A limit on image tokens above this is refused; the published ones allow 16384.
_MAX_TOKENS = 1 << 15


@dataclass(frozen=True)
class QwenVL(Backbone):
    """Qwen3-VL, and the base of its relatives.

    Args:
        patch: side of a patch, pixels.
        merge: side of the block of patches that is one image token, patches.
        temporal: frames of a video in one patch; a picture is repeated as often.
        min_pixels, max_pixels: limits of the resized picture.
        rule: how it is resized and normalised.
    """

    patch: int
    merge: int
    temporal: int
    min_pixels: int
    max_pixels: int
    rule: PixelRule

    template = "qwen3_vl"
    dialect = "chat"
    boxes = "thousand"
    projector: ClassVar[tuple[str, ...]] = ("visual.merger", "visual.deepstack_merger_list")

    @classmethod
    def of(cls, config: Any, preprocessor: Mapping[str, Any]) -> QwenVL:
        """The backbone of a model's config and preprocessor_config.json ({} = as published).

        Raises:
            CheckpointError: a value is impossible; names key and value.
        """
        if config.model_type not in _FAMILIES:
            raise CheckpointError(f"model_type {shown(repr(config.model_type))} is no Qwen-VL")
        family, published = _FAMILIES[config.model_type]
        vision = config.vision_config
        whole("vision_config.in_channels", vision.in_channels, 3, 3)
        patch = whole("vision_config.patch_size", vision.patch_size, 1, 128)
        merge = whole("vision_config.spatial_merge_size", vision.spatial_merge_size, 1, 16)
        temporal = whole("vision_config.temporal_patch_size", vision.temporal_patch_size, 1, 16)
        size, largest = part("size", preprocessor), _MAX_TOKENS * (patch * merge) ** 2
        low = _first(preprocessor.get("min_pixels"), size.get("shortest_edge"), published.low)
        high = _first(preprocessor.get("max_pixels"), size.get("longest_edge"), published.high)
        max_pixels = whole("max_pixels (size.longest_edge)", high, 1, largest)
        return family(
            patch=agreeing("patch_size", preprocessor, patch),
            merge=agreeing("merge_size", preprocessor, merge),
            temporal=agreeing("temporal_patch_size", preprocessor, temporal),
            min_pixels=whole("min_pixels (size.shortest_edge)", low, 1, max_pixels),
            max_pixels=max_pixels,
            rule=pixel_rule(preprocessor, "bicubic", published.normalization),
        )

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of image tokens of a picture.

        Each side is rounded to whole tokens; where the picture is then above `max_pixels`, both
        are scaled and rounded down, and below `min_pixels` scaled and rounded up.

        Raises:
            FrameError: one side is more than `MAX_ASPECT` times the other.
        """
        if max(height, width) > MAX_ASPECT * min(height, width):
            raise FrameError(
                f"the image has {width}x{height} pixels; this model takes images whose longer side "
                f"is at most {MAX_ASPECT} times the shorter: crop the image"
            )
        cell = self.patch * self.merge
        rows, columns = round(height / cell), round(width / cell)
        pixels = rows * columns * cell**2
        # The operations, and their order, are the library's: another order rounds otherwise.
        if pixels > self.max_pixels:
            shrink = math.sqrt(height * width / self.max_pixels)
            rows = max(1, math.floor(height / shrink / cell))
            columns = max(1, math.floor(width / shrink / cell))
        elif pixels < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (height * width))
            rows, columns = math.ceil(height * grow / cell), math.ceil(width * grow / cell)
        return rows, columns

    def picture_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the resized picture; Qwen2.5-VL writes boxes in its pixels."""
        rows, columns = self.grid(height, width)
        return rows * self.patch * self.merge, columns * self.patch * self.merge

    def prepare(self, rgb: npt.NDArray[np.uint8], device: torch.device) -> dict[str, torch.Tensor]:
        """(H, W, 3) uint8 -> `pixel_values` (patches, values) and `image_grid_thw` (1, 3).

        The patches of one token follow one another; a patch is (channel, frame, row, column).
        """
        (rows, columns), size = self.grid(*rgb.shape[:2]), self.picture_size(*rgb.shape[:2])
        merge, patch = self.merge, self.patch
        picture = resized(rgb, *size, self.rule.filter, device)
        pixels = normalized(picture, self.rule.normalization)
        blocks = pixels.reshape(3, rows, merge, patch, columns, merge, patch)
        patches = blocks.permute(1, 4, 2, 5, 0, 3, 6)[:, :, :, :, :, None]
        frames = patches.expand(-1, -1, -1, -1, -1, self.temporal, -1, -1)
        grid = torch.tensor([[1, rows * merge, columns * merge]], device=device)
        return {
            "pixel_values": frames.reshape(rows * columns * merge**2, -1),
            "image_grid_thw": grid,
        }

    def token_boxes(self, height: int, width: int) -> Boxes:
        """The blocks of the resized picture, in raster order; they cover the image exactly."""
        rows, columns = self.grid(height, width)
        return grid_boxes(columns, rows, 0, 0, width, height)

    def image_pieces(self, height: int, width: int) -> Sequence[str | int]:
        """The image tokens between the marks of a picture."""
        rows, columns = self.grid(height, width)
        return ["<|vision_start|>", rows * columns, "<|vision_end|>"]

    def positions(
        self, is_image: npt.NDArray[np.bool_], height: int, width: int
    ) -> tuple[torch.Tensor, int]:
        """M-RoPE: time, row and column (3, 1, T) of each token, and the id that follows.

        The three are equal for text. Image tokens have the time of the first one, and their row and
        column in the grid count from there. The text that follows starts after the longer side.

        Raises:
            ValueError: the image tokens are not one block of as many as the picture has.
        """
        ids = np.arange(len(is_image))[None].repeat(3, 0)
        if not is_image.any():
            return torch.from_numpy(ids)[:, None], len(is_image)
        rows, columns = self.grid(height, width)
        first, count = int(is_image.argmax()), rows * columns
        end = first + count
        if is_image.sum() != count or not is_image[first:end].all():
            raise ValueError(
                f"the prompt has {is_image.sum()} image tokens from token {first} on; an image of "
                f"{width}x{height} pixels is one block of {count}"
            )
        saved = count - max(rows, columns)
        ids[0, first:end] = first
        ids[1:, first:end] = first + np.indices((rows, columns)).reshape(2, -1)
        ids[:, end:] -= saved
        return torch.from_numpy(ids)[:, None], len(is_image) - saved


@dataclass(frozen=True)
class _Qwen2VL(QwenVL):
    """Qwen2-VL: no DeepStack."""

    template = "qwen2_vl"
    projector = ("visual.merger",)


@dataclass(frozen=True)
class _Qwen25VL(_Qwen2VL):
    """Qwen2.5-VL: boxes are in pixels of the resized picture."""

    boxes = "pixels"


@dataclass(frozen=True)
class _Qwen35(QwenVL):
    """Qwen3.5: no DeepStack; three of four layers are recurrent and have their own projections.

    `in_proj_a` and `in_proj_b` have one row per head: too small to be adapted.
    """

    template = "qwen3_5"
    projector = ("visual.merger",)
    lora_targets = (
        r".*language_model.*\.((q|k|v|o|gate|up|down)_proj|in_proj_(qkv|z)|linear_attn\.out_proj)"
    )


class _Published(NamedTuple):
    """What a family's published preprocessor_config.json states."""

    low: int
    high: int
    normalization: Normalization


_FAMILIES: dict[str, tuple[type[QwenVL], _Published]] = {
    "qwen2_vl": (_Qwen2VL, _Published(3136, 12845056, CLIP)),
    "qwen2_5_vl": (_Qwen25VL, _Published(3136, 12845056, CLIP)),
    "qwen3_vl": (QwenVL, _Published(65536, 16777216, HALF)),
    "qwen3_5": (_Qwen35, _Published(65536, 16777216, HALF)),
}


def _first(*values: Any) -> Any:
    """The first value that is stated."""
    return next((value for value in values if value is not None), None)
