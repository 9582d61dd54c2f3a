"""nano's architecture: LLaVA with at most eight million parameters, and its image-token grid.

Knows sizes only; does not know data, training or the tokenizer's text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdvlm_core.language.question import Dialect
from sdvlm_core.model.depth_encoding import EncodingSettings

if TYPE_CHECKING:
    from transformers import LlavaConfig

#: Side of the square image in pixels; image tokens per side of it.
PICTURE, CELLS = 192, 12
ENCODING = EncodingSettings(kind="xyz", gain=1.0, normalize_features=True, optional=True)
#: The prompt template of nano, a name of `sdvlm_core.model.prompt.TEMPLATES`.
PROMPT = "raw_lower"
#: nano knows few words: a question that is understood is put to it in the template of its kind.
DIALECT = Dialect.TEMPLATES.value
#: Ids of the special tokens, which the tokenizer puts first.
PAD, BOS, EOS, IMAGE = range(4)


def nano_config(vocabulary: int) -> LlavaConfig:
    """The configuration of an untrained nano.

    Args:
        vocabulary: number of tokens.
    """
    # Takes seconds, which the processes that prepare frames do not need.
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=192,
            intermediate_size=768,
            num_hidden_layers=6,
            num_attention_heads=6,
            image_size=PICTURE,
            patch_size=PICTURE // CELLS,
            hidden_act="gelu",
        ),
        text_config=LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=256,
            intermediate_size=640,
            num_hidden_layers=5,
            num_attention_heads=8,
            num_key_value_heads=8,
            max_position_embeddings=4096,
            tie_word_embeddings=True,
            initializer_range=0.05,
            pad_token_id=PAD,
            bos_token_id=BOS,
            eos_token_id=EOS,
        ),
        image_token_index=IMAGE,
        vision_feature_layer=-1,
        tie_word_embeddings=True,
    )
    config.depth_encoding = ENCODING.to_mapping()
    config.prompt_template, config.dialect = PROMPT, DIALECT
    return config
