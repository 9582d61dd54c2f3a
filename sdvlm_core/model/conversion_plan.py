"""A released SD-VLM checkpoint -> the plan of its conversion, from file headers alone.

Every released tensor must have a place in the converted models; otherwise planning fails. Reads no
weight and writes nothing (`convert` does); the rules of the layout are in `release_layout`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sdvlm_core import __version__
from sdvlm_core.errors import CheckpointError, library_guard
from sdvlm_core.files import read_json
from sdvlm_core.model import release_layout, weight_files
from sdvlm_core.model.depth_encoding import PARITY, EncodingSettings, Orientation
from sdvlm_core.model.release_layout import (
    EMBEDDED_DEPTH,
    EMBEDDINGS,
    TOWER,
    Shapes,
    Target,
)

if TYPE_CHECKING:
    from transformers import CLIPVisionConfig, DepthAnythingConfig, LlavaConfig


@dataclass(frozen=True, eq=False)
class Source:
    """One released file.

    Attributes:
        shapes: shapes of the tensors, by their names in the file.
        names: name in the file -> released name, for the tensors that are converted.
    """

    path: Path
    shapes: Shapes
    names: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Plan:
    """How a released checkpoint is converted; made without reading a weight.

    Attributes:
        sources: the files to read.
        llava, depth: configurations of the converted models; no depth network = None.
        llava_targets, depth_targets: released name -> its places in that model.
        ignored: released names that are left out on purpose.
        words: size of the released vocabulary; also the id of the image token.
        provenance: where the checkpoint comes from, for conversion.json.
    """

    sources: list[Source]
    llava: LlavaConfig
    depth: DepthAnythingConfig | None
    llava_targets: dict[str, list[Target]]
    depth_targets: dict[str, list[Target]]
    ignored: list[str]
    words: int
    provenance: dict[str, Any] = field(default_factory=dict)


def plan(
    directory: Path,
    *,
    vision_tower: Path | None = None,
    orientation: Orientation | None = None,
    parity: bool = False,
) -> Plan:
    """Find a place for every tensor of a released SD-VLM directory.

    Args:
        vision_tower: a CLIP directory to take the tower from, instead of from the checkpoint.
        orientation: orientation of the depth code. The default follows from `gt_depth` in
            config.json: `direct` for training with sensor depth, else `inverse`. Not with `parity`.
        parity: convert for the released forward pass with its defects, not the corrected one.

    Raises:
        CheckpointError: another layout, an unsupported setting, or missing or unknown tensors;
            lists them all.
    """
    with library_guard(CheckpointError, f"{directory} cannot be converted"):
        return _plan(directory, vision_tower, orientation, parity)


def _plan(
    directory: Path, vision_tower: Path | None, orientation: Orientation | None, parity: bool
) -> Plan:
    """As `plan`; a damaged file can raise any exception."""
    from sdvlm_core.model.model_config import check_architecture  # imports transformers

    released = read_json(directory / "config.json", CheckpointError)
    sources = _sources(directory, vision_tower)
    shapes = {name: source.shapes[key] for source in sources for key, name in source.names.items()}
    llava = release_layout.llava_config(released, _tower(shapes, vision_tower))
    check_architecture(llava, len(shapes))
    settings = _settings(released, orientation, parity)
    llava.depth_encoding = settings.to_mapping()
    llava.prompt_template = "raw" if parity else "vicuna_v1"
    llava.dtype = released.get("torch_dtype") or released.get("dtype")
    words = int(released["vocab_size"])
    depth, targets = _targets(shapes, llava, words, directory)
    return Plan(
        sources=sources,
        llava=llava,
        depth=depth,
        llava_targets=targets[0],
        depth_targets=targets[1],
        ignored=release_layout.ignored(shapes),
        words=words,
        provenance={
            "made_by": f"sdvlm {__version__} convert",
            "source": str(directory),
            "vision_tower": str(vision_tower) if vision_tower else "inside the checkpoint",
            "mode": "parity" if parity else "corrected",
            "depth_encoding": settings.to_mapping(),
            "gt_depth": released.get("gt_depth"),
        },
    )


def describe(plan: Plan) -> dict[str, Any]:
    """A description of the conversion, for --dry-run."""
    return {
        **plan.provenance,
        "files": [str(source.path) for source in plan.sources],
        "bytes": sum(source.path.stat().st_size for source in plan.sources),
        "tensors": sum(len(source.names) for source in plan.sources),
        "llava_tensors": len(plan.llava_targets),
        "depth_tensors": len(plan.depth_targets),
        "layer_scale_gammas": sum(".ls" in key for key in plan.depth_targets),
        "ignored": plan.ignored,
        "image_token_id": plan.words,
    }


def _sources(directory: Path, vision_tower: Path | None) -> list[Source]:
    """The checkpoint's files; a separate vision tower replaces the one inside."""

    def without_tower(key: str) -> str | None:
        return None if vision_tower and key.startswith(TOWER) else key

    sources = [_source(path, without_tower) for path in weight_files.list_files(directory)]
    if vision_tower is not None:
        sources += [_source(path, _tower_name) for path in weight_files.list_files(vision_tower)]
    return sources


