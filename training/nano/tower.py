"""Stage 1: train the vision tower on the content of each patch, without language.

Each image token predicts the object it shows: category, colour, box and apparent size. The heads
are discarded; the tower is then frozen, as LLaVA freezes CLIP. Uses colour only: depth enters after
the projector. Does not know optimisers, checkpoints or logs (`stage`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from torch import nn
from torch.nn import functional as F
from transformers import CLIPVisionModel

from sdvlm_core.model.backbones.clip_image import CLIP_MEAN, CLIP_STD
from training.loop.parallel import rank_and_world
from training.nano.architecture import CELLS
from training.nano.frames import TrainingFrames
from training.nano.muon import split
from training.nano.precision import autocast
from training.nano.stage import Stage, StepLosses, scheduled_frames, train_stage
from training.simulate.catalogue import CATEGORIES, COLOURS

#: Frames in a step, over all processes.
BATCH = 40
#: Columns of an object's row that a token regresses: centre, box size, apparent size.
REGRESSED = slice(2, 9)


def normalise(pictures: torch.Tensor, jitter: torch.Generator | None = None) -> torch.Tensor:
    """(B, S, S, 3) uint8 -> (B, 3, S, S) float32 for CLIP; with a generator, varied exposure.

    `jitter`: of the CPU, so that a GPU sees the same exposures.
    """
    pixels = pictures.permute(0, 3, 1, 2).float() / 255
    if jitter is not None:
        shape = (len(pixels), 1, 1, 1)
        gain = 0.75 + 0.5 * torch.rand(shape, generator=jitter)
        tint = 1 + 0.04 * torch.randn((len(pixels), 3, 1, 1), generator=jitter)
        pixels = (pixels * gain.to(pixels.device) * tint.to(pixels.device)).clamp(0, 1)
    mean = torch.tensor(CLIP_MEAN, device=pixels.device).view(1, 3, 1, 1)
    std = torch.tensor(CLIP_STD, device=pixels.device).view(1, 3, 1, 1)
    return (pixels - mean) / std


class _Heads(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.category = nn.Linear(width, len(CATEGORIES) + 1)
        self.colour = nn.Linear(width, len(COLOURS) + 1)
        self.regression = nn.Linear(width, REGRESSED.stop - REGRESSED.start)


def _losses(
    tokens: torch.Tensor, heads: _Heads, owner: torch.Tensor, objects: torch.Tensor
) -> dict[str, torch.Tensor]:
    """tokens (B, 144, D), owner (B, 144) int64, objects (B, 8, 15)."""
    rows = torch.arange(len(owner), device=owner.device).unsqueeze(1)
    # Index -1 wraps for background tokens, which are masked below.
    target = objects[rows, owner - 1]
    shows_object = owner > 0
    tokens = heads.norm(tokens)
    category = torch.where(shows_object, target[..., 0], len(CATEGORIES)).nan_to_num().long()
    colour = torch.where(shows_object, target[..., 1], len(COLOURS)).nan_to_num().long()
    predicted = heads.regression(tokens)[shows_object]
    wanted = target[shows_object][:, REGRESSED]
    weight = torch.where(shows_object, 1.0, 0.3)

    def classify(head: nn.Linear, labels: torch.Tensor) -> torch.Tensor:
        loss = F.cross_entropy(head(tokens).flatten(0, 1), labels.flatten(), reduction="none")
        return (loss * weight.flatten()).mean()

    error = F.smooth_l1_loss(predicted, wanted, reduction="none", beta=0.05).mean(0)
    return {
        "category": classify(heads.category, category),
        "colour": classify(heads.colour, colour),
        "box": error[:4].mean(),
        "apparent": error[4:].mean(),
    }


_WEIGHTS = {"category": 1.0, "colour": 1.0, "box": 8.0, "apparent": 2.0}


def train_tower(
    tower: CLIPVisionModel,
    frames: TrainingFrames,
    steps: int,
    out: Path,
    seed: int = 0,
    rate: float = 1.0,
) -> None:
    """Train in place for `steps` batches; resumes from the checkpoint `out`/tower.state.

    Runs on the device of the tower.

    `rate`: factor on the learning rates; below 1 for a tower that is trained already.
    """
    torch.manual_seed(seed)
    device = tower.device
    heads = _Heads(tower.config.hidden_size).to(device)
    matrices, others = split(tower)
    process, world = rank_and_world()

    def losses_of(numbers: range) -> Iterator[StepLosses]:
        for step in numbers:
            together = scheduled_frames(len(frames), BATCH, step, seed, backwards=True)
            chosen = np.sort(together[process::world])
            own = np.random.SeedSequence([seed, step, process]).generate_state(1)
            jitter = torch.Generator().manual_seed(int(own[0]))
            pixels = normalise(torch.from_numpy(frames.picture[chosen]).to(device), jitter)
            owner = torch.from_numpy(frames.owner[chosen]).to(device).long()
            objects = torch.from_numpy(frames.objects[chosen]).to(device)
            with autocast(device):
                tokens = tower(pixels).last_hidden_state[:, 1:]
            yield StepLosses(_losses(tokens.float(), heads, owner, objects), {})

    modules = {"tower": tower, "heads": heads}
    stage = Stage("tower", modules, matrices, [*others, *heads.parameters()], _WEIGHTS)
    train_stage(stage, losses_of, steps, out, rate=rate)


@torch.inference_mode()
def tower_features(tower: CLIPVisionModel, pictures: npt.NDArray[np.uint8]) -> torch.Tensor:
    """The projector's input (N, 144, D) float16, on the CPU, of pictures (N, S, S, 3)."""
    features = torch.empty(
        (len(pictures), CELLS * CELLS, tower.config.hidden_size), dtype=torch.float16
    )
    size = 128
    for start in track(range(0, len(pictures), size), "features"):
        # A copy: torch refuses read-only memory maps.
        own = torch.from_numpy(np.array(pictures[start : start + size])).to(tower.device)
        with autocast(tower.device):
            found = tower(normalise(own)).last_hidden_state[:, 1:]
        features[start : start + size] = found.half()
    return features
