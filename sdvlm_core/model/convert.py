"""Released checkpoints -> directories that transformers loads, one file at a time.

Plans first from the file headers alone: every tensor has its place, or nothing is written. Then
each released file becomes one file per model, so that memory stays near the largest of them, and
an interrupted conversion goes on where it stopped. Knows files; the layout is `official`'s.

    sdvlm convert SD-VLM-7B OUT      # the LLaVA in OUT, its depth network in OUT/depth_estimator
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sdvlm_core import __version__
from sdvlm_core.errors import CheckpointError
from sdvlm_core.model import release_layout
from sdvlm_core.model.depth_encoding import PARITY, EncodingSettings, Orientation
from sdvlm_core.model.release_layout import EMBEDDED_DEPTH, TOWER, Target, padded_rows

if TYPE_CHECKING:
    from transformers import DepthAnythingConfig, LlavaConfig

DEPTH_DIRECTORY = "depth_estimator"
PROVENANCE = "conversion.json"
_EMBEDDINGS = ("model.embed_tokens.weight", "lm_head.weight")
_CHUNK = 1 << 24

#: Called with (bytes done, bytes in all) while files are read.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Source:
    """One released file: its tensors' shapes, and the released name of each of its own names."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    names: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Plan:
    """What will become of a released checkpoint; made without reading a weight.

    targets: released name -> where it goes, for the LLaVA and for the depth network.
    """

    sources: list[Source]
    llava: LlavaConfig
    depth: DepthAnythingConfig | None
    llava_targets: dict[str, list[Target]]
    depth_targets: dict[str, list[Target]]
    ignored: list[str]
    words: int
    provenance: dict[str, Any] = field(default_factory=dict)


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object from a file; anything else raises CheckpointError with the path."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} must hold one JSON object")
    return values


def weight_files(directory: Path) -> list[Path]:
    """The weight files of a directory: safetensors if there are any, else .bin; all of an index.

    Raises:
        CheckpointError: none, or a file that the index names is missing.
    """
    for index, pattern in (
        ("model.safetensors.index.json", "*.safetensors"),
        ("pytorch_model.bin.index.json", "pytorch_model*.bin"),
    ):
        found = sorted(directory.glob(pattern))
        if (directory / index).exists():
            listed = set(read_json(directory / index).get("weight_map", {}).values())
            absent = sorted(name for name in listed if not (directory / name).is_file())
            if absent:
                raise CheckpointError(f"{directory} lacks {', '.join(absent)}, named in {index}")
            found = sorted(directory / name for name in listed)
        if found:
            return found
    raise CheckpointError(f"{directory} holds neither *.safetensors nor pytorch_model*.bin")


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a file, mapped where the format allows; never runs pickled code."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as stored:
                return {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, SafetensorError, RuntimeError, ValueError, EOFError) as error:
        raise CheckpointError(f"{path} is not a readable weight file: {error}") from error
    except Exception as error:  # torch raises pickle's own errors for what weights_only forbids
        raise CheckpointError(f"{path} holds more than weights: {error}") from error
    if not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(f"{path} is not a plain state dict of tensors")
    return dict(state)


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    if path.suffix != ".safetensors":
        return {key: tuple(value.shape) for key, value in _tensors(path).items()}
    try:
        with safe_open(path, "pt") as stored:
            return {
                key: tuple(stored.get_slice(key).get_shape())
                for key in stored.keys()  # noqa: SIM118
            }
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is not a readable weight file: {error}") from error


def _source(path: Path, renamed: Callable[[str], str | None]) -> Source:
    shapes = _shapes(path)
    names = {key: name for key in shapes if (name := renamed(key)) is not None}
    return Source(path, shapes, names)