def _source(path: Path, released_name: Callable[[str], str | None]) -> Source:
    shapes = weight_files.shapes(path)
    names = {key: name for key in shapes if (name := released_name(key)) is not None}
    return Source(path, shapes, names)


def _tower_name(key: str) -> str | None:
    """Released name of a tensor of a CLIPVisionModel, or of the vision half of a CLIPModel."""
    if key.startswith("vision_model."):
        return TOWER + key.removeprefix("vision_model.")
    # transformers 5 writes a vision-only model without the prefix.
    own = ("embeddings.", "encoder.", "pre_layrnorm.", "post_layernorm.")
    return TOWER + key if key.startswith(own) else None


def _tower(shapes: Shapes, vision_tower: Path | None) -> CLIPVisionConfig:
    from transformers import CLIPVisionConfig

    if vision_tower is None:
        return release_layout.tower_config(shapes)
    stored = read_json(vision_tower / "config.json", CheckpointError)
    return CLIPVisionConfig(**stored.get("vision_config", stored))


def _settings(
    released: Mapping[str, Any], orientation: Orientation | None, parity: bool
) -> EncodingSettings:
    if not released.get("use_depth", True):
        return EncodingSettings(kind="none")
    if parity:
        return PARITY
    trained: Orientation = "direct" if released.get("gt_depth") else "inverse"
    return EncodingSettings("relative", "padded", orientation or trained)


_Targets = dict[str, list[Target]]


def _targets(
    shapes: Shapes, llava: LlavaConfig, words: int, directory: Path
) -> tuple[DepthAnythingConfig | None, tuple[_Targets, _Targets]]:
    """The depth network's configuration, and the targets of the LLaVA and of the depth network."""
    from transformers import DepthAnythingForDepthEstimation, LlavaForConditionalGeneration

    depth, network, depth_targets = None, {}, {}
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(llava).state_dict()
        if any(name.startswith(EMBEDDED_DEPTH) for name in shapes):
            depth = release_layout.depth_config(shapes, EMBEDDED_DEPTH)
            network = DepthAnythingForDepthEstimation(depth).state_dict()
            depth_targets = release_layout.depth_targets(network, EMBEDDED_DEPTH)
    llava_targets = release_layout.llava_targets(model)
    release_layout.check_keys(shapes, {**llava_targets, **depth_targets}, str(directory))
    _check_shapes(shapes, llava_targets, model, words)
    _check_shapes(shapes, depth_targets, network, words)
    return depth, (llava_targets, depth_targets)


def _check_shapes(
    shapes: Shapes, targets: _Targets, model: Mapping[str, torch.Tensor], words: int
) -> None:
    for key, places in targets.items():
        for target in places:
            expected = list(model[target.name].shape)
            expected[0] = words if key in EMBEDDINGS else expected[0] * target.parts
            if list(shapes[key]) != expected:
                raise CheckpointError(
                    f"{key} has shape {shapes[key]}, but config.json requires {tuple(expected)}"
                )
