"""One training of the ablation: a base, or a row from its base with its answers; each done once.

Runs inside a worker process. Knows the folders OUT/VARIANT/base-SEED and OUT/VARIANT/ROW-SEED; does
not know how they are scheduled or reported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

from training.ablate.asking import BLIND, applies, ask_about
from training.ablate.config import Config
from training.ablate.data import row_data
from training.ablate.model import Trained, untrained
from training.ablate.rows import ROWS
from training.loop.checkpoints import write_tensors
from training.loop.parallel import workers_beside
from training.nano.batches import SHORT
from training.nano.language import Recipe, train_language
from training.nano.losses import ANSWER_ONLY, WEIGHTS

BASE, WEIGHT_FILE = "base", "model.safetensors"
#: Written during a training only.
_STATE = "language.state"
#: The base without depth has the order and the questions of its own seed, rows those of another.
_ROW_SEED = 1000


@dataclass(frozen=True)
class Run:
    """One training: of a variant, a row or `BASE`, and a seed."""

    variant: str
    name: str
    seed: int

    def folder(self, out: Path) -> Path:
        """Where its results are."""
        return out / self.variant / f"{self.name}-{self.seed}"


@dataclass(frozen=True)
class Machine:
    """Where a training runs.

    Attributes:
        device: cpu, or a GPU.
        threads: of torch.
        until: time (`time.time`) at which to stop with a checkpoint.
    """

    device: str = "cpu"
    threads: int = 1
    until: float = math.inf


def answer_files(out: Path, config: Config, run: Run) -> dict[str, Path]:
    """The files of a run's answers, by control; the base is asked as it is."""
    controls = ["own"]
    variant = config.variants[run.variant]
    if run.seed == 0 and run.name != BASE and variant.asked_under_controls:
        controls += [one for one in config.controls if applies(ROWS[run.name], one)]
        controls += [BLIND] if config.blind and run.name == "none" else []
    return {control: run.folder(out) / f"{control}.jsonl" for control in controls}


def is_finished(out: Path, config: Config, run: Run) -> bool:
    """Whether a run has all of its answers."""
    return all(file.exists() for file in answer_files(out, config, run).values())


def do_run(out: Path, config: Config, run: Run, machine: Machine) -> Path:
    """Train a base or a row and ask it every question; returns its folder.

    A row starts from the weights of the base of its variant and seed, which must exist.

    Raises:
        OutOfTime: `machine.until` was reached; call it again to resume.
    """
    torch.set_num_threads(machine.threads)
    variant, data = config.variants[run.variant], Path(config.data)
    row = ROWS["none" if run.name == BASE else run.name]
    device = torch.device(machine.device)
    trained = untrained(row, run.seed, variant.normalize_features, device)
    folder = run.folder(out)
    stored = folder / WEIGHT_FILE
    if not stored.exists():
        steps, rate, seed = config.steps, config.rate, _ROW_SEED + run.seed
        if run.name == BASE:
            steps, rate, seed = config.base_steps, 1.0, run.seed
        else:
            base = Run(run.variant, BASE, run.seed).folder(out) / WEIGHT_FILE
            trained.set_weights(load_file(base))
        losses = WEIGHTS if variant.auxiliary else ANSWER_ONLY
        recipe = Recipe(steps, config.batch, SHORT, 0.0, rate, seed, losses)
        _train(trained, data / "train", recipe, folder, config.workers, machine)
    # Also right after the training: rounded, as everybody else will load them.
    trained.set_weights(load_file(stored))
    for control, file in answer_files(out, config, run).items():
        ask_about(trained, data / "test", control, file, machine.until)
    return folder


def _train(
    trained: Trained, frames: Path, recipe: Recipe, folder: Path, beside: int, machine: Machine
) -> None:
    """Train in place and write the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    data = row_data(frames, trained.row)
    if trained.extra is not None:
        trained.extra.set_data(data)
    model = trained.model.train()

    def see(chosen: npt.NDArray[np.int64]) -> torch.Tensor:
        return data.features[chosen].to(model.device).float()

    workers = workers_beside(model.device, beside)
    train_language(
        model, trained.tokenizer, data.frames, see, recipe, folder, trained.extra, workers,
        machine.until,
    )  # fmt: skip
    model.eval()
    write_tensors(folder / WEIGHT_FILE, trained.weights())
    (folder / _STATE).unlink(missing_ok=True)
