"""What this project adds to a model's config.json, and what it reads there of any family.

`depth_encoding` (EncodingSettings), `calibration` (confidence), `prompt_template` (a name) and
`dialect`. Does not know files or weights.
"""

from __future__ import annotations

import math
from typing import Any

from sdvlm_core.model.confidence import Calibration
from sdvlm_core.model.depth_encoding import EncodingSettings


def encoding_settings(config: Any) -> EncodingSettings:
    """The depth encoding in a model's config; a config without one has kind `none`."""
    stored = getattr(config, "depth_encoding", None)
    return EncodingSettings.from_mapping(stored) if stored else EncodingSettings(kind="none")


def calibration(config: Any) -> Calibration:
    """The calibration of the model's confidence; without one, raw values are kept."""
    return Calibration.from_mapping(getattr(config, "calibration", None) or {})


def context_tokens(config: Any) -> int | None:
    """Length of the language model's context in tokens; None = not stated."""
    stated = getattr(config.text_config, "max_position_embeddings", None)
    return None if stated is None else int(stated)


def cache_shape(text_config: Any) -> tuple[int, int, int]:
    """Layers, heads of keys and values, and channels of a head, of a language model."""
    heads = getattr(text_config, "num_key_value_heads", None) or text_config.num_attention_heads
    channels = getattr(text_config, "head_dim", None) or (
        text_config.hidden_size // text_config.num_attention_heads
    )
    return text_config.num_hidden_layers, heads, channels


def bytes_per_token(model: Any) -> int:
    """Memory of the keys and values of one token; of some layers less, where they keep a window."""
    return 2 * math.prod(cache_shape(model.config.text_config)) * int(model.dtype.itemsize)
