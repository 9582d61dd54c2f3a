"""Weight files: reads safetensors, .bin and .pth without running code; writes safetensors.

Does not know models or the meaning of a tensor's name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sdvlm_core.errors import CheckpointError
from sdvlm_core.files import read_json


def list_files(directory: Path) -> list[Path]:
    """The weight files of a directory: safetensors if there are any, else .bin.

    With an index, exactly the files that it lists.

    Raises:
        CheckpointError: there is none, or a listed file is missing.
    """
    for index, pattern in (
        ("model.safetensors.index.json", "*.safetensors"),
        ("pytorch_model.bin.index.json", "pytorch_model*.bin"),
    ):
        found = sorted(directory.glob(pattern))
        if (directory / index).exists():
            listed = set(
                read_json(directory / index, CheckpointError).get("weight_map", {}).values()
            )
            missing = sorted(name for name in listed if not (directory / name).is_file())
            if missing:
                raise CheckpointError(f"{directory} lacks {', '.join(missing)}, listed in {index}")
            found = sorted(directory / name for name in listed)
        if found:
            return found
    raise CheckpointError(f"{directory} holds neither *.safetensors nor pytorch_model*.bin")


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a file, memory-mapped where the format allows; never runs pickled code.

    Raises:
        CheckpointError: the file is unreadable, or holds anything but tensors.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as stored:
                return {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, SafetensorError, RuntimeError, ValueError, EOFError) as error:
        raise CheckpointError(f"{path} is not a readable weight file: {error}") from error
    except Exception as error:  # torch raises pickle's errors for content that weights_only forbids
        raise CheckpointError(f"{path} holds more than weights: {error}") from error
    if not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(f"{path} is not a plain state dict of tensors")
    return dict(state)


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of a file; of safetensors, only the header is read.

    Raises:
        CheckpointError: as `tensors`.
    """
    if path.suffix != ".safetensors":
        return {key: tuple(value.shape) for key, value in tensors(path).items()}
    try:
        with safe_open(path, "pt") as stored:
            return {
                key: tuple(stored.get_slice(key).get_shape())
                for key in stored.keys()  # noqa: SIM118
            }
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is not a readable weight file: {error}") from error


def save(
    weights: dict[str, torch.Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file that those may read who may read other new files.

    The library writes for its user alone, and a node often runs as another one.
    """
    save_file(weights, path, metadata=dict(metadata) if metadata else None)
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
