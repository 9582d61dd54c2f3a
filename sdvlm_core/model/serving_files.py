"""A model directory -> a directory that vLLM serves, and the command that serves it.

vLLM reads the weights by other names than transformers writes, needs a picture processor even where
it never sees a picture, and gets a chat template that adds nothing: the prompt is the one of
`model.prompt`. Files that need no change are links. Does not start anything.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from sdvlm_core.errors import CheckpointError
from sdvlm_core.files import atomic_directory, read_json, write_json, write_text
from sdvlm_core.model import weight_files
from sdvlm_core.model.checkpoint import SERVED_FAMILIES, mergeless, require_files
from sdvlm_core.model.image_half import MARK_FILE

TEMPLATE, _SOURCE = "sdvlm_chat.jinja", "sdvlm_source.json"
#: The text parts of a message and the mark of its image, one after the other.
_CHAT = """\
{%- for message in messages -%}
{%- for part in message.content -%}
{%- if part.type == 'text' -%}{{ part.text }}{%- else -%}<image>{%- endif -%}
{%- endfor -%}
{%- endfor -%}
"""
#: The beginnings of names of weights, as transformers writes them -> as vLLM reads them.
_READ = {
    "model.language_model.model.": "model.language_model.",
    "model.vision_tower.vision_model.": "model.vision_tower.vision_model.",
    "model.vision_tower.": "model.vision_tower.vision_model.",
}
_ARCHITECTURES = {"llava": "LlavaForConditionalGeneration"}
_SMALL = ("config.json", "preprocessor_config.json", "processor_config.json")


@dataclass(frozen=True)
class Serving:
    """How a model is served.

    Attributes:
        names: the model's names on the server; the first is the one that it reports.
        host, port: where it listens.
        questions: questions that are decoded at the same time, at most.
        context: tokens of a prompt and its answer; 0 = as many as the model has.
        gpus: GPUs that share the model (tensor parallel).
        dtype: as of vLLM: auto, float32, float16, bfloat16.
    """

    names: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 8000
    questions: int = 64
    context: int = 0
    gpus: int = 1
    dtype: str = "auto"


def serving_directory(model: str, out: Path) -> Path:
    """Write the directory OUT that vLLM serves; one that is of the same files is kept.

    Raises:
        CheckpointError: no such model, an adapter, an image half, or a family that is not served;
            OUT is the model's directory or holds it, or has files that this has not written.
    """
    source = mergeless(model).resolve()
    require_files(source, "config.json", "tokenizer.json", "*.safetensors")
    config = read_json(source / "config.json", CheckpointError)
    family = config.get("model_type")
    if family not in SERVED_FAMILIES:
        raise CheckpointError(
            f"{source}: models of the family {family} are not served; those of "
            f"{', '.join(SERVED_FAMILIES)} are"
        )
    if (source / MARK_FILE).exists():
        raise CheckpointError(
            f"{source} is the image half of a model, for robots: serve the whole model"
        )
    target = out.resolve()
    if target == source or target in source.parents or source in target.parents:
        raise CheckpointError(f"--out {out} and the model {source} must not hold each other")
    if target.exists() and not (target / _SOURCE).exists():
        raise CheckpointError(
            f"--out {out} exists and was not written by sdvlm serve: name a directory that does not"
        )
    made_of = {
        "source": str(source),
        "files": [
            [file.name, file.stat().st_size, file.stat().st_mtime_ns]
            for file in sorted(source.iterdir())
            if file.is_file()
        ],
    }
    if (out / _SOURCE).exists() and read_json(out / _SOURCE, CheckpointError) == made_of:
        return out
    with atomic_directory(target) as folder:
        for file in sorted(source.iterdir()):
            if file.suffix == ".safetensors":
                _weights(file, folder / file.name)
            elif file.name.endswith(".safetensors.index.json"):
                index = read_json(file, CheckpointError)
                index["weight_map"] = {_name(k): v for k, v in index["weight_map"].items()}
                write_json(folder / file.name, index)
            elif file.is_file() and file.name not in _SMALL:
                (folder / file.name).symlink_to(file)
        write_json(folder / "config.json", {**config, "architectures": [_ARCHITECTURES[family]]})
        for name, document in _processor(config).items():
            stored = source / name
            write_json(folder / name, read_json(stored) if stored.exists() else document)
        write_text(folder / TEMPLATE, _CHAT)
        write_json(folder / _SOURCE, made_of)
    return out


def command(python: str, directory: Path, serving: Serving, on_cpu: bool) -> list[str]:
    """The command that serves a directory of `serving_directory`.

    Args:
        python: the interpreter of the environment that has vLLM.
        on_cpu: vLLM's build for CPUs.
    """
    options = {
        "--model": str(directory),
        "--host": serving.host,
        "--port": str(serving.port),
        "--dtype": serving.dtype,
        "--max-num-seqs": str(serving.questions),
        "--limit-mm-per-prompt": json.dumps({"image": 1}),
        "--chat-template": str(directory / TEMPLATE),
        "--chat-template-content-format": "openai",
        "--tensor-parallel-size": str(serving.gpus),
    }
    if serving.context:
        options["--max-model-len"] = str(serving.context)
    flags = ["--enable-mm-embeds", "--enable-prefix-caching", "--no-enable-log-requests"]
    if on_cpu:
        options["--block-size"] = "32"
        flags.append("--enforce-eager")
    words = [word for pair in options.items() for word in pair]
    words += ["--served-model-name", *serving.names]
    return [python, "-m", "vllm.entrypoints.openai.api_server", *words, *flags]


def _name(written: str) -> str:
    """The name of a weight, as vLLM reads it."""
    for begins, read in _READ.items():
        if written.startswith(begins):
            return read + written.removeprefix(begins)
    return written


def _weights(source: Path, target: Path) -> None:
    """A link to a file of weights, or a copy with the names that vLLM reads."""
    with safe_open(source, "pt") as stored:
        names = list(stored.keys())
        if all(_name(name) == name for name in names):
            target.symlink_to(source)
            return
        tensors = {_name(name): stored.get_tensor(name) for name in names}
    weight_files.save(tensors, target, {"format": "pt"})


def _processor(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The picture processor of LLaVA, where the model's directory has none."""
    vision = config["vision_config"]
    side = vision["image_size"]
    return {
        "preprocessor_config.json": {
            "image_processor_type": "CLIPImageProcessor",
            "processor_class": "LlavaProcessor",
            "size": {"shortest_edge": side},
            "crop_size": {"height": side, "width": side},
        },
        "processor_config.json": {
            "processor_class": "LlavaProcessor",
            "patch_size": vision["patch_size"],
            "vision_feature_select_strategy": config.get("vision_feature_select_strategy"),
            "num_additional_image_tokens": 1,
            "image_token": "<image>",
        },
    }