def _tower_name(key: str) -> str | None:
    """Name in the checkpoint of a tensor of a CLIPVisionModel or the vision half of a CLIPModel."""
    if key.startswith("vision_model."):
        return TOWER + key.removeprefix("vision_model.")
    # transformers 5 writes a vision-only model without the prefix.
    own = ("embeddings.", "encoder.", "pre_layrnorm.", "post_layernorm.")
    return TOWER + key if key.startswith(own) else None


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
        orientation: of the depth code in corrected mode; by default what config.json's `gt_depth`
            says the weights were trained with (`direct` for sensor depth, else `inverse`).
        parity: the released forward pass with its defects, instead of the corrected one.

    Raises:
        CheckpointError: another layout, an unsupported setting, or missing or unknown tensors;
            lists them all.
    """
    from transformers import CLIPVisionConfig, DepthAnythingForDepthEstimation

    from sdvlm_core.model.backbones.llava import DepthEncodedLlava

    released = read_json(directory / "config.json")
    sources = [
        _source(path, lambda key: None if vision_tower and key.startswith(TOWER) else key)
        for path in weight_files(directory)
    ]
    if vision_tower is not None:
        sources += [_source(path, _tower_name) for path in weight_files(vision_tower)]
    shapes = {name: source.shapes[key] for source in sources for key, name in source.names.items()}
    if vision_tower is None:
        tower = release_layout.tower_config(shapes)
    else:
        stored = read_json(vision_tower / "config.json")
        tower = CLIPVisionConfig(**stored.get("vision_config", stored))
    llava = release_layout.llava_config(released, tower)
    settings = _settings(released, orientation, parity)
    llava.depth_encoding = settings.to_mapping()
    llava.prompt_template = "raw" if parity else "vicuna_v1"
    llava.dtype = released.get("torch_dtype") or released.get("dtype")
    depth, depth_targets = None, {}
    with torch.device("meta"):
        model = DepthEncodedLlava(llava).state_dict()
        if any(name.startswith(EMBEDDED_DEPTH) for name in shapes):
            depth = release_layout.depth_config(shapes, EMBEDDED_DEPTH)
            network = DepthAnythingForDepthEstimation(depth).state_dict()
            depth_targets = release_layout.depth_targets(network, EMBEDDED_DEPTH)
    llava_targets = release_layout.llava_targets(model)
    release_layout.check_keys(shapes, {**llava_targets, **depth_targets}, str(directory))
    words = int(released["vocab_size"])
    _check_shapes(shapes, llava_targets, model, words)
    if depth is not None:
        _check_shapes(shapes, depth_targets, network, words)
    provenance = {
        "made_by": f"sdvlm {__version__} convert",
        "source": str(directory),
        "vision_tower": str(vision_tower) if vision_tower else "inside the checkpoint",
        "mode": "parity" if parity else "corrected",
        "depth_encoding": settings.to_mapping(),
        "gt_depth": released.get("gt_depth"),
    }
    ignored = release_layout.ignored(shapes)
    return Plan(sources, llava, depth, llava_targets, depth_targets, ignored, words, provenance)


def _settings(
    released: Mapping[str, Any], orientation: Orientation | None, parity: bool
) -> EncodingSettings:
    if not released.get("use_depth", True):
        return EncodingSettings(kind="none")
    if parity:
        return PARITY
    trained: Orientation = "direct" if released.get("gt_depth") else "inverse"
    return EncodingSettings("relative", "padded", orientation or trained)


def _check_shapes(
    shapes: Mapping[str, tuple[int, ...]],
    targets: Mapping[str, list[Target]],
    model: Mapping[str, torch.Tensor],
    words: int,
) -> None:
    for key, places in targets.items():
        for target in places:
            wanted = list(model[target.name].shape)
            wanted[0] = words if key in _EMBEDDINGS else wanted[0] * target.parts
            if list(shapes[key]) != wanted:
                raise CheckpointError(
                    f"{key} has shape {shapes[key]}, but config.json asks for {tuple(wanted)}"
                )


def describe(plan: Plan) -> dict[str, Any]:
    """What the plan would do, for --dry-run."""
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


def check_out(read: Iterable[Path], out: Path) -> None:
    """Raise CheckpointError if `out` is a directory of one of the files that are read."""
    if any(out.resolve() in (path.parent.resolve(), path.resolve().parent) for path in read):
        raise CheckpointError(f"{out} is the released directory itself; name another one")


def write(plan: Plan, out: Path, progress: Progress = lambda done, total: None) -> None:
    """Write the models of a plan to `out`; config.json comes last, so that a half is no model.

    Raises:
        CheckpointError: `out` is a source, a file cannot be read, or it holds the zeros of a
            broken loader.
    """
    check_out((source.path for source in plan.sources), out)
    (out / DEPTH_DIRECTORY if plan.depth else out).mkdir(parents=True, exist_ok=True)
    # Of an earlier conversion: what is being replaced is no model either.
    (out / "config.json").unlink(missing_ok=True)
    total = sum(source.path.stat().st_size for source in plan.sources)
    done, digests = 0, {}
    maps: dict[Path, dict[str, str]] = defaultdict(dict)
    for number, source in enumerate(plan.sources, start=1):
        name = f"model-{number:05d}-of-{len(plan.sources):05d}.safetensors"
        size = source.path.stat().st_size
        digest = digests[str(source.path)] = _sha256(source.path)
        stamp = {"format": "pt", "source": source.path.name, "sha256": digest}
        outputs = {out / name: plan.llava_targets, out / DEPTH_DIRECTORY / name: plan.depth_targets}
        missing = {}
        for path, targets in outputs.items():
            names = [t.name for key in source.names.values() for t in targets.get(key, ())]
            maps[path.parent].update(dict.fromkeys(names, name))
            if names and not _finished(path, stamp, names):
                missing[path] = targets
        if missing:
            tensors = _tensors(source.path)
            for path, targets in missing.items():
                _save(_moved(source, tensors, targets, plan.words), path, stamp)
        done += size
        progress(done, total)
    for directory, weight_map in maps.items():
        if weight_map:
            index = {"metadata": {}, "weight_map": dict(sorted(weight_map.items()))}
            _write_json(directory / "model.safetensors.index.json", index)
    if plan.depth is not None:
        plan.depth.save_pretrained(out / DEPTH_DIRECTORY)
    _write_json(out / PROVENANCE, {**plan.provenance, "sha256": digests, "ignored": plan.ignored})
    plan.llava.save_pretrained(out)


def _moved(
    source: Source,
    tensors: Mapping[str, torch.Tensor],
    targets: Mapping[str, list[Target]],
    words: int,
) -> dict[str, torch.Tensor]:
    """The tensors of one file under their new names."""
    moved = {}
    for key, released in source.names.items():
        for target in targets.get(released, ()):
            tensor = tensors[key].chunk(target.parts)[target.part]
            if released in _EMBEDDINGS:
                rows = padded_rows(words) - words
                tensor = torch.nn.functional.pad(tensor, (0, 0, 0, rows))
            if released.endswith(".gamma") and not tensor.any():
                raise CheckpointError(
                    f"{released} is all zeros: this checkpoint was saved again by a loader that "
                    "loses LayerScale, and its depth network computes nothing; take the original"
                )
            moved[target.name] = tensor.contiguous()
    return moved


def _finished(path: Path, stamp: Mapping[str, str], names: Iterable[str]) -> bool:
    """Whether an earlier run wrote this very file."""
    try:
        with safe_open(path, "pt") as stored:
            return stored.metadata() == stamp and set(stored.keys()) == set(names)
    except (OSError, SafetensorError):
        return False


def _save(tensors: dict[str, torch.Tensor], path: Path, stamp: dict[str, str]) -> None:
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary, metadata=stamp)
    temporary.replace(path)


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of its parent
        return False


def write_tokenizer(source: Path, out: Path) -> None:
    """Write tokenizer.json to `out` from a directory with tokenizer.json or tokenizer.model.

    Raises:
        CheckpointError: it has neither, or tokenizer.model cannot be read here.
    """
    from transformers import LlamaTokenizer

    if not (source / "tokenizer.json").exists():
        if not (source / "tokenizer.model").exists():
            raise CheckpointError(
                f"{source} has neither tokenizer.json nor tokenizer.model; name a directory that "
                "has (--tokenizer), e.g. the one of the language model it was made from"
            )
        if not (_installed("sentencepiece") and _installed("google.protobuf")):
            raise CheckpointError(
                f"reading {source / 'tokenizer.model'} needs: pip install sentencepiece protobuf"
            )
    try:
        tokenizer = LlamaTokenizer.from_pretrained(source, local_files_only=True)
    except Exception as error:  # the tokenizers library raises just that
        raise CheckpointError(
            f"the tokenizer in {source} does not load ({type(error).__name__}: {error}); get its "
            "files again, or name another directory that has one (--tokenizer)"
        ) from error
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(out)


def convert_depth_anything(path: Path, out: Path, metric_range: float | None = None) -> None:
    """Depth-Anything-V2's upstream .pth (or safetensors) -> a directory transformers loads.

    metric_range: metres, for the metric variants: 20 (Hypersim, indoor) or 80 (VKITTI, outdoor).

    Raises:
        CheckpointError: not a complete Depth-Anything-V2, or `out` is its own directory.
    """
    from transformers import DepthAnythingForDepthEstimation

    check_out([path], out)
    tensors = _tensors(path)
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    config = release_layout.depth_config(shapes, metric_range=metric_range)
    with torch.device("meta"):
        network = DepthAnythingForDepthEstimation(config).state_dict()
    targets = release_layout.depth_targets(network)
    release_layout.check_keys(shapes, targets, str(path))
    source = Source(path, shapes, {key: key for key in shapes})
    out.mkdir(parents=True, exist_ok=True)
    stamp = {"format": "pt", "source": path.name, "sha256": _sha256(path)}
    _save(_moved(source, tensors, targets, 0), out / "model.safetensors", stamp)
    config.save_pretrained(out)
