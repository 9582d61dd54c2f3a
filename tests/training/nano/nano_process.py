"""One of several processes that train nano together for two steps: DATA OUT; writes OUT/<rank>."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from sdvlm_core.model.checkpoint import load as load_checkpoint
from training.loop import parallel
from training.nano import language, tower
from training.nano.batches import WIDE
from training.nano.frames import load


def see(chosen: np.ndarray) -> torch.Tensor:
    """No features: the test compares processes, not what they learn."""
    return torch.zeros(len(chosen), 144, 192)


if __name__ == "__main__":
    parallel.join_processes()
    frames, out = load(Path(sys.argv[1])), Path(sys.argv[2])
    nano = load_checkpoint("nano", "cpu", dtype="float32")
    model = nano.model.requires_grad_(True)
    tower.BATCH = 8
    tower.train_tower(model.model.vision_tower, frames, 2, out)
    recipe = language.Recipe(2, 4, WIDE)
    language.train_language(model, nano.tokenizer, frames, see, recipe, out)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    save_file(weights, out / f"{parallel.rank_and_world()[0]}.safetensors")
