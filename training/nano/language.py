"""Stage 2: the language model learns to look, then to measure; the tower is not touched.

The loss on answers alone leaves a small model guessing blindly for hours; extra losses, gone
after training, show it the way:
    align    a token's projected feature scores highest against its own colour and category words;
    look     two heads of an early layer look from an object's name to the object's tokens;
    facts    a linear read-out of the name's state gives the object's position and size;
    value    a linear read-out of a question's end gives the number that is asked for.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from sdvlm_core.model.backbones.llava import DepthEncodedLlava, encoding_settings, fuse
from sdvlm_core.model.depth_encoding import encode
from training.build.questions import TYPES
from training.nano.batches import MANY, Batch, make_batch
from training.nano.frames import TrainingFrames
from training.nano.muon import cosine, optimisers, set_rate, split
from training.nano.packed import packed_forward
from training.nano.parallel import average_gradients, place
from training.nano.progress import Journal
from training.nano.state import load as load_state
from training.nano.state import save as save_state
from training.nano.tower import chosen_frames
from training.nano.vocabulary import BOS, word_id
from training.simulate.catalogue import CATEGORIES, COLOURS

WARMUP = 100
MATRIX_RATE, RATE = 2e-3, 1e-3
LOOK_LAYER, LOOK_HEADS, FACTS_LAYER = 1, 2, 2
#: A coordinate has to be read digit by digit before it can be looked at: later.
PLACE_LAYER = 3
#: Late enough for two facts to have met, early enough for the answer to be written from it.
VALUE_LAYER = 3
_WEIGHTS = {"answer": 1.0, "align": 0.3, "look": 0.3, "facts": 0.5, "value": 0.3, "focal": 0.2}
SAVE_EVERY = 250


@dataclass(frozen=True)
class Recipe:
    """How long and on what the language model is trained.

    Attributes:
        steps: of them; the learning rate goes down over all.
        batch: frames in a step, over all processes.
        wanted: questions per frame and type.
        without_depth: share of frames whose depth is not shown.
        rate: factor on the learning rates; below 1 to go on from trained weights.
        seed: of the order of frames, the questions and the new weights.
    """

    steps: int
    batch: int = 8
    wanted: Mapping[str, int] = field(default_factory=lambda: MANY)
    without_depth: float = 0.0
    rate: float = 1.0
    seed: int = 0


class _Readout(nn.Module):
    """Linear read-outs used in training only, and what else is trained beside the model."""

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
    """Of nothing it is 0: a few frames may hold no question of a kind."""
    return values.sum() / max(1, values.numel())


def _off(told: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    return _mean(F.smooth_l1_loss(told, wanted, reduction="none", beta=0.1))


def _losses(
    model: DepthEncodedLlava,
    readout: _Readout,
    batch: Batch,
    frames: TrainingFrames,
    seen: torch.Tensor,
    words: dict[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    settings = encoding_settings(model.config)
    embedding = model.model.language_model.embed_tokens.weight
    chosen = batch.frames
    code = None
    # A code that goes its own way is the extra's business.
    if settings.kind != "none":
        code = encode(
            torch.from_numpy(frames.coordinates[chosen]),
            torch.from_numpy(frames.valid[chosen]) & batch.shown.unsqueeze(1),
            settings,
            embedding.shape[1],
        )
    projector = model.model.multi_modal_projector
    with torch.autocast("cpu", torch.bfloat16):
        projected = projector(seen).float()
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
    weights = batch.weights[:, :, 1:]
    wanted = weights > 0
    logits = F.linear(packed.final[:, :, :-1][wanted].float(), embedding)
    per_token = F.cross_entropy(logits, batch.ids[:, :, 1:][wanted], reduction="none")
    weighted = per_token * weights[wanted]
    losses = {"answer": weighted.sum() / weights.sum()}
    owner = torch.from_numpy(frames.owner[chosen]).long()
    losses["align"] = _align_loss(
        fuse(projected, None, settings),
        embedding,
        owner,
        torch.from_numpy(frames.objects[chosen]),
        words,
    )
    b, row, at = batch.look_at.T
    # Prefix = beginning of sequence + image tokens + extra ones.
    picture = slice(1, 1 + image.shape[1])
    masses = [
        (packed.attention[layer][b, :LOOK_HEADS, row, at, picture] * batch.cells.unsqueeze(1))
        .float()
        .sum(-1)
        for layer in (LOOK_LAYER, PLACE_LAYER)
    ]
    mass = torch.where(batch.by_place.unsqueeze(1), masses[1], masses[0])
    losses["look"] = _mean(-(mass + 1e-4).log())
    state = packed.hidden[FACTS_LAYER]
    known = batch.facts.isfinite().all(dim=1) & ~batch.by_place
    told = readout.facts(state[b, row, at][known])
    losses["facts"] = _off(told, _fact_targets(batch.facts[known]))
    b, row, at = batch.ends.T
    value = readout.value(packed.hidden[VALUE_LAYER][b, row, at]).squeeze(-1)
    losses["value"] = _off(value, batch.values)
    first = (batch.places == 0) & (batch.segments >= 0)
    focal = torch.from_numpy(frames.focal[chosen]).log().view(-1, 1, 1).expand(first.shape)
    seen = readout.focal(state[first]).squeeze(-1)
    losses["focal"] = _off(seen, focal[first])
    with torch.no_grad():
        losses["mass"] = _mean(mass[~batch.by_place])
        losses["mass_by_place"] = _mean(mass[batch.by_place])
        kind = batch.kinds[:, :, 1:][wanted]
        for index, name in enumerate(TYPES):
            if (kind == index).any():
                losses[f"answer/{name}"] = weighted[kind == index].mean()
    return losses


def _prefetched(
    frames: TrainingFrames,
    tokenizer: PreTrainedTokenizerFast,
    steps: range,
    recipe: Recipe,
) -> Iterator[Batch]:
    """This process's part of the given steps' batches, made ahead; each hangs on its step only."""
    queue: Queue[Batch | Exception] = Queue(maxsize=3)
    process, world = place()

    def produce() -> None:
        try:
            for step in steps:
                chosen = chosen_frames(len(frames), recipe.batch, step, recipe.seed)
                rng = np.random.default_rng([recipe.seed, 2, step, process])
                own = np.sort(chosen[process::world])
                queue.put(
                    make_batch(frames, own, tokenizer, rng, recipe.wanted, recipe.without_depth)
                )
        except Exception as error:  # noqa: BLE001 - handed to the consumer, which raises it
            queue.put(error)

    threading.Thread(target=produce, daemon=True).start()
    for _ in steps:
        item = queue.get()
        if isinstance(item, Exception):
            raise item
        yield item


def train_language(
    model: DepthEncodedLlava,
    tokenizer: PreTrainedTokenizerFast,
    frames: TrainingFrames,
    see: Callable[[np.ndarray], torch.Tensor],
    recipe: Recipe,
    out: Path,
    extra: nn.Module | None = None,
) -> None:
    """Train projector and language model in place; goes on from `out`/language.state if there.

    Args:
        see: indices of frames (B,) -> features (B, 144, D) float32 of the tower.
        extra: (model, indices of frames (B,)) -> embeddings (B, E, D) that follow the picture's.
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
    others += readout.parameters()
    members = optimisers(matrices, others, recipe.rate * MATRIX_RATE, recipe.rate * RATE)
    process, _ = place()
    state, modules = out / "language.state", {"model": model, "readout": readout}
    done, steps = load_state(state, modules, members), recipe.steps
    words = {
        "category": torch.tensor([word_id(tokenizer, word) for word in CATEGORIES]),
        "colour": torch.tensor([word_id(tokenizer, word) for word in COLOURS]),
    }
    with Journal(out / "language.jsonl", "language", steps, done, quiet=process > 0) as journal:
        batches = _prefetched(frames, tokenizer, range(done, steps), recipe)
        for step, batch in enumerate(batches, start=done):
            set_rate(members, cosine(step, steps, min(WARMUP, max(1, steps // 8))))
            losses = _losses(model, readout, batch, frames, see(batch.frames), words)
            loss = torch.stack([_WEIGHTS[name] * losses[name] for name in _WEIGHTS]).sum()
            loss.backward()
            average_gradients([*matrices, *others])
            nn.utils.clip_grad_norm_([*matrices, *others], 1.0)
            for member in members:
                member.step()
                member.zero_grad()
            journal.step(losses)
            if process == 0 and (step + 1) % SAVE_EVERY == 0:
                save_state(state, modules, members, step + 1)
    if process == 0:
        save_state(state, modules, members, steps)
