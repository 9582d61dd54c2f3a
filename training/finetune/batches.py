"""The samples of every step, and samples -> padded tensors.

Batches depend on (seed, epoch) only, not on the number of processes: each process takes its share
of every batch, so that the gradient is the same. Samples may differ in everything: shape of the
image, number of its tokens and tiles, length. Padding follows a conversation, so that no token, and
no state of a recurrent layer, has seen any. Does not know weights or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.utils.rnn import pad_sequence

from sdvlm_core.model.backbones.contract import Backbone, ImageAttention
from sdvlm_core.model.checkpoint import Checkpoint
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


def depth_shown(sample: Prepared, share: float, seed: int, step: int, number: int) -> Prepared:
    """The sample, or in a `share` of the steps the sample without its depth."""
    if np.random.default_rng([seed, step, number]).random() >= share:
        return sample
    return replace(sample, valid=np.zeros_like(sample.valid))


@dataclass(frozen=True)
class Batch:
    """The tensors of one forward pass over B samples of at most T tokens, with N image tokens.

    Attributes:
        ids: (B, T) int64.
        labels: (B, T) int64.
        mask: (B, T) int64, 1 = a token.
        positions: (B, T) or (3, B, T) int64.
        token_types: (B, T) int64, as the model's `token_type_ids`; None = it takes none.
        coordinates: (N, K) float32 of all images, one after another.
        valid: (N,) bool.
        images: the arguments of `get_image_features`, on the devices where `prepare` puts them.
    """

    ids: torch.Tensor
    labels: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor
    token_types: torch.Tensor | None
    coordinates: torch.Tensor
    valid: torch.Tensor
    images: dict[str, torch.Tensor]

    def tensors(self) -> dict[str, torch.Tensor]:
        """All by name."""
        own = {key: value for key, value in vars(self).items() if key != "images"}
        named = {f"images.{key}": value for key, value in self.images.items()}
        return {key: value for key, value in (own | named).items() if value is not None}


@dataclass(frozen=True)
class Collator:
    """Samples -> a batch on a device.

    Attributes:
        backbone: of the model.
        image_id: the image token.
        pad: the id that fills short conversations.
    """

    backbone: Backbone
    image_id: int
    pad: int
    device: torch.device

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Collator:
        """For a checkpoint, on its device."""
        image_id = checkpoint.model.config.image_token_id
        pad = checkpoint.tokenizer.pad_token_id or 0
        return cls(checkpoint.backbone, image_id, pad, checkpoint.device)

    def __call__(self, samples: Sequence[Prepared]) -> Batch:
        """Resizes the images; the rest is copied."""
        ids = self._padded([sample.ids for sample in samples], self.pad)
        labels = self._padded([sample.labels for sample in samples], IGNORED)
        mask = self._padded([np.ones(len(sample.ids), np.int64) for sample in samples], 0)
        types = None
        if self.backbone.attention is ImageAttention.IMAGE:
            types = (ids == self.image_id).long()
        elif self.backbone.attention is ImageAttention.PROMPT:
            # The prompt sees itself whole; the answer, and padding, see what is before them.
            types = ((labels != IGNORED) | (mask == 0)).long()
        positions = [
            self.backbone.positions(sample.ids == self.image_id, *sample.rgb.shape[:2])[0]
            for sample in samples
        ]
        pad = [(one, ids.shape[1] - one.shape[-1]) for one in positions]
        filled = [torch.nn.functional.pad(one, (0, missing)) for one, missing in pad]
        images = [self.backbone.prepare(sample.rgb, self.device) for sample in samples]
        coordinates = np.concatenate([sample.coordinates for sample in samples])
        valid = np.concatenate([sample.valid for sample in samples])
        return Batch(
            ids=ids,
            labels=labels,
            mask=mask,
            positions=torch.cat(filled, -2).to(self.device),
            token_types=types,
            coordinates=torch.from_numpy(coordinates).to(self.device),
            valid=torch.from_numpy(valid).to(self.device),
            images=self.backbone.batched(images),
        )

    def _padded(self, rows: Sequence[npt.NDArray[np.int64]], value: int) -> torch.Tensor:
        tensors = [torch.from_numpy(row) for row in rows]
        return pad_sequence(tensors, batch_first=True, padding_value=value).to(self.device)
