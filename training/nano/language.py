"""Stage 2: the language model learns to look, then to measure, on cached tower features.

The loss on answers alone leaves a small model guessing blindly for hours; three extra losses,
gone after training, show it the way:
    align    a token's projected feature scores highest against its own colour and category words;
    look     two heads of an early layer look from an object's name to the object's tokens;
    facts    a linear read-out of the name's state gives the object's position and size.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import Queue

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from sdvlm_core.depth_encoding import encode
from sdvlm_core.model import DepthEncodedLlava, encoding_settings, fuse
from training.msmu.questions import TYPES
from training.nano.batches import Batch, make_batch
from training.nano.frames import TrainingFrames
from training.nano.muon import cosine, optimisers, set_rate, split
from training.nano.packed import packed_forward
from training.nano.progress import Journal
from training.nano.vocabulary import BOS, word_id
from training.simulation.catalogue import CATEGORIES, COLOURS

BATCH, WARMUP = 8, 100
MATRIX_RATE, RATE = 2e-3, 1e-3
LOOK_LAYER, LOOK_HEADS, FACTS_LAYER = 1, 2, 2
#: A coordinate has to be read digit by digit before it can be looked at: later.
PLACE_LAYER = 3
_WEIGHTS = {"answer": 1.0, "align": 0.3, "look": 0.3, "facts": 0.5, "focal": 0.2}
SAVE_EVERY = 250


class _Readout(nn.Module):
    """Linear read-outs used in training only, and what else is trained beside the model."""

    def __init__(self, width: int, extra: nn.Module | None) -> None:
        super().__init__()
        self.extra = extra
        self.facts = nn.Linear(width, 11)
        self.focal = nn.Linear(width, 1)


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
    category = F.cross_entropy(own @ embedding[words["category"]].T * 4, target[:, 0].long())
    colour = F.cross_entropy(own @ embedding[words["colour"]].T * 4, target[:, 1].long())
    return category + colour


def _losses(
    model: DepthEncodedLlava,
    readout: _Readout,
    batch: Batch,
    frames: TrainingFrames,
    features: torch.Tensor,
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
            torch.from_numpy(frames.valid[chosen]),
            settings,
            embedding.shape[1],
        )
    projector = model.model.multi_modal_projector
    with torch.autocast("cpu", torch.bfloat16):
        projected = projector(features[chosen].float()).float()
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
        hidden_of=(FACTS_LAYER,),
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
    losses["look"] = -(mass + 1e-4).log().mean()
    state = packed.hidden[FACTS_LAYER]
    known = batch.facts.isfinite().all(dim=1) & ~batch.by_place
    told = readout.facts(state[b, row, at][known])
    losses["facts"] = F.smooth_l1_loss(told, _fact_targets(batch.facts[known]), beta=0.1)
    first = (batch.places == 0) & (batch.segments >= 0)
    focal = torch.from_numpy(frames.focal[chosen]).log().view(-1, 1, 1).expand(first.shape)
    seen = readout.focal(state[first]).squeeze(-1)
    losses["focal"] = F.smooth_l1_loss(seen, focal[first], beta=0.1)
    with torch.no_grad():
        losses["mass"] = mass[~batch.by_place].mean()
        losses["mass_by_place"] = mass[batch.by_place].mean()
        kind = batch.kinds[:, :, 1:][wanted]
        for index, name in enumerate(TYPES):
            if (kind == index).any():
                losses[f"answer/{name}"] = weighted[kind == index].mean()
    return losses


def _prefetched(
    frames: TrainingFrames,
    tokenizer: PreTrainedTokenizerFast,
    steps: range,
    seed: int,
) -> Iterator[Batch]:
    """Batches of the given steps, one ahead; each depends on (seed, step) only."""
    queue: Queue[Batch | Exception] = Queue(maxsize=3)
    per_epoch = len(frames) // BATCH

    def produce() -> None:
        try:
            for step in steps:
                epoch, place = divmod(step, per_epoch)
                order = np.random.default_rng([seed, 1, epoch]).permutation(len(frames))
                chosen = np.sort(order[place * BATCH : (place + 1) * BATCH])
                rng = np.random.default_rng([seed, 2, step])
                queue.put(make_batch(frames, chosen, tokenizer, rng))
        except Exception as error:  # noqa: BLE001 - handed to the consumer, which raises it
            queue.put(error)

    threading.Thread(target=produce, daemon=True).start()
    for _ in steps:
        item = queue.get()
        if isinstance(item, Exception):
            raise item
        yield item


def _save_state(
    path: Path,
    model: DepthEncodedLlava,
    readout: _Readout,
    members: Sequence[torch.optim.Optimizer],
    step: int,
) -> None:
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"readout.{name}": value for name, value in readout.state_dict().items()}
    for number, member in enumerate(members):
        for index, state in member.state_dict()["state"].items():
            prefix = f"optimiser.{number}.{index}"
            tensors |= {f"{prefix}.{name}": value for name, value in state.items()}
    # Tied weights are one tensor under two names.
    unique = {name: value.clone() for name, value in tensors.items()}
    temporary = path.with_suffix(".tmp")
    save_file(unique, temporary, metadata={"step": json.dumps(step)})
    temporary.replace(path)


def _load_state(
    path: Path,
    model: DepthEncodedLlava,
    readout: _Readout,
    members: Sequence[torch.optim.Optimizer],
) -> int:
    from safetensors import safe_open

    tensors = load_file(path)

    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    model.load_state_dict(part("model."))
    readout.load_state_dict(part("readout."))
    for number, member in enumerate(members):
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in part(f"optimiser.{number}.").items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = value
        member.load_state_dict({**member.state_dict(), "state": state})
    with safe_open(path, "pt") as stored:
        return int(json.loads(stored.metadata()["step"]))


def train_language(
    model: DepthEncodedLlava,
    tokenizer: PreTrainedTokenizerFast,
    frames: TrainingFrames,
    features: torch.Tensor,
    steps: int,
    out: Path,
    seed: int = 0,
    extra: nn.Module | None = None,
    rate: float = 1.0,
) -> None:
    """Train projector and language model in place; goes on from `out`/language.state if there.

    Args:
        features: (N, 144, D) of the tower.
        extra: (model, indices of frames (B,)) -> embeddings (B, E, D) that follow the picture's.
        rate: factor on the learning rates; below 1 to go on from trained weights.
    """
    torch.manual_seed(seed)
    readout = _Readout(model.config.text_config.hidden_size, extra)
    llava = model.model
    matrices, others = (
        [*a, *b]
        for a, b in zip(
            split(llava.language_model), split(llava.multi_modal_projector), strict=True
        )
    )
    others += readout.parameters()
    members = optimisers(matrices, others, rate * MATRIX_RATE, rate * RATE)
    state = out / "language.state"
    done = _load_state(state, model, readout, members) if state.exists() else 0
    words = {
        "category": torch.tensor([word_id(tokenizer, word) for word in CATEGORIES]),
        "colour": torch.tensor([word_id(tokenizer, word) for word in COLOURS]),
    }
    with Journal(out / "language.jsonl", "language", steps, done) as journal:
        batches = _prefetched(frames, tokenizer, range(done, steps), seed)
        for step, batch in enumerate(batches, start=done):
            set_rate(members, cosine(step, steps, min(WARMUP, max(1, steps // 8))))
            losses = _losses(model, readout, batch, frames, features, words)
            loss = torch.stack([_WEIGHTS[name] * losses[name] for name in _WEIGHTS]).sum()
            loss.backward()
            nn.utils.clip_grad_norm_([*matrices, *others], 1.0)
            for member in members:
                member.step()
                member.zero_grad()
            journal.step(losses)
            if (step + 1) % SAVE_EVERY == 0:
                _save_state(state, model, readout, members, step + 1)
    _save_state(state, model, readout, members, steps)
