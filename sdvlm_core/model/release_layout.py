"""The layouts of SD-VLM's and Depth-Anything-V2's releases, mapped to transformers' layout.

Defines the target of each released tensor, the ignored names, and the architecture that config.json
and the shapes imply. Opens no file (`conversion_plan` and `convert` do).

SD-VLM's checkpoint (`model_type: llava_llama`) holds LLaVA's language model, projector and CLIP
tower; a whole Depth-Anything-V2 under `depth.`, with one LayerScale `gamma` per branch that
loaders of 2023 drop; and a `depth_projector` of an older revision that no forward pass uses.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sdvlm_core.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import CLIPVisionConfig, DepthAnythingConfig, LlavaConfig

Shapes = Mapping[str, tuple[int, ...]]

#: Prefix of the Depth-Anything-V2 weights inside the SD-VLM checkpoint.
EMBEDDED_DEPTH = "depth."
#: Prefix of the vision tower inside the checkpoint.
TOWER = "model.vision_tower.vision_tower.vision_model."
#: Weights with one row per word of the vocabulary.
EMBEDDINGS = ("model.embed_tokens.weight", "lm_head.weight")
#: Unused in the released forward pass, or computed by transformers.
_IGNORED = re.compile(r"^depth_projector\.|rotary_emb\.inv_freq$|embeddings\.position_ids$")
#: Rows of the embedding are padded to a multiple of this; the first added one is the image token.
_ROW_MULTIPLE = 64

_Rename = tuple[str, "str | Callable[[re.Match[str]], str]"]
# (pattern, replacement): transformers' name -> the release's. The first that matches is applied.
_LLAVA_NAMES: tuple[_Rename, ...] = (
    (r"^model\.language_model\.", "model."),
    (r"^model\.multi_modal_projector\.linear_1\.", "model.mm_projector.0."),
    (r"^model\.multi_modal_projector\.linear_2\.", "model.mm_projector.2."),
    (r"^model\.vision_tower\.", TOWER),
    (r"^lm_head\.", "lm_head."),
)
_LAYER = r"^backbone\.encoder\.layer\.(\d+)\."
_FUSION = r"^neck\.fusion_stage\.layers\.(\d)\."


def _refinenet(match: re.Match[str]) -> str:
    return f"depth_head.scratch.refinenet{4 - int(match[1])}."


_DEPTH_NAMES: tuple[_Rename, ...] = (
    (r"^backbone\.embeddings\.(cls_token|mask_token)$", r"pretrained.\1"),
    (r"^backbone\.embeddings\.position_embeddings$", "pretrained.pos_embed"),
    (r"^backbone\.embeddings\.patch_embeddings\.projection\.", "pretrained.patch_embed.proj."),
    (r"^backbone\.layernorm\.", "pretrained.norm."),
    (_LAYER + r"layer_scale([12])\.lambda1$", r"pretrained.blocks.\1.ls\2.gamma"),
    (_LAYER + r"attention\.o_proj\.", r"pretrained.blocks.\1.attn.proj."),
    (_LAYER + r"attention\.[qkv]_proj\.", r"pretrained.blocks.\1.attn.qkv."),
    (_LAYER, r"pretrained.blocks.\1."),
    (r"^neck\.reassemble_stage\.layers\.(\d)\.projection\.", r"depth_head.projects.\1."),
    (r"^neck\.reassemble_stage\.layers\.(\d)\.resize\.", r"depth_head.resize_layers.\1."),
    (r"^neck\.convs\.(\d)\.", lambda m: f"depth_head.scratch.layer{int(m[1]) + 1}_rn."),
    (
        _FUSION + r"residual_layer([12])\.convolution([12])\.",
        lambda m: f"{_refinenet(m)}resConfUnit{m[2]}.conv{m[3]}.",
    ),
    (_FUSION + r"projection\.", lambda m: f"{_refinenet(m)}out_conv."),
    (r"^head\.conv1\.", "depth_head.scratch.output_conv1."),
    (r"^head\.conv2\.", "depth_head.scratch.output_conv2.0."),
    (r"^head\.conv3\.", "depth_head.scratch.output_conv2.2."),
)


@dataclass(frozen=True)
class Target:
    """The target of a released tensor: a transformers name, and the part along dimension 0."""

    name: str
    part: int = 0
    parts: int = 1


def _released(name: str, renames: Iterable[_Rename]) -> str:
    for pattern, replacement in renames:
        renamed, times = re.subn(pattern, replacement, name)
        if times:
            return renamed
    raise CheckpointError(f"this version of transformers has a weight without a rule: {name}")


def llava_targets(names: Iterable[str]) -> dict[str, list[Target]]:
    """Released name -> targets, for all weights `names` of a transformers LLaVA."""
    return {_released(name, _LLAVA_NAMES): [Target(name)] for name in names}


def depth_targets(names: Iterable[str], prefix: str = "") -> dict[str, list[Target]]:
    """Released name -> targets, for all weights of a transformers DepthAnything.

    Upstream keeps query, key and value in one tensor, in this order. `prefix` is EMBEDDED_DEPTH
    inside an SD-VLM checkpoint.
    """
    targets = defaultdict(list)
    for name in names:
        released = prefix + _released(name, _DEPTH_NAMES)
        third = re.search(r"attention\.([qkv])_proj\.", name)
        targets[released].append(Target(name, "qkv".index(third[1]), 3) if third else Target(name))
    return dict(targets)


def check_keys(keys: Iterable[str], wanted: Iterable[str], where: str) -> None:
    """Raise CheckpointError that lists the missing and the unknown names in `keys`."""
    present, wanted = set(keys), set(wanted)
    missing = sorted(wanted - present)
    unknown = sorted(key for key in present - wanted if not _IGNORED.search(key))
    if missing or unknown:
        found = [
            f"{len(names)} {kind}: {', '.join(names)}"
            for kind, names in (("missing", missing), ("unknown", unknown))
            if names
        ]
        raise CheckpointError(f"{where} is not a complete SD-VLM layout; {'; '.join(found)}")


def ignored(keys: Iterable[str]) -> list[str]:
    """The names that are left out on purpose, sorted."""
    return sorted(key for key in keys if _IGNORED.search(key))


def _count(shapes: Shapes, pattern: str) -> int:
    """Number of layers whose tensors match `pattern`, whose group 1 is the layer."""
    found = {int(m[1]) for key in shapes if (m := re.match(pattern, key))}
    return max(found) + 1 if found else 0


def _shape(shapes: Shapes, key: str) -> tuple[int, ...]:
    if key not in shapes:
        raise CheckpointError(f"{key} is missing; its shape defines the size of the architecture")
    return shapes[key]


def tower_config(shapes: Shapes) -> CLIPVisionConfig:
    """CLIP's architecture from the shapes of the tower inside the checkpoint.

    Shapes do not define the number of heads and the activation: these are 64 channels a head and
    quick GELU, as in every tower that OpenAI released.
    """
    from transformers import CLIPVisionConfig

    if not any(key.startswith(TOWER) for key in shapes):
        raise CheckpointError(
            "the checkpoint holds no vision tower; give the directory of one (--vision-tower)"
        )
    hidden, _, patch, _ = _shape(shapes, TOWER + "embeddings.patch_embedding.weight")
    positions = _shape(shapes, TOWER + "embeddings.position_embedding.weight")[0]
    layer = TOWER + "encoder.layers."
    return CLIPVisionConfig(
        hidden_size=hidden,
        intermediate_size=_shape(shapes, layer + "0.mlp.fc1.weight")[0],
        num_hidden_layers=_count(shapes, re.escape(layer) + r"(\d+)\."),
        num_attention_heads=max(1, hidden // 64),
        patch_size=patch,
        image_size=math.isqrt(positions - 1) * patch,
        hidden_act="quick_gelu",
    )


_REQUIRED = {
    "model_type": "llava_llama",
    "mm_projector_type": "mlp2x_gelu",
    "image_aspect_ratio": "pad",
    "mm_use_im_start_end": False,
}


def llava_config(released: Mapping[str, Any], tower: CLIPVisionConfig) -> LlavaConfig:
    """The released config.json -> transformers' LlavaConfig, without a depth encoding yet.

    transformers represents the image by a token id, so the embedding grows from `vocab_size` rows
    to the next multiple of 64, and the first new row is that token.

    Raises:
        CheckpointError: a value that this forward pass does not support; names it.
    """
    from transformers import LlamaConfig, LlavaConfig

    for key, value in _REQUIRED.items():
        if released.get(key, value) != value:
            raise CheckpointError(
                f"config.json has {key} = {released[key]!r}; only {value!r} is supported"
            )
    if released.get("rope_scaling"):
        raise CheckpointError(f"rope_scaling is not supported: {released['rope_scaling']!r}")
    copied = (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "max_position_embeddings",
        "rms_norm_eps",
        "hidden_act",
        "bos_token_id",
        "eos_token_id",
    )
    try:
        text = {key: released[key] for key in copied}
        words = int(released["vocab_size"])
        layer = int(released["mm_vision_select_layer"])
    except KeyError as error:
        raise CheckpointError(f"config.json lacks {error}") from error
    return LlavaConfig(
        vision_config=tower,
        text_config=LlamaConfig(
            **text,
            vocab_size=padded_rows(words),
            num_key_value_heads=released.get("num_key_value_heads", text["num_attention_heads"]),
            rope_theta=released.get("rope_theta", 10000.0),
            pad_token_id=released.get("pad_token_id") or 0,
            tie_word_embeddings=False,
        ),
        image_token_index=words,
        vision_feature_layer=layer,
        vision_feature_select_strategy=(
            "default" if released.get("mm_vision_select_feature", "patch") == "patch" else "full"
        ),
        tie_word_embeddings=False,
    )


def padded_rows(words: int) -> int:
    """Rows of the embedding of a vocabulary of `words` tokens and the image token."""
    return -(-(words + 1) // _ROW_MULTIPLE) * _ROW_MULTIPLE


#: Blocks whose output the depth head reads, counted from 1, by number of blocks.
_OUTPUT_BLOCKS = {12: (3, 6, 9, 12), 24: (5, 12, 18, 24), 40: (10, 20, 30, 40)}


def depth_config(
    shapes: Shapes, prefix: str = "", metric_range: float | None = None
) -> DepthAnythingConfig:
    """Depth-Anything-V2's architecture from the shapes of its released weights.

    metric_range: metres that the metric variants' sigmoid spans (20 indoor, 80 outdoor), which
    shapes do not define; None = the relative variants.
    """
    from transformers import DepthAnythingConfig, Dinov2Config

    base, head = prefix + "pretrained.", prefix + "depth_head."
    hidden, _, patch, _ = _shape(shapes, base + "patch_embed.proj.weight")
    positions = _shape(shapes, base + "pos_embed")[1]
    blocks = _count(shapes, re.escape(base) + r"blocks\.(\d+)\.")
    outputs = _OUTPUT_BLOCKS.get(blocks, tuple(blocks * quarter // 4 for quarter in range(1, 5)))
    return DepthAnythingConfig(
        backbone_config=Dinov2Config(
            hidden_size=hidden,
            num_hidden_layers=blocks,
            num_attention_heads=max(1, hidden // 64),
            mlp_ratio=_shape(shapes, base + "blocks.0.mlp.fc1.weight")[0] // hidden,
            patch_size=patch,
            image_size=math.isqrt(positions - 1) * patch,
            layer_norm_eps=1e-6,
            out_indices=list(outputs),
            apply_layernorm=True,
            reshape_hidden_states=False,
        ),
        patch_size=patch,
        reassemble_hidden_size=hidden,
        neck_hidden_sizes=[_shape(shapes, f"{head}projects.{i}.weight")[0] for i in range(4)],
        fusion_hidden_size=_shape(shapes, head + "scratch.layer1_rn.weight")[0],
        head_hidden_size=_shape(shapes, head + "scratch.output_conv2.0.weight")[0],
        depth_estimation_type="metric" if metric_range else "relative",
        max_depth=int(metric_range) if metric_range else 1,
    )
