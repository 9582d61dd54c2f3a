"""Name or path -> a model on a device, from local files.

Finds the files, loads weights, adapter and tokenizer, and rejects missing or incomplete files.
Never downloads, never runs code that comes with a checkpoint, never reads pickles. Does not know
frames or questions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors import safe_open
from transformers import AutoModelForImageTextToText, AutoTokenizer, PreTrainedModel
from transformers.utils import logging

from sdvlm_core.errors import CheckpointError, library_guard, shown
from sdvlm_core.files import read_json, write_json
from sdvlm_core.language.question import Dialect
from sdvlm_core.model import hub
from sdvlm_core.model.backbones import backbone_for
from sdvlm_core.model.backbones.contract import Backbone
from sdvlm_core.model.devices import Placement, resolve
from sdvlm_core.model.image_half import LANGUAGE, MARK_FILE
from sdvlm_core.model.model_config import PREPROCESSOR, read_config, read_preprocessor
from sdvlm_core.model.own_settings import encoding_settings
from sdvlm_core.model.prompt import Template, Tokenizer, end_id, template

NANO = "nano"
ADAPTER = "adapter_config.json"
#: Beside an adapter: what it was trained with, of the settings that a config.json has.
ADAPTER_SETTINGS = "sdvlm.json"
_ADAPTER_KEYS = ("depth_encoding", "prompt_template", "dialect", "calibration")
NANO_DIRECTORY = Path(__file__).parents[1] / "assets" / "nano"

#: A model with smaller files is faster on the CPU: nano answers in 14 ms there, in 21 on an H200.
_SMALL_BYTES = 200_000_000
_LISTED_KEYS = 5  # names of weights in an error

Model = TypeVar("Model", bound=torch.nn.Module)


class StoredTokenizer(Tokenizer, Protocol):
    """A transformers tokenizer that can be saved and padded with."""

    pad_token_id: int | None

    def save_pretrained(self, save_directory: Path) -> object: ...


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model ready to run, with its tokenizer and prompt template.

    Attributes:
        model_id: the name or directory it was loaded by.
        model: of transformers, for images and text.
        backbone: how it sees and is asked.
        dialect: how questions are put.
        device: the device of the input token ids.
        ends: the ids that end an answer.
        preprocessor: how its pictures are prepared, where its files say it; {} = they do not.
    """

    model_id: str
    model: PreTrainedModel
    backbone: Backbone
    tokenizer: StoredTokenizer
    prompt_template: Template
    dialect: Dialect
    device: torch.device
    ends: frozenset[int]
    preprocessor: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def _loading(directory: Path, what: str) -> Iterator[None]:
    """Raise CheckpointError if loading in the block fails; damaged files raise any exception."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # the error has what transformers would print as a table
    try:
        with library_guard(CheckpointError, f"{directory} does not load as {what}"):
            yield
    finally:
        logging.set_verbosity(verbosity)


def require_files(directory: Path, *patterns: str) -> None:
    """Raise CheckpointError if a glob pattern matches no file of the directory."""
    missing = [pattern for pattern in patterns if not any(directory.glob(pattern))]
    if missing:
        raise CheckpointError(f"{directory} is not a complete model: {', '.join(missing)} missing")


def _refuse_release(directory: Path) -> None:
    """Refuse a directory in the layout of the SD-VLM release, which must be converted first."""
    path = directory / "config.json"
    if path.exists() and read_json(path, CheckpointError).get("model_type") == "llava_llama":
        raise CheckpointError(
            f"{directory} has the layout of the SD-VLM release; convert it once: "
            f"sdvlm convert {directory} OUT_DIR, then use OUT_DIR"
        )


def load_strictly(
    kind: type[Model], directory: Path, left_out: tuple[str, ...] = (), **arguments: Any
) -> Model:
    """Load a complete transformers model for inference.

    Args:
        kind: the model's class.
        left_out: weights whose names contain one of these are of a part that is not loaded.
        arguments: further arguments of `from_pretrained`.

    Raises:
        CheckpointError: it does not load, or weights are missing, unknown or of another shape.
    """
    loader: Any = kind  # transformers has no types
    with _loading(directory, kind.__name__):
        model, report = loader.from_pretrained(
            directory,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below, with their names
            **arguments,
        )
    for problem, keys in (
        ("lacks weights", report["missing_keys"]),
        ("has weights of another shape", report["mismatched_keys"]),
        ("has unknown weights", report["unexpected_keys"]),
    ):
        wrong = [key for key in keys if not any(part in str(key) for part in left_out)]
        if wrong:
            raise CheckpointError(f"{directory} {problem}: {_listed(wrong)}")
    loaded: Model = model.eval().requires_grad_(False)
    return loaded


def _listed(keys: Collection[object]) -> str:
    """The first names of weights, and how many more there are."""
    first = sorted(map(str, keys))[:_LISTED_KEYS]
    more = f" and {len(keys) - len(first)} more" if len(keys) > len(first) else ""
    return shown(", ".join(first), 1000) + more


def load_model(directory: Path, placement: Placement) -> PreTrainedModel:
    """The model of a directory in transformers' layout, without adapter or tokenizer.

    Raises:
        CheckpointError: another layout or architecture, or as `load_strictly`.
    """
    _refuse_release(directory)
    if (directory / MARK_FILE).exists():
        raise CheckpointError(
            f"{directory} has the image half of a model: its language model is on a server, name "
            "that (--server, or the parameters backend and server)"
        )
    with _loading(directory, "a model for images and text"):
        config = read_config(directory)
    return load_strictly(
        AutoModelForImageTextToText, directory, config=config, **placement.arguments()
    )


def load_image_half(directory: Path, placement: Placement) -> PreTrainedModel:
    """Image encoder and projector of a model directory; its language model stays on the disk.

    The model that is returned has a language model without layers, which answers nothing.

    Raises:
        CheckpointError: as `load_model`.
    """
    _refuse_release(directory)
    with _loading(directory, "a model for images and text"):
        config = read_config(directory)
    text = config.text_config
    text.num_hidden_layers, text.vocab_size, text.pad_token_id = 0, 1, None
    if getattr(text, "layer_types", None) is not None:
        text.layer_types = []
    return load_strictly(
        AutoModelForImageTextToText,
        directory,
        LANGUAGE,
        config=config,
        **placement.arguments(),
    )


def _attach(model: PreTrainedModel, directory: Path, merge: bool) -> PreTrainedModel:
    """The model with a PEFT adapter, and the adapter's own settings in the model's config."""
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
        for key, value in read_json(directory / ADAPTER_SETTINGS, CheckpointError).items():
            if key not in _ADAPTER_KEYS:
                raise CheckpointError(f"{directory / ADAPTER_SETTINGS} has an unknown key {key!r}")
            setattr(model.config, key, value)
    encoding_settings(model.config)
    with library_guard(CheckpointError, f"the adapter {directory} does not fit"):
        adapted: Any = PeftModel.from_pretrained(model, directory)
        with safe_open(weights, "pt") as stored:
            surplus = set(stored.keys()) ^ set(get_peft_model_state_dict(adapted))
    if surplus:
        raise CheckpointError(f"the adapter {directory} does not fit the model: {_listed(surplus)}")
    result: PreTrainedModel = adapted.merge_and_unload() if merge else adapted.get_base_model()
    return result


def load(
    name: str = NANO,
    device: str = "auto",
    dtype: str = "auto",
    quantization: str = "none",
    attention: str = "auto",
    merge: bool = True,
) -> Checkpoint:
    """Load `nano`, a directory, or a name that has been downloaded (`hub`).

    The directory of a PEFT adapter loads the base model that its adapter_config.json names, with
    the adapter. The adapter is merged into the weights unless `merge` is False or the weights are
    quantized: rounding would then remove it. Its optional sdvlm.json holds the `depth_encoding`,
    `prompt_template`, `dialect` and `calibration` it was trained with, and a
    preprocessor_config.json replaces that of the base model. The other arguments are those of
    `devices.resolve`, but the device `auto` is the CPU for a small model.

    Raises:
        CheckpointError: missing, incomplete, of another architecture, not safetensors, or not able
            to run on this machine.
    """
    directory = directory_of(name)
    if (directory / ADAPTER).exists():
        base = read_json(directory / ADAPTER, CheckpointError).get("base_model_name_or_path")
        if not isinstance(base, str) or not base:
            raise CheckpointError(f"{directory / ADAPTER} names no base model")
        if (directory_of(base) / ADAPTER).exists():
            raise CheckpointError(
                f"the base of the adapter {directory} is an adapter too: {base}; merge that one "
                f"first (python -m training.merge {base} OUT) and name OUT in {ADAPTER}"
            )
        checkpoint = load(base, device, dtype, quantization, attention)
        merge = merge and quantization == "none"
        model = _attach(checkpoint.model, directory, merge).eval().requires_grad_(False)
        preprocessor = read_preprocessor(directory) or checkpoint.preprocessor
        return assembled(name, model, checkpoint.tokenizer, checkpoint.device, preprocessor)
    _refuse_release(directory)
    require_files(directory, "config.json", "tokenizer.json", "*.safetensors")
    if device == "auto" and _stored_bytes(directory) < _SMALL_BYTES:
        device = "cpu"
    model = load_model(directory, resolve(device, dtype, quantization, attention))
    tokenizer = _tokenizer(directory, model.config.text_config.vocab_size)
    model_id = NANO if directory == NANO_DIRECTORY else name
    # The device of the input embedding, if the layers are distributed over several GPUs.
    embeddings_device = model.get_input_embeddings().weight.device
    return assembled(model_id, model, tokenizer, embeddings_device, read_preprocessor(directory))


#: The families whose features vLLM takes in the place of a picture, as tried (docs/serving.md).
SERVED_FAMILIES = ("llava",)


def load_for_server(name: str, device: str = "auto", dtype: str = "auto") -> Checkpoint:
    """The image half of a model, with its tokenizer: for a language model that a server holds.

    Args: as of `load`.

    Raises:
        CheckpointError: as `load`; an adapter; or a family that is not served.
    """
    directory = mergeless(name)
    require_files(directory, "config.json", "tokenizer.json", "*.safetensors")
    config = read_config(directory)
    if config.model_type not in SERVED_FAMILIES:
        raise CheckpointError(
            f"models of the family {config.model_type} are not served; those of "
            f"{', '.join(SERVED_FAMILIES)} are. Run it without a server"
        )
    if device == "auto" and _stored_bytes(directory) < _SMALL_BYTES:
        device = "cpu"
    model = load_image_half(directory, resolve(device, dtype, "none", "auto"))
    tokenizer = _tokenizer(directory, config.text_config.vocab_size)
    model_id = NANO if directory == NANO_DIRECTORY else name
    where = next(model.parameters()).device
    return assembled(model_id, model, tokenizer, where, read_preprocessor(directory))


def mergeless(name: str) -> Path:
    """The directory of a model that is no adapter, whose projector might be its own.

    Raises:
        CheckpointError: it is one, or there is no such model.
    """
    directory = directory_of(name)
    if (directory / ADAPTER).exists():
        raise CheckpointError(
            f"{directory} is a PEFT adapter; merge it first: python -m training.merge {directory} "
            "OUT, then load OUT"
        )
    return directory


def assembled(
    model_id: str,
    model: PreTrainedModel,
    tokenizer: StoredTokenizer,
    device: torch.device,
    preprocessor: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """The checkpoint of a model in memory.

    Args:
        device: of the input token ids.
        preprocessor: the preprocessor_config.json of the model; None = the family's values.

    Raises:
        CheckpointError: an unknown family, template or dialect, or an impossible value.
    """
    backbone = backbone_for(model.config, preprocessor or {})
    form, dialect = _manners(model, backbone)
    return Checkpoint(
        model_id=model_id,
        model=model,
        backbone=backbone,
        tokenizer=tokenizer,
        prompt_template=form,
        dialect=dialect,
        device=device,
        ends=_ends(model, tokenizer, form),
        preprocessor=preprocessor or {},
    )


def write_model(
    checkpoint: Checkpoint, directory: Path, tensors: dict[str, torch.Tensor] | None = None
) -> None:
    """Write a directory that `load` reads: config, weights, tokenizer, preprocessor.

    Args:
        tensors: the weights by name; None = those of the model.
    """
    model: Any = checkpoint.model
    model.save_pretrained(directory, state_dict=tensors)
    checkpoint.tokenizer.save_pretrained(directory)
    if checkpoint.preprocessor:
        write_json(directory / PREPROCESSOR, checkpoint.preprocessor, indent=1)


def _stored_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("*.safetensors"))


def directory_of(name: str) -> Path:
    """The directory of a model that `load` accepts by this name; raises as `load`."""
    return NANO_DIRECTORY if name == NANO else hub.find(name)


def _manners(model: PreTrainedModel, backbone: Backbone) -> tuple[Template, Dialect]:
    """Template and dialect: the config's own, or those of the family."""
    name = getattr(model.config, "dialect", backbone.dialect)
    try:
        dialect = Dialect(name)
    except ValueError as error:
        known = [one.value for one in Dialect]
        raise CheckpointError(
            f"dialect must be one of {known}, got {shown(repr(name), 60)}"
        ) from error
    return template(getattr(model.config, "prompt_template", backbone.template)), dialect


def _ends(model: PreTrainedModel, tokenizer: StoredTokenizer, form: Template) -> frozenset[int]:
    """The tokenizer's end of sequence, and what template and generation_config.json add."""
    stored = getattr(model.generation_config, "eos_token_id", None)
    more = stored if isinstance(stored, list) else [stored]
    known = end_id(tokenizer, form), tokenizer.eos_token_id
    return frozenset((*known, *(one for one in more if type(one) is int)))


def _tokenizer(directory: Path, rows: int) -> StoredTokenizer:
    """The tokenizer of a directory; its ids must be rows of the embedding.

    Raises:
        CheckpointError: it does not load, has more words than rows, or ends no sequence.
    """
    with _loading(directory, "a tokenizer"):
        tokenizer: StoredTokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        words, end = len(tokenizer), tokenizer.eos_token_id
    if words > rows or not isinstance(end, int):
        raise CheckpointError(
            f"the tokenizer in {directory} does not fit the model: it has {words} words and the "
            f"end token {end}; the model has {rows} rows"
        )
    return tokenizer
