"""Gemma 3: the picture as a square, and crops of a long picture ("pan and scan") if asked for.

A view is stretched to a square, so no token shows padding. The image tokens of a view attend to
each other: the model needs `token_type_ids`, 1 at image tokens. Pan and scan is off in the
published models; a preprocessor_config.json turns it on. Does not know depth. Gemma 3 technical
report (2025); transformers' Gemma3ImageProcessor and Gemma3Processor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from sdvlm_core.errors import CheckpointError, shown
from sdvlm_core.model.backbones.contract import Backbone, Boxes, ImageAttention
from sdvlm_core.model.backbones.picture import HALF, normalized, resized
from sdvlm_core.model.backbones.settings import PixelRule, part, pixel_rule, whole
from sdvlm_core.model.backbones.views import View, boxes_of

#: Image tokens of a view; published models have 256.
_MAX_VIEW_TOKENS = 1 << 12
_MAX_CROPS = 16


@dataclass(frozen=True)
class PanAndScan:
    """When a picture is cropped besides: its longer side is cut into equal parts.

    Attributes:
        crop_px: smallest side of a crop, pixels of the original.
        crops: the largest number of crops.
        ratio: longer side / shorter side from which a picture is cropped.
    """

    crop_px: int = 256
    crops: int = 4
    ratio: float = 1.2

    def views(self, height: int, width: int) -> list[View]:
        """The crops of a picture of this size, in order; empty = none."""
        longer, shorter = max(width, height), min(width, height)
        if longer / shorter < self.ratio:
            return []
        count = min(math.floor(longer / self.crop_px), math.floor(longer / shorter + 0.5))
        count = min(self.crops, max(2, count))
        length = math.ceil(longer / count)
        if min(length, shorter) < self.crop_px:
            return []
        spans = [(i * length, min((i + 1) * length, longer)) for i in range(count)]
        if width >= height:
            return [View(start, 0, end, height) for start, end in spans]
        return [View(0, start, width, end) for start, end in spans]


@dataclass(frozen=True)
class Gemma3(Backbone):
    """Gemma 3 with vision (`gemma3`).

    Attributes:
        side: of a view as the tower takes it, pixels.
        cell: side of a token there, pixels: patches are averaged (4 x 4 of 14 in the published
            models).
        rule: resampling filter and normalisation.
        crops: None = the picture as a whole only.
    """

    template: ClassVar[str] = "gemma3"
    dialect: ClassVar[str] = "chat"
    boxes: ClassVar[str] = "thousand_yx"
    attention: ClassVar[ImageAttention] = ImageAttention.IMAGE

    side: int
    cell: int
    rule: PixelRule
    crops: PanAndScan | None = None

    @classmethod
    def of(cls, config: Any, preprocessor: Mapping[str, Any]) -> Gemma3:
        """From a model's config and its preprocessor_config.json.

        Raises:
            CheckpointError: an impossible value, stated with its key; or a view of another size
                than the tower's.
        """
        vision = config.vision_config
        side = whole("vision_config.image_size", vision.image_size, 1, 8192)
        patch = whole("vision_config.patch_size", vision.patch_size, 1, side)
        tokens = whole("mm_tokens_per_image", config.mm_tokens_per_image, 1, _MAX_VIEW_TOKENS)
        cells, patches = math.isqrt(tokens), side // patch
        if cells**2 != tokens or patches % cells:
            raise CheckpointError(
                f"mm_tokens_per_image is {tokens}; it must be a square whose root divides the "
                f"{patches} patches along the image"
            )
        size = part("size", preprocessor) or {"height": side, "width": side}
        for key in ("height", "width"):
            if whole(f"size.{key}", size.get(key), 1, 8192) != side:
                raise CheckpointError(f"size.{key} is {size[key]}; the vision tower takes {side}")
        rule = pixel_rule(preprocessor, "bilinear", HALF)
        return cls(side, patches // cells * patch, rule, _pan_and_scan(preprocessor))

    @property
    def view_tokens(self) -> int:
        """Image tokens of the picture as a whole, and of each crop."""
        return (self.side // self.cell) ** 2

    def views(self, height: int, width: int) -> list[View]:
        """The whole picture, then its crops."""
        crops = self.crops.views(height, width) if self.crops else []
        return [View(0, 0, width, height), *crops]

    def prepare(self, rgb: npt.NDArray[np.uint8], device: torch.device) -> dict[str, torch.Tensor]:
        """`pixel_values` (views, 3, side, side)."""
        side, kind = self.side, self.rule.filter
        squares = []
        for view in self.views(*rgb.shape[:2]):
            left, top, right, bottom = map(int, view)
            squares.append(resized(rgb[top:bottom, left:right], side, side, kind, device))
        return {"pixel_values": normalized(torch.stack(squares), self.rule.normalization)}

    def token_boxes(self, height: int, width: int) -> Boxes:
        """The whole picture, then the crops; the tokens of each row by row."""
        views = self.views(height, width)
        return np.concatenate([boxes_of(view, self.side, self.cell) for view in views])

    def image_pieces(self, height: int, width: int) -> Sequence[str | int]:
        """The picture between its control tokens; crops with the published words around them.

        A line break of the template before the first piece belongs to the same text; the blank
        line after the image is the template's `between`.
        """
        crops = len(self.views(height, width)) - 1
        if not crops:
            return ["\n\n<start_of_image>", self.view_tokens, "<end_of_image>"]
        pieces: list[str | int] = ["Here is the original image \n\n<start_of_image>"]
        words = " and here are some crops to help you see better "
        for _ in range(crops):
            pieces += [self.view_tokens, f"<end_of_image>\n\n{words}\n\n<start_of_image>"]
            words = " "
        return [*pieces, self.view_tokens, "<end_of_image>"]


def _pan_and_scan(preprocessor: Mapping[str, Any]) -> PanAndScan | None:
    """The keys of pan and scan; values that are missing or null are the library's defaults."""
    wanted = preprocessor.get("do_pan_and_scan")
    if wanted in (None, False):
        return None
    if wanted is not True:
        raise CheckpointError(f"do_pan_and_scan is {shown(repr(wanted), 60)}; it must be a boolean")
    given = {
        field: preprocessor[f"pan_and_scan_{key}"]
        for field, key in (
            ("crop_px", "min_crop_size"),
            ("crops", "max_num_crops"),
            ("ratio", "min_ratio_to_activate"),
        )
        if preprocessor.get(f"pan_and_scan_{key}") is not None
    }
    rule = PanAndScan(**given)
    # A crop has at least as many pixels as there are crops: no crop is empty.
    whole("pan_and_scan_min_crop_size", rule.crop_px, _MAX_CROPS, 8192)
    whole("pan_and_scan_max_num_crops", rule.crops, 1, _MAX_CROPS)
    if type(rule.ratio) not in (int, float) or not 0 < rule.ratio <= 1000:
        raise CheckpointError(
            f"pan_and_scan_min_ratio_to_activate is {shown(repr(rule.ratio), 60)}; it must be a "
            "number above 0, up to 1000"
        )
    return rule
