"""The samples of every step, and samples -> padded tensors.

Batches depend on (seed, epoch) only, not on the number of processes: each process takes its share
of every batch, so that the gradient is the same. Does not know models or files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sdvlm_core.model.backbones.clip_image import CLIP_MEAN, CLIP_STD
from training.finetune.samples import IGNORED, Prepared

#: Batches sorted by length together: padding stays small, order stays random.
_GROUP = 16


def batches_of(lengths: Sequence[int], batch: int, seed: int, epoch: int) -> list[list[int]]:
    """The sample numbers of every step of an epoch, similar lengths together.

    Samples that do not fill a batch are left out of the epoch.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    found: list[list[int]] = []
    for start in range(0, len(order), batch * _GROUP):
        group = sorted(order[start : start + batch * _GROUP].tolist(), key=lambda i: -lengths[i])
        found += [group[at : at + batch] for at in range(0, len(group), batch)]
    found = [members for members in found if len(members) == batch]
    return [found[i] for i in rng.permutation(len(found))]


def share_of(members: Sequence[int], process: int, processes: int, micro: int) -> list[list[int]]:
    """The forward passes of one process: the same number for every process, some may be empty."""
    rounds = -(-len(members) // (micro * processes))
    mine = list(members)[process::processes]
    return [mine[at * micro : (at + 1) * micro] for at in range(rounds)]


def collate(samples: Sequence[Prepared], pad: int) -> dict[str, torch.Tensor]:
    """ids, labels, mask (B, T) int64, pixels (B, 3, S, S) float32, coordinates, valid."""
    longest = max(len(sample.ids) for sample in samples)
    ids = np.full((len(samples), longest), pad, np.int64)
    labels = np.full((len(samples), longest), IGNORED, np.int64)
    mask = np.zeros((len(samples), longest), np.int64)
    for row, sample in enumerate(samples):
        ids[row, : len(sample.ids)] = sample.ids
        labels[row, : len(sample.ids)] = sample.labels
        mask[row, : len(sample.ids)] = 1
    pictures = np.stack([sample.picture for sample in samples])
    # As `clip_image.clip_pixels`, for an image that is square already.
    scale = np.float32(1 / 255) / np.array(CLIP_STD, np.float32)
    offset = np.array(CLIP_MEAN, np.float32) / np.array(CLIP_STD, np.float32)
    pixels = np.ascontiguousarray((pictures * scale - offset).transpose(0, 3, 1, 2))
    return {
        "ids": torch.from_numpy(ids),
        "labels": torch.from_numpy(labels),
        "mask": torch.from_numpy(mask),
        "pixels": torch.from_numpy(pixels),
        "coordinates": torch.from_numpy(np.stack([s.coordinates for s in samples])),
        "valid": torch.from_numpy(np.stack([s.valid for s in samples])),
    }
