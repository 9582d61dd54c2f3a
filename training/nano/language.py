"""Stage 2: projector and language model learn to answer; the tower stays frozen.

With the loss on answers alone a small model stays at chance for hours, so training adds auxiliary
losses (their read-outs are not part of the model):
    align    a token's projected feature scores highest against its own colour and category words;
    look     two heads of an early layer attend from an object's name to the object's tokens;
    facts    a linear read-out of the name's state gives the object's position and size;
    value    a linear read-out of a question's last token gives the number that is asked for;
    focal    a linear read-out of a question's first token gives the focal length.
Knows losses; does not know optimisers, checkpoints or logs (`stage`).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from sdvlm_core.model.coded_features import fuse
from sdvlm_core.model.depth_encoding import encode
from sdvlm_core.model.own_settings import encoding_settings
from training.loop.parallel import rank_and_world
from training.nano.architecture import BOS
from training.nano.batches import KINDS, WIDE, Asks, Batch, make_batch
from training.nano.frames import TrainingFrames
from training.nano.muon import split
from training.nano.packed import Packed, packed_forward
from training.nano.stage import WARMUP, Stage, scheduled_frames, train_stage
from training.nano.vocabulary import word_id
from training.simulate.catalogue import CATEGORIES, COLOURS

LOOK_LAYER, LOOK_HEADS, FACTS_LAYER = 1, 2, 2
#: Later than LOOK_LAYER: a coordinate has to be read digit by digit first.
PLACE_LAYER = 3
#: A layer late enough to combine two facts and early enough to affect the answer.
VALUE_LAYER = 3
#: Batches prepared ahead of the training.
_PREFETCHED = 3
_WEIGHTS = {"answer": 1.0, "align": 0.3, "look": 0.3, "facts": 0.5, "value": 0.3, "focal": 0.2}


@dataclass(frozen=True)
class Recipe:
    """How the language model is trained.

    Attributes:
        steps: optimiser steps; the learning rate decays over all of them.
        batch: frames in a step, over all processes.
        asks: questions about each frame.
        without_depth: share of frames whose depth is not shown.
        rate: factor on the learning rates; below 1 for a model that is trained already.
        seed: seed of the order of frames, the questions and the new weights.
    """

    steps: int
    batch: int = 8
    asks: Asks = WIDE
    without_depth: float = 0.0
    rate: float = 1.0
    seed: int = 0


class _Readout(nn.Module):
    """Linear read-outs used in training only, and a row's own module, if it has one."""

    def __init__(self, width: int, extra: nn.Module | None) -> None:
        super().__init__()
        self.extra = extra
        self.facts = nn.Linear(width, 11)
        self.focal = nn.Linear(width, 1)
        self.value = nn.Linear(width, 1)


def _fact_targets(rows: torch.Tensor) -> torch.Tensor:
    """(M, 15) object rows -> (M, 11): u v, apparent sizes, X Y Z, sizes,
    near unit scale."""
    uv, apparent, xyz, sizes = rows[:, 2:4], rows[:, 6:9], rows[:, 9:12], rows[:, 12:15]
    return torch.cat([2 * uv - 1, (apparent + 1.5), xyz, (sizes + 1.2)], dim=1)


def _align_loss(
    features: torch.Tensor,
    embedding: torch.Tensor,
    owner: torch.Tensor,
    objects: torch.Tensor,
    words: dict[str, torch.Tensor],
) -> torch.Tensor:
    """features (B, 144, D) normalised, owner (B, 144), objects (B, 8, 15)."""
    there = owner > 0
    target = objects[torch.arange(len(owner)).unsqueeze(1), owner - 1][there]
    own = features[there] / math.sqrt(features.shape[-1])
    category = own @ embedding[words["category"]].T * 4
    colour = own @ embedding[words["colour"]].T * 4
    return _mean(F.cross_entropy(category, target[:, 0].long(), reduction="none")) + _mean(
        F.cross_entropy(colour, target[:, 1].long(), reduction="none")
    )


