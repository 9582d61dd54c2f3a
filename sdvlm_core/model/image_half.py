"""The image half of a model: what a robot loads whose language model is on a server.

Tells which weights are the language model's, marks them, and writes a directory without them. The
mark is what a robot and its server compare: the same name on a server does not mean the same
weights. Does not load models and does not know servers.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from sdvlm_core.errors import CheckpointError
from sdvlm_core.files import atomic_directory, read_json, write_json
from sdvlm_core.model import weight_files

#: Parts of the names of the language model's weights.
LANGUAGE = ("language_model.", "text_model.", "lm_head.")
#: In a directory of an image half: the mark of the language model that belongs to it.
MARK_FILE = "sdvlm_language.json"
_MARK = re.compile("[0-9a-f]{16}")
_WEIGHTS = (".safetensors", ".bin", ".pth", ".pt", ".index.json")


def is_language(name: str) -> bool:
    """Whether a weight is the language model's."""
    return any(part in name for part in LANGUAGE)


def language_mark(directory: Path) -> str:
    """Sixteen hex digits that differ for other language models in a model directory.

    Of every weight of the language model: name, data type, shape, and its middle row. Training
    changes all rows of the matrices that it trains; reading all values would take a minute. A
    change of single other rows, as by hand, is not noticed.

    Raises:
        CheckpointError: no such weights, or they are unreadable.
    """
    if (directory / MARK_FILE).exists():
        mark = read_json(directory / MARK_FILE, CheckpointError).get("mark")
        if not isinstance(mark, str) or not _MARK.fullmatch(mark):
            raise CheckpointError(f"{directory / MARK_FILE} has no mark: write it again")
        return mark
    found: dict[str, bytes] = {}
    for path in weight_files.list_files(directory):
        try:
            with safe_open(path, "pt") as stored:
                for name in filter(is_language, stored.keys()):
                    found[name] = _sample(stored.get_slice(name))
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path} is not a readable weight file: {error}") from error
    if not found:
        raise CheckpointError(f"{directory} has no weights of a language model")
    digest = hashlib.sha256()
    for name in sorted(found):
        digest.update(name.encode() + b"\0" + found[name])
    return digest.hexdigest()[:16]


def _sample(weight: object) -> bytes:
    """Data type, shape and middle row of a weight."""
    shape: list[int] = weight.get_shape()  # type: ignore[attr-defined] # safetensors has no types
    described = json.dumps([weight.get_dtype(), shape])  # type: ignore[attr-defined]
    if 0 in shape:
        return described.encode()
    middle = shape[0] // 2 if len(shape) > 1 else 0
    row: torch.Tensor = weight[middle : middle + 1] if len(shape) > 1 else weight[:]  # type: ignore[index]
    return described.encode() + row.contiguous().view(torch.uint8).numpy().tobytes()


def write_image_half(directory: Path, out: Path) -> int:
    """Write the image half of a model directory to OUT; its size in bytes.

    Raises:
        CheckpointError: it is an image half already, OUT exists, or a weight file is unreadable.
    """
    if out.exists():
        raise CheckpointError(f"{out} exists already: remove it, or name another directory")
    if (directory / MARK_FILE).exists():
        raise CheckpointError(f"{directory} is an image half already")
    mark = language_mark(directory)
    weights: dict[str, torch.Tensor] = {}
    for path in weight_files.list_files(directory):
        with safe_open(path, "pt") as stored:
            names = [name for name in stored.keys() if not is_language(name)]  # noqa: SIM118
            weights |= {name: stored.get_tensor(name) for name in names}
    with atomic_directory(out) as folder:
        for file in sorted(directory.iterdir()):
            if file.is_file() and not file.name.endswith(_WEIGHTS):
                shutil.copyfile(file, folder / file.name)
        weight_files.save(weights, folder / "model.safetensors", {"format": "pt"})
        write_json(folder / MARK_FILE, {"mark": mark})
    return sum(file.stat().st_size for file in out.iterdir())
