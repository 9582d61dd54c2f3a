"""Name or path -> a model on a device, offline.

Knows where models live and how to put one together; refuses what is absent or incomplete and says
what to do. Never downloads, never runs code that comes with a checkpoint, never reads pickles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoTokenizer, LlavaConfig

from sdvlm_core.errors import CheckpointError
from sdvlm_core.model import hub
from sdvlm_core.model.backbones.llava import DepthEncodedLlava, calibration, encoding_settings
from sdvlm_core.model.convert import read_json
from sdvlm_core.model.devices import Placement, resolve
from sdvlm_core.model.prompt import Template, template

NANO = "nano"
ADAPTER = "adapter_config.json"
#: Beside an adapter: the `depth_encoding` and `prompt_template` it was trained with.
ADAPTER_SETTINGS = "sdvlm.json"
NANO_DIRECTORY = Path(__file__).parents[1] / "assets" / "nano"
# transformers applies its rule for this old name to its own classes only, not to ours.
_HUB_NAMES = {r"^language_model\.lm_head": "lm_head"}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model ready to run, with what belongs to it."""

    model_id: str
    model: DepthEncodedLlava
    tokenizer: Any
    prompt_template: Template
    device: torch.device


def _refuse_release(directory: Path) -> None:
    """Say what to do with a directory in the layout of the SD-VLM release."""
    path = directory / "config.json"
    if path.exists() and read_json(path).get("model_type") == "llava_llama":
        raise CheckpointError(
            f"{directory} has the layout of the SD-VLM release; convert it once: "
            f"sdvlm convert {directory} OUT_DIR, then use OUT_DIR"
        )


def load_strictly(kind: type[Any], directory: Path, **arguments: Any) -> Any:
    """A transformers model of a directory, complete or not at all, for inference.

    Args:
        kind: the model's class.
        arguments: more of `from_pretrained`.

    Raises:
        CheckpointError: it does not load, or weights are missing, surplus or of another shape.
    """
    try:
        model, report = kind.from_pretrained(
            directory,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **arguments,
        )
    except torch.OutOfMemoryError as error:
        raise CheckpointError(f"{directory} does not fit into the memory: {error}") from error
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        raise CheckpointError(f"{directory} does not load as {kind.__name__}: {error}") from error
    for what, keys in (
        ("lacks weights the model needs", report["missing_keys"]),
        ("has weights of another shape", report["mismatched_keys"]),
        ("has weights the model does not know", report["unexpected_keys"]),
    ):
        if keys:
            raise CheckpointError(f"{directory} {what}: {sorted(keys)}")
    return model.eval().requires_grad_(False)


def load_model(directory: Path, placement: Placement) -> DepthEncodedLlava:
    """The model of a directory in transformers' layout, complete or not at all.

    Raises:
        CheckpointError: another layout or architecture, or as `load_strictly`.
    """
    _refuse_release(directory)
    try:
        config = LlavaConfig.from_pretrained(directory, local_files_only=True)
        # What is bad in them fails here, not at the first frame.
        encoding_settings(config), calibration(config)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{directory} does not load as a LLaVA model: {error}") from error
    model: DepthEncodedLlava = load_strictly(
        DepthEncodedLlava,
        directory,
        config=config,
        key_mapping=_HUB_NAMES,
        **placement.arguments(),
    )
    return model


def _attach(model: DepthEncodedLlava, directory: Path, merge: bool) -> DepthEncodedLlava:
    """The model with a PEFT adapter on top, and the adapter's own settings in its config."""
    try:
        from peft import PeftModel, get_peft_model_state_dict
    except ImportError as error:
        raise CheckpointError(
            f"{directory} is a PEFT adapter, which needs: pip install peft"
        ) from error
    weights = directory / "adapter_model.safetensors"
    if not weights.exists():
        raise CheckpointError(f"{directory} is a PEFT adapter without {weights.name}")
    if (directory / ADAPTER_SETTINGS).exists():
        for key, value in read_json(directory / ADAPTER_SETTINGS).items():
            if key not in ("depth_encoding", "prompt_template"):
                raise CheckpointError(f"{directory / ADAPTER_SETTINGS} has an unknown key {key!r}")
            setattr(model.config, key, value)
    encoding_settings(model.config)
    try:
        adapted: Any = PeftModel.from_pretrained(model, directory)
        with safe_open(weights, "pt") as stored:
            surplus = set(stored.keys()) ^ set(get_peft_model_state_dict(adapted))
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"the adapter {directory} does not fit: {error}") from error
    if surplus:
        raise CheckpointError(f"the adapter {directory} does not fit the model: {sorted(surplus)}")
    whole: DepthEncodedLlava = adapted.merge_and_unload() if merge else adapted.get_base_model()
    return whole


def load(
    name: str = NANO,
    device: str = "auto",
    dtype: str = "auto",
    quantization: str = "none",
    attention: str = "auto",
    merge: bool = True,
) -> Checkpoint:
    """Load `nano`, a directory, or a name that has been downloaded (`hub`).

    A PEFT adapter's directory loads the model its adapter_config.json names with the adapter on
    top, merged into the weights unless `merge` is False or they are quantized, where merging would
    round it away. Its optional sdvlm.json holds the `depth_encoding` and `prompt_template` it was
    trained with. The other arguments are those of `placement.resolve`.

    Raises:
        CheckpointError: absent, incomplete, of another architecture, not safetensors, or asked to
            run where it cannot.
    """
    directory = directory_of(name)
    if (directory / ADAPTER).exists():
        base = read_json(directory / ADAPTER).get("base_model_name_or_path")
        if not isinstance(base, str) or not base:
            raise CheckpointError(f"{directory / ADAPTER} names no base model")
        if (directory_of(base) / ADAPTER).exists():
            raise CheckpointError(
                f"the base of the adapter {directory} is an adapter too: {base}; make that one a "
                f"whole model first (python -m training.merge {base} OUT) and name it in {ADAPTER}"
            )
        checkpoint = load(base, device, dtype, quantization, attention)
        merge = merge and quantization == "none"
        model = _attach(checkpoint.model, directory, merge).eval().requires_grad_(False)
        form = _form(model)
        return replace(checkpoint, model_id=name, model=model, prompt_template=form)
    _refuse_release(directory)
    needed = ("config.json", "tokenizer.json", "*.safetensors")
    missing = [pattern for pattern in needed if not any(directory.glob(pattern))]
    if missing:
        raise CheckpointError(f"{directory} is not a complete model: {', '.join(missing)} missing")
    model = load_model(directory, resolve(device, dtype, quantization, attention))
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except Exception as error:  # the tokenizers library raises just that
        raise CheckpointError(f"the tokenizer in {directory} does not load: {error}") from error
    model_id = NANO if directory == NANO_DIRECTORY else name
    # Of the token embeddings: where a question enters, if the layers are on several GPUs.
    where = model.get_input_embeddings().weight.device
    return Checkpoint(model_id, model, tokenizer, _form(model), where)


def directory_of(name: str) -> Path:
    """Where the files of a model lie that `load` takes by this name; raises as `load`."""
    return NANO_DIRECTORY if name == NANO else hub.find(name)


def _form(model: DepthEncodedLlava) -> Template:
    return template(getattr(model.config, "prompt_template", "vicuna_v1"))
