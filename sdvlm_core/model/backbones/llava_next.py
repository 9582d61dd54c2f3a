"""LLaVA-NeXT (LLaVA 1.6): a CLIP tower over the whole picture and over tiles of it.

transformers' `LlavaNextForConditionalGeneration`. The words around the image depend on the language
model: Mistral's and Vicuna's are known; another one needs the `prompt_template` in the config. Does
not know weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from sdvlm_core.model.backbones.anyres import Anyres, AnyresBackbone
from sdvlm_core.model.backbones.picture import CLIP
from sdvlm_core.model.backbones.settings import whole
from sdvlm_core.model.backbones.tiles import refused

#: Words of Vicuna's tokenizer with LLaVA's own, padded; Llama 3 and Yi share Vicuna's architecture
#: and have more.
_VICUNA_WORDS = 32064


@dataclass(frozen=True)
class LlavaNext(AnyresBackbone):
    """LLaVA-NeXT with Mistral."""

    template: ClassVar[str] = "mistral_instruct"

    @classmethod
    def of(cls, config: Any, preprocessor: Mapping[str, Any]) -> LlavaNext:
        """From transformers' LlavaNextConfig."""
        tower, strategy = config.vision_config.model_type, config.vision_feature_select_strategy
        if tower != "clip_vision_model":
            raise refused("vision_config.model_type", tower, "'clip_vision_model'")
        if strategy != "default":
            raise refused("vision_feature_select_strategy", strategy, "'default'")
        return _class(config)(Anyres.of(config, preprocessor, CLIP))


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
