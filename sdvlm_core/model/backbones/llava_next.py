"""LLaVA-NeXT (LLaVA 1.6): a CLIP tower over the whole picture and over tiles of it.

transformers' `LlavaNextForConditionalGeneration`. The words around the image depend on the language
model: Mistral's and Vicuna's are known; another one needs the `prompt_template` in the config. Does
not know weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from sdvlm_core.model.backbones.anyres import Anyres
from sdvlm_core.model.backbones.contract import Backbone, Boxes
from sdvlm_core.model.backbones.picture import CLIP
from sdvlm_core.model.backbones.settings import whole
from sdvlm_core.model.backbones.tiles import refused

#: Words of Vicuna's tokenizer with LLaVA's own, padded; Llama 3 and Yi share Vicuna's architecture
#: and have more.
_VICUNA_WORDS = 32064


@dataclass(frozen=True)
class LlavaNext(Backbone):
    """LLaVA-NeXT with Mistral."""

    template: ClassVar[str] = "mistral_instruct"
    dialect: ClassVar[str] = "chat"
    boxes: ClassVar[str] = "fraction"

    anyres: Anyres

    @classmethod
    def of(cls, config: Any, preprocessor: Mapping[str, Any]) -> LlavaNext:
        """From transformers' LlavaNextConfig."""
        tower, strategy = config.vision_config.model_type, config.vision_feature_select_strategy
        if tower != "clip_vision_model":
            raise refused("vision_config.model_type", tower, "'clip_vision_model'")
        if strategy != "default":
            raise refused("vision_feature_select_strategy", strategy, "'default'")
        return _class(config)(Anyres.of(config, preprocessor, CLIP))

    def prepare(self, rgb: npt.NDArray[np.uint8], device: torch.device) -> dict[str, torch.Tensor]:
        """(H, W, 3) uint8 -> `pixel_values` (1, tiles, 3, S, S) and `image_sizes` (1, 2)."""
        return self.anyres.prepare(rgb, device)

    def batched(self, inputs: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """As many tiles for each picture."""
        return self.anyres.batched(inputs)

    def token_boxes(self, height: int, width: int) -> Boxes:
        """What each image token of a picture of this size shows."""
        return self.anyres.token_boxes(height, width)

    def image_pieces(self, height: int, width: int) -> Sequence[str | int]:
        """The image in a prompt: its tokens alone."""
        return [self.anyres.tokens(height, width)]


@dataclass(frozen=True)
class VicunaLlavaNext(LlavaNext):
    """LLaVA-NeXT with Vicuna."""

    template: ClassVar[str] = "vicuna_v1"


def _class(config: Any) -> type[LlavaNext]:
    """The class whose template belongs to the config's language model."""
    text = config.text_config
    words = whole("text_config.vocab_size", text.vocab_size, 1, 1 << 22)
    if text.model_type == "llama" and words <= _VICUNA_WORDS:
        return VicunaLlavaNext
    if text.model_type == "mistral" or getattr(config, "prompt_template", None):
        return LlavaNext
    raise refused(
        "text_config",
        f"{text.model_type} of {words} words",
        "Mistral or Vicuna; a config with another one needs a `prompt_template`",
    )
