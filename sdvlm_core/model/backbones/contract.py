"""The contract of a backbone: what sdvlm asks of a vision-language model of transformers.

A backbone prepares a picture, says which part of the original image each image token shows, writes
the tokens around the image, and knows how its model is asked. All of it follows from the model's
configuration, so that a backbone is made without weights. Does not know depth, frames, or how an
answer is generated.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import Enum
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch

#: (N, 4) float64: x1, y1, x2, y2 of N rectangles in pixels of the original image (pixel i covers
#: i..i+1); NaN = the token shows no part of it.
Boxes = npt.NDArray[np.float64]


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
        dialect: its name in `language.dialects.DIALECTS`: how questions are put, and boxes written.
        attention: of the image tokens.
        lora_targets: regular expression of the language model's linear layers.
        projector: names of the modules between image encoder and language model.
        stop_tokens: tokens that end an answer besides the tokenizer's end of sequence.
    """

    template: ClassVar[str]
    dialect: ClassVar[str]
    attention: ClassVar[ImageAttention] = ImageAttention.CAUSAL
    lora_targets: ClassVar[str] = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
    projector: ClassVar[tuple[str, ...]] = ("multi_modal_projector",)
    stop_tokens: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def prepare(self, rgb: npt.NDArray[np.uint8], device: torch.device) -> dict[str, torch.Tensor]:
        """(H, W, 3) uint8 -> the arguments of the model's `get_image_features`, on a device."""

    @abstractmethod
    def token_boxes(self, height: int, width: int) -> Boxes:
        """What each image token of a picture of this size shows.

        In the order of the projected features (`pooler_output`).
        """

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
