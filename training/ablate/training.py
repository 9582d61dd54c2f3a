"""One row of the ablation: its training from the base model, then its answers, each done once.

Runs inside a worker process. Knows the folders OUT/base-SEED and OUT/ROW-SEED; does not know how
rows are scheduled or reported.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

from sdvlm_core.model.checkpoint import load as load_checkpoint
from training.ablate.asking import BLIND, ask_about
from training.ablate.config import Config
from training.ablate.data import row_data
from training.ablate.model import DepthTokens, new_model
from training.ablate.rows import ROWS
from training.loop.checkpoints import write_tensors
from training.nano.batches import SHORT
from training.nano.language import Recipe, train_language

_WEIGHTS = "model.safetensors"
#: The base without depth has the order and the questions of its own seed, rows those of another.
_ROW_SEED = 1000


def train_base(out: Path, config: Config, seed: int, threads: int) -> Path:
    """Train the model without depth that all rows of a seed start from; returns its folder."""
    folder = out / f"base-{seed}"
    recipe = Recipe(config.base_steps, asks=SHORT, seed=seed)
    _train(out, folder, "none", seed, recipe, None, threads)
    return folder


def run_row(out: Path, config: Config, name: str, seed: int, threads: int) -> Path:
    """Train a row and ask it every question under every control; returns its folder."""
    folder = out / f"{name}-{seed}"
    recipe = Recipe(config.steps, asks=SHORT, seed=_ROW_SEED + seed, rate=config.rate)
    base = out / f"base-{seed}" / _WEIGHTS
    weights = _train(out, folder, name, seed, recipe, base, threads)
    for control, file in answer_files(out, config, name, seed).items():
        ask_about(ROWS[name], weights, out / "test", control, file)
    return folder


def answer_files(out: Path, config: Config, name: str, seed: int) -> dict[str, Path]:
    """The files of a row's answers, by control."""
    controls = ["own"]
    if seed == 0:
        controls += config.controls if ROWS[name].sees_depth else []
        controls += [BLIND] if config.blind and name == "none" else []
    return {control: out / f"{name}-{seed}" / f"{control}.jsonl" for control in controls}


def _train(
    out: Path, folder: Path, name: str, seed: int, recipe: Recipe, base: Path | None, threads: int
) -> Path:
    """Train a row from the weights `base`, or from random ones; returns its weights."""
    torch.set_num_threads(threads)
    weights = folder / _WEIGHTS
    if weights.exists():
        return weights
    folder.mkdir(parents=True, exist_ok=True)
    row = ROWS[name]
    tokenizer = load_checkpoint("nano", "cpu").tokenizer
    model = new_model(row, len(tokenizer), seed)
    data = row_data(out / "train", row)
    extra = None
    if row.extra:
        extra = DepthTokens(row, tokenizer, model.config.text_config.hidden_size)
        extra.set_data(data)
    if base is not None:
        model.load_state_dict(load_file(base), strict=False)

    def see(chosen: npt.NDArray[np.int64]) -> torch.Tensor:
        return data.features[chosen].float()

    train_language(model, tokenizer, data.frames, see, recipe, folder, extra)
    # Cloned: tied weights share memory, which safetensors refuses.
    tensors = {key: value.clone() for key, value in model.state_dict().items()}
    if extra is not None:
        tensors |= {f"extra.{key}": value.clone() for key, value in extra.state_dict().items()}
    write_tensors(weights, tensors)
    return weights
