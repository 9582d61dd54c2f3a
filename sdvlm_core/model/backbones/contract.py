"""The contract of a backbone: what sdvlm asks of a vision-language model of transformers.

A backbone prepares a picture, says which part of the original image each image token shows, writes
the tokens around the image, and knows how its model is asked. All of it follows from the model's
configuration, so that a backbone is made without weights. Does not know depth, frames, or how an
answer is generated.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch

from sdvlm_core.model.image_tokens import Boxes as Boxes
from sdvlm_core.model.image_tokens import TokenPixels, pixels_of


class ImageAttention(Enum):
    """What the image tokens of a prompt attend to."""

    CAUSAL = "causal"  # the tokens before them: a prompt can be read in parts
    IMAGE = "image"  # also the other tokens of the image: an image is read in one part
    PROMPT = "prompt"  # also the question: questions share no prefix


class Backbone(ABC):
    """How one model sees and is asked.

    Class attributes:
        template: its name in `prompt.TEMPLATES`, unless the checkpoint's config has another
            `prompt_template`.
        dialect: how questions are put, a value of `language.question.Dialect`, unless the config
            has another `dialect`.
        boxes: how the model writes the place of an object, a form of `language.boxes`.
        attention: of the image tokens.
        lora_targets: regular expression of the language model's linear layers.
        projector: names of the modules between image encoder and language model.
    """

    template: ClassVar[str]
    dialect: ClassVar[str]
    boxes: ClassVar[str]
    attention: ClassVar[ImageAttention] = ImageAttention.CAUSAL
    lora_targets: ClassVar[str] = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
    projector: ClassVar[tuple[str, ...]] = ("multi_modal_projector",)

    @abstractmethod
    def prepare(self, rgb: npt.NDArray[np.uint8], device: torch.device) -> dict[str, torch.Tensor]:
        """(H, W, 3) uint8 -> the arguments of the model's `get_image_features`, on a device."""

    def batched(self, inputs: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Results of `prepare` -> the arguments of `get_image_features` for all of the images.

        The features of the images then follow one another, in this order.
        """
        return {name: torch.cat([one[name] for one in inputs]) for name in inputs[0]}

    @abstractmethod
    def token_boxes(self, height: int, width: int) -> Boxes:
        """What each image token of a picture of this size shows.

        In the order of the projected features (`pooler_output`).
        """

    def token_pixels(self, height: int, width: int) -> TokenPixels:
        """The pixels of `token_boxes`; made once for a size."""
        return _token_pixels(self, height, width)

    @abstractmethod
    def image_pieces(self, height: int, width: int) -> Sequence[str | int]:
        """The image in a prompt: text with control tokens, and numbers of image tokens.

        The numbers add up to the tokens of `token_boxes`.
        """

    def positions(
        self, is_image: npt.NDArray[np.bool_], height: int, width: int
    ) -> tuple[torch.Tensor, int]:
        """Position ids (1, T) or (3, 1, T) of a prompt, and the id of the token that follows it.

        Args:
            is_image: (T,) whether a token is an image token.
        """
        return torch.arange(len(is_image))[None], len(is_image)

    def picture_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the picture in whose pixels the model writes; only for `pixels`."""
        return height, width


@lru_cache(maxsize=16)
def _token_pixels(backbone: Backbone, height: int, width: int) -> TokenPixels:
    return pixels_of(backbone.token_boxes(height, width), width, height)
