"""Backbones: the families of vision-language models, by transformers' `model_type`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from sdvlm_core.errors import CheckpointError, shown
from sdvlm_core.model.backbones.contract import Backbone
from sdvlm_core.model.own_settings import encoding_settings

#: model_type -> module of this package, and its class. Imported when a model of it is loaded.
_FAMILIES = {
    "gemma3": ("gemma3", "Gemma3"),
    "idefics3": ("smolvlm", "SmolVLM"),
    "internvl": ("internvl", "InternVL"),
    "llava": ("llava", "Llava"),
    "llava_next": ("llava_next", "LlavaNext"),
    "llava_onevision": ("llava_onevision", "LlavaOneVision"),
    "paligemma": ("paligemma", "PaliGemma"),
    "qwen2_vl": ("qwen_vl", "QwenVL"),
    "qwen2_5_vl": ("qwen_vl", "QwenVL"),
    "qwen3_5": ("qwen_vl", "QwenVL"),
    "qwen3_vl": ("qwen_vl", "QwenVL"),
    "smolvlm": ("smolvlm", "SmolVLM"),
}


def model_types() -> tuple[str, ...]:
    """The families that can be loaded."""
    return tuple(sorted(_FAMILIES))


def backbone_for(config: Any, preprocessor: Mapping[str, Any]) -> Backbone:
    """The backbone of a model.

    Args:
        config: transformers' configuration of the model.
        preprocessor: its preprocessor_config.json; {} = the published values of the family.

    Raises:
        CheckpointError: no family has this `model_type`, a value is impossible, or the depth
            encoding has the alignment of LLaVA's grid and the model another grid.
    """
    if config.model_type not in _FAMILIES:
        raise CheckpointError(
            f"the model_type {shown(repr(config.model_type), 60)} is not supported; known are "
            + ", ".join(model_types())
        )
    if config.model_type != "llava" and encoding_settings(config).alignment == "reference":
        # As many tokens as a square has may be of any shape: the code would be at other places.
        raise CheckpointError(
            "depth_encoding.alignment 'reference' is for the token grid of LLaVA-1.5; a "
            f"{config.model_type} model needs 'padded'"
        )
    module, name = _FAMILIES[config.model_type]
    family: Any = getattr(import_module(f"{__name__}.{module}"), name)
    backbone: Backbone = family.of(config, preprocessor)
    return backbone
