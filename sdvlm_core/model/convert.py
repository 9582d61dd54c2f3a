"""Released checkpoints -> directories that transformers loads, one file at a time.

`conversion_plan` first finds a place for every tensor, or nothing is written. Then each released
file becomes one file per model, so that memory stays near the size of the largest, and an
interrupted conversion resumes after the last complete file. Does not know the released layout
(`release_layout`).

    sdvlm convert SD-VLM-7B OUT      # the LLaVA in OUT, its depth network in OUT/depth_estimator
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from sdvlm_core.errors import CheckpointError
from sdvlm_core.files import atomic_file, sha256, write_json
from sdvlm_core.model import release_layout, weight_files
from sdvlm_core.model.conversion_plan import Plan, Source
from sdvlm_core.model.release_layout import EMBEDDINGS, Target, padded_rows

DEPTH_DIRECTORY = "depth_estimator"
PROVENANCE = "conversion.json"

#: Called with (bytes done, bytes in total) after each file.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class _Shard:
    """One file to write: the tensors that one source has for one model.

    targets: released name -> places in the model, for this source's tensors only.
    """

    path: Path
    source: Source
    targets: Mapping[str, list[Target]]

    @property
    def names(self) -> list[str]:
        return [target.name for targets in self.targets.values() for target in targets]


def check_out(read: Iterable[Path], out: Path) -> None:
    """Raise CheckpointError if `out` is the directory of a file that is read."""
    if any(out.resolve() in (path.parent.resolve(), path.resolve().parent) for path in read):
        raise CheckpointError(f"{out} is the released directory itself; choose another one")


def write(plan: Plan, out: Path, progress: Progress = lambda done, total: None) -> None:
    """Write the models of a plan to `out`.

    config.json is written last, so that an incomplete directory is not loaded as a model.

    Raises:
        CheckpointError: `out` holds a source, a file cannot be read, or a tensor is all zeros
            because another loader lost it.
    """
    check_out((source.path for source in plan.sources), out)
    (out / DEPTH_DIRECTORY if plan.depth else out).mkdir(parents=True, exist_ok=True)
    # An earlier conversion that is being replaced is incomplete too.
    (out / "config.json").unlink(missing_ok=True)
    total = sum(source.path.stat().st_size for source in plan.sources)
    done, digests = 0, {}
    weight_maps: dict[Path, dict[str, str]] = {}
    for number, source in enumerate(plan.sources, start=1):
        name = f"model-{number:05d}-of-{len(plan.sources):05d}.safetensors"
        shards = list(_shards(plan, source, out, name))
        digests[str(source.path)] = sha256(source.path)
        _write_shards(source, shards, digests[str(source.path)], plan.words)
        for shard in shards:
            weight_maps.setdefault(shard.path.parent, {}).update(dict.fromkeys(shard.names, name))
        done += source.path.stat().st_size
        progress(done, total)
    for directory, weight_map in weight_maps.items():
        index = {"metadata": {}, "weight_map": dict(sorted(weight_map.items()))}
        write_json(directory / "model.safetensors.index.json", index)
    if plan.depth is not None:
        plan.depth.save_pretrained(out / DEPTH_DIRECTORY)
    write_json(out / PROVENANCE, {**plan.provenance, "sha256": digests, "ignored": plan.ignored})
    plan.llava.save_pretrained(out)


def _shards(plan: Plan, source: Source, out: Path, file_name: str) -> Iterator[_Shard]:
    """The files that a source becomes: for the LLaVA, for the depth network, or for both."""
    for directory, targets in (
        (out, plan.llava_targets),
        (out / DEPTH_DIRECTORY, plan.depth_targets),
    ):
        own = {
            released: targets[released] for released in source.names.values() if released in targets
        }
        if own:
            yield _Shard(directory / file_name, source, own)


def _write_shards(source: Source, shards: Iterable[_Shard], digest: str, words: int) -> None:
    """Write the shards of a source that no earlier run completed."""
    stamp = _stamp(source.path, digest)
    missing = [shard for shard in shards if not _is_complete(shard, stamp)]
    if missing:
        tensors = weight_files.tensors(source.path)
        for shard in missing:
            _save(_converted(shard, tensors, words), shard.path, stamp)


def _converted(
    shard: _Shard, tensors: Mapping[str, torch.Tensor], words: int
) -> dict[str, torch.Tensor]:
    """The tensors of a shard under their names in the model."""
    converted = {}
    for key, released in shard.source.names.items():
        for target in shard.targets.get(released, ()):
            tensor = tensors[key].chunk(target.parts)[target.part]
            if released in EMBEDDINGS:
                rows = padded_rows(words) - words
                tensor = torch.nn.functional.pad(tensor, (0, 0, 0, rows))
            if released.endswith(".gamma") and not tensor.any():
                raise CheckpointError(
                    f"{released} is all zeros: this checkpoint was saved again by a loader that "
                    "loses LayerScale, and its depth network computes nothing; use the original"
                )
            converted[target.name] = tensor.contiguous()
    return converted


def _stamp(source: Path, digest: str) -> dict[str, str]:
    """Metadata of a shard: which file it was made from."""
    return {"format": "pt", "source": source.name, "sha256": digest}


def _is_complete(shard: _Shard, stamp: Mapping[str, str]) -> bool:
    """Whether an earlier run wrote this shard from the same source."""
    try:
        with safe_open(shard.path, "pt") as stored:
            return stored.metadata() == stamp and set(stored.keys()) == set(shard.names)
    except (OSError, SafetensorError):
        return False


def _save(tensors: dict[str, torch.Tensor], path: Path, stamp: dict[str, str]) -> None:
    with atomic_file(path) as temporary:
        weight_files.save(tensors, temporary, stamp)


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False


def write_tokenizer(source: Path, out: Path) -> None:
    """Write tokenizer.json to `out` from a directory with tokenizer.json or tokenizer.model.

    Raises:
        CheckpointError: it has neither, or tokenizer.model cannot be read on this machine.
    """
    from transformers import LlamaTokenizer

    if not (source / "tokenizer.json").exists():
        if not (source / "tokenizer.model").exists():
            raise CheckpointError(
                f"{source} has neither tokenizer.json nor tokenizer.model; give a directory that "
                "has one (--tokenizer), e.g. that of the language model it was made from"
            )
        if not (_is_installed("sentencepiece") and _is_installed("google.protobuf")):
            raise CheckpointError(
                f"reading {source / 'tokenizer.model'} needs: pip install sentencepiece protobuf"
            )
    try:
        tokenizer = LlamaTokenizer.from_pretrained(source, local_files_only=True)
    except Exception as error:  # the tokenizers library raises no narrower type
        raise CheckpointError(
            f"the tokenizer in {source} does not load ({type(error).__name__}: {error}); get its "
            "files again, or give another directory that has one (--tokenizer)"
        ) from error
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(out)


def convert_depth_anything(path: Path, out: Path, metric_range: float | None = None) -> None:
    """Depth-Anything-V2's released .pth (or safetensors) -> a directory that transformers loads.

    metric_range: metres, for the metric variants: 20 (Hypersim, indoor) or 80 (VKITTI, outdoor).

    Raises:
        CheckpointError: not a complete Depth-Anything-V2, or `out` is the directory of `path`.
    """
    from transformers import DepthAnythingForDepthEstimation

    check_out([path], out)
    tensors = weight_files.tensors(path)
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    config = release_layout.depth_config(shapes, metric_range=metric_range)
    with torch.device("meta"):
        network = DepthAnythingForDepthEstimation(config).state_dict()
    targets = release_layout.depth_targets(network)
    release_layout.check_keys(shapes, targets, str(path))
    source = Source(path, shapes, {key: key for key in shapes})
    out.mkdir(parents=True, exist_ok=True)
    shard = _Shard(out / "model.safetensors", source, targets)
    _save(_converted(shard, tensors, words=0), shard.path, _stamp(path, sha256(path)))
    config.save_pretrained(out)