def _mean(values: torch.Tensor) -> torch.Tensor:
    """The mean; 0 of an empty tensor, since a batch may hold no question of a type."""
    return values.sum() / max(1, values.numel())


def _smooth_l1(predicted: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    return _mean(F.smooth_l1_loss(predicted, wanted, reduction="none", beta=0.1))


@dataclass(frozen=True, eq=False)
class _Forward:
    """One forward pass: image features (B, 144, D) without a depth code, `packed`, and the columns
    of the prefix that hold image tokens."""

    features: torch.Tensor
    packed: Packed
    image: slice


def _forward(
    model: LlavaForConditionalGeneration,
    readout: _Readout,
    batch: Batch,
    frames: TrainingFrames,
    seen: torch.Tensor,
) -> _Forward:
    settings = encoding_settings(model.config)
    embedding = model.model.language_model.embed_tokens.weight
    chosen = batch.frames
    code = None
    if settings.kind != "none":  # "none" where `readout.extra` encodes the depth
        code = encode(
            torch.from_numpy(frames.coordinates[chosen]),
            torch.from_numpy(frames.valid[chosen]) & batch.shown.unsqueeze(1),
            settings,
            embedding.shape[1],
        )
    with torch.autocast("cpu", torch.bfloat16):
        projected = model.model.multi_modal_projector(seen).float()
    image = fuse(projected, code, settings)
    prefix = [embedding[BOS].expand(len(chosen), 1, -1), image]
    if readout.extra is not None:
        prefix.append(readout.extra(model, chosen))
    packed = packed_forward(
        model.model.language_model,
        torch.cat(prefix, dim=1),
        F.embedding(batch.ids, embedding),
        batch.places,
        batch.segments,
        torch.bfloat16,
        hidden_of=(FACTS_LAYER, VALUE_LAYER),
        attention_of=(LOOK_LAYER, PLACE_LAYER),
    )
    # Prefix = beginning of sequence + image tokens + extra ones.
    return _Forward(fuse(projected, None, settings), packed, slice(1, 1 + image.shape[1]))


def _losses(
    model: LlavaForConditionalGeneration,
    readout: _Readout,
    batch: Batch,
    frames: TrainingFrames,
    seen: torch.Tensor,
    words: dict[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    """Every loss of a batch, and what is only logged: attention mass, loss per question type.

    Args:
        seen: the tower's features (B, 144, D).
        words: token ids of the categories and of the colours.
    """
    embedding = model.model.language_model.embed_tokens.weight
    done = _forward(model, readout, batch, frames, seen)
    packed = done.packed
    answer, by_type = _answer_losses(packed, batch, embedding)
    owner = torch.from_numpy(frames.owner[batch.frames]).long()
    objects = torch.from_numpy(frames.objects[batch.frames])
    losses = {"answer": answer}
    losses["align"] = _align_loss(done.features, embedding, owner, objects, words)
    mass = _attention_mass(done, batch)
    losses["look"] = _mean(-(mass + 1e-4).log())
    losses |= _readout_losses(readout, packed, batch, frames)
    with torch.no_grad():
        losses["mass"] = _mean(mass[~batch.by_place])
        losses["mass_by_place"] = _mean(mass[batch.by_place])
    return losses | by_type


def _answer_losses(
    packed: Packed, batch: Batch, embedding: torch.Tensor
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The weighted cross-entropy of answer tokens, and its mean per question type for the log."""
    weights = batch.weights[:, :, 1:]
    wanted = weights > 0
    logits = F.linear(packed.final[:, :, :-1][wanted].float(), embedding)
    per_token = F.cross_entropy(logits, batch.ids[:, :, 1:][wanted], reduction="none")
    weighted = per_token * weights[wanted]
    kind = batch.kinds[:, :, 1:][wanted]
    by_type = {
        f"answer/{name}": weighted[kind == index].detach().mean()
        for index, name in enumerate(KINDS)
        if (kind == index).any()
    }
    return weighted.sum() / weights.sum(), by_type


def _attention_mass(done: _Forward, batch: Batch) -> torch.Tensor:
    """(M, heads): attention that each supervised token pays to the cells it should look at."""
    b, row, at = batch.look_at.T
    masses = [
        (
            done.packed.attention[layer][b, :LOOK_HEADS, row, at, done.image]
            * batch.cells.unsqueeze(1)
        )
        .float()
        .sum(-1)
        for layer in (LOOK_LAYER, PLACE_LAYER)
    ]
    return torch.where(batch.by_place.unsqueeze(1), masses[1], masses[0])


def _readout_losses(
    readout: _Readout, packed: Packed, batch: Batch, frames: TrainingFrames
) -> dict[str, torch.Tensor]:
    """Losses of the linear read-outs: facts, value, focal."""
    state = packed.hidden[FACTS_LAYER]
    b, row, at = batch.look_at.T
    known = batch.facts.isfinite().all(dim=1) & ~batch.by_place
    facts = _smooth_l1(readout.facts(state[b, row, at][known]), _fact_targets(batch.facts[known]))
    b, row, at = batch.ends.T
    value = readout.value(packed.hidden[VALUE_LAYER][b, row, at]).squeeze(-1)
    first = (batch.places == 0) & (batch.segments >= 0)
    focal = torch.from_numpy(frames.focal[batch.frames]).log().view(-1, 1, 1).expand(first.shape)
    predicted = readout.focal(state[first]).squeeze(-1)
    return {
        "facts": facts,
        "value": _smooth_l1(value, batch.values),
        "focal": _smooth_l1(predicted, focal[first]),
    }


def _prefetched(
    frames: TrainingFrames,
    tokenizer: PreTrainedTokenizerFast,
    steps: range,
    recipe: Recipe,
) -> Iterator[Batch]:
    """This process's batches of the given steps, prepared ahead; each depends on its step only."""
    queue: Queue[Batch | Exception] = Queue(maxsize=3)
    process, world = rank_and_world()

    def produce() -> None:
        try:
            for step in steps:
                chosen = scheduled_frames(len(frames), recipe.batch, step, recipe.seed)
                rng = np.random.default_rng([recipe.seed, 2, step, process])
                own = np.sort(chosen[process::world])
                queue.put(
                    make_batch(frames, own, tokenizer, rng, recipe.asks, recipe.without_depth)
                )
        except Exception as error:  # noqa: BLE001 - the consumer raises it
            queue.put(error)

    threading.Thread(target=produce, daemon=True).start()
    for _ in steps:
        item = queue.get()
        if isinstance(item, Exception):
            raise item
        yield item


def train_language(
    model: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    frames: TrainingFrames,
    see: Callable[[npt.NDArray[np.int64]], torch.Tensor],
    recipe: Recipe,
    out: Path,
    extra: nn.Module | None = None,
) -> None:
    """Train projector and language model in place; resumes from `out`/language.state.

    Args:
        see: indices of frames (B,) -> features (B, 144, D) float32 of the tower.
        extra: (model, indices of frames (B,)) -> embeddings (B, E, D) that follow the image's.
    """
    torch.manual_seed(recipe.seed)
    readout = _Readout(model.config.text_config.hidden_size, extra)
    llava = model.model
    matrices, others = (
        [*a, *b]
        for a, b in zip(
            split(llava.language_model), split(llava.multi_modal_projector), strict=True
        )
    )
    words = {
        "category": torch.tensor([word_id(tokenizer, word) for word in CATEGORIES]),
        "colour": torch.tensor([word_id(tokenizer, word) for word in COLOURS]),
    }

    def losses_of(numbers: range) -> Iterator[dict[str, torch.Tensor]]:
        for batch in _prefetched(frames, tokenizer, numbers, recipe):
            yield _losses(model, readout, batch, frames, see(batch.frames), words)

    modules: dict[str, nn.Module] = {"model": model, "readout": readout}
    stage = Stage("language", modules, matrices, [*others, *readout.parameters()], _WEIGHTS)
    warmup = min(WARMUP, max(1, recipe.steps // 8))
    train_stage(stage, losses_of, recipe.steps, out, rate=recipe.rate, warmup=warmup)
