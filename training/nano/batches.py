"""Questions about training frames -> packed token arrays with their supervision.

Knows the tokenizer, the questions and the image tokens that each of their tokens should attend to.
Every index that a loss needs is computed here, by the process that makes the batch. Does not know
the model or its device.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Encoding
from transformers import PreTrainedTokenizerFast

from sdvlm_core.model.prompt import TEMPLATES
from training.build.phrasing import METRIC, Style, plural
from training.build.questions import MORE_TYPES, TYPES, Question, ask_all, make_view
from training.build.wordings import TRAINED
from training.nano.architecture import CELLS, EOS, PAD, PROMPT
from training.nano.frames import OBJECT_FIELDS, TrainingFrames
from training.simulate.catalogue import CATEGORIES, COLOURS

#: Types in the order of `Batch.kinds`.
KINDS = (*TYPES, *MORE_TYPES)


@dataclass(frozen=True, eq=False)
class Asks:
    """What is asked about each frame: the style, and the number of questions by type."""

    style: Style
    wanted: Mapping[str, int]


#: MSMU's types in few words, many questions a frame: for an ablation with a few frames.
SHORT = Asks(
    METRIC,
    dict.fromkeys(TYPES, 3) | {"existence": 4, "scale_estimation": 4, "absolute_distance": 4},
)
#: nano's questions, more of the types that are hardest to learn.
WIDE = Asks(
    TRAINED,
    dict.fromkeys(KINDS, 1) | {"existence": 3, "scale_estimation": 2, "gap": 4, "count": 2},
)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
#: Loss weight of a digit by its place after the first significant one: late digits are noise.
_DIGIT_WEIGHTS = (1.5, 0.6, 0.15)


#: How a question is put, and the text before it.
_FORM = TEMPLATES[PROMPT]
_BETWEEN = _FORM.between
#: A question with its tokens and those of its answer.
_Piece = tuple[Question, Encoding, Encoding]
#: Tokens of a row, in which questions follow each other.
ROW = 64


@dataclass(frozen=True, eq=False)
class Batch:
    """Questions about B frames, packed in rows.

    Attributes:
        ids, places, segments: (B, R, L) int64: tokens, their position in their question (0 =
            first), and which question of the row they belong to.
        weights: (B, R, L) float32: of the loss on predicting the token there.
        kinds: (B, R, L) int64: index in KINDS, -1 = padding.
        frames: (B,) indices into the data.
        look_at: (M, 3) int64: b, r, l of a token that should attend to `cells`.
        cells: (M, 144) bool.
        by_place: (M,) bool: because it ends a coordinate, not a name.
        facts: (M, 15) float32: the row of the named object, NaN if none or several are named.
        ends: (Q, 3) int64: b, r, l of a question's last token, of those answered by one number.
        values: (Q,) float32: its logarithm.
        shown: (B,) bool: the frame keeps its depth.
        coordinates, valid, focal: those of the frames, (B, 144, K), (B, 144) and (B,).
        owned_at: (O, 2) int64: b and cell of the image tokens that show an object.
        owned_as: (O, 2) int64: its category and its colour.
        answers_at: (A, 3) int64: b, r, l of the tokens that predict one of an answer.
        firsts_at: (F, 3) int64: b, r, l of the first token of each question.
        named_at, placed_at, known_at: int64 indices into M: not by place; by place; with facts
            and not by place.
    """

    ids: torch.Tensor
    places: torch.Tensor
    segments: torch.Tensor
    weights: torch.Tensor
    kinds: torch.Tensor
    frames: npt.NDArray[np.int64]
    look_at: torch.Tensor
    cells: torch.Tensor
    by_place: torch.Tensor
    facts: torch.Tensor
    ends: torch.Tensor
    values: torch.Tensor
    shown: torch.Tensor
    coordinates: torch.Tensor
    valid: torch.Tensor
    focal: torch.Tensor
    owned_at: torch.Tensor
    owned_as: torch.Tensor
    answers_at: torch.Tensor
    firsts_at: torch.Tensor
    named_at: torch.Tensor
    placed_at: torch.Tensor
    known_at: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        """All tensors on a device; `frames` stays."""
        moved = {
            item.name: getattr(self, item.name).to(device, non_blocking=True)
            for item in fields(self)
            if item.name != "frames"
        }
        return replace(self, **moved)


def answer_weights(answer: str, spans: list[tuple[int, int]]) -> list[float]:
    """Loss weight of each token of an answer given the characters it spans."""
    weight = [1.0] * len(answer)
    for number in _NUMBER.finditer(answer):
        place = -1
        for at in range(number.start(), number.end()):
            if answer[at] == ".":
                continue
            if place >= 0 or answer[at] != "0":
                place += 1
            weight[at] = _DIGIT_WEIGHTS[min(max(place, 0), len(_DIGIT_WEIGHTS) - 1)]
    return [max(weight[start:end], default=1.0) for start, end in spans]


def _mentions(question: Question) -> list[tuple[int, list[int]]]:
    """(character after a name, instances it refers to) for every name in the question."""
    found = []
    for name, instance in zip(question.names, question.instances, strict=True):
        if instance:
            found += [
                (match.end(), [instance])
                for match in re.finditer(re.escape(name) + r"\b", question.question)
            ]
    if not found and question.type == "grounding":
        # The position is given, the name is asked: the end of the question attends to it.
        found = [(len(question.question), list(question.instances))]
    return found


def _focus(
    question: Question, frames: TrainingFrames, index: int
) -> list[tuple[int, npt.NDArray[np.bool_], npt.NDArray[np.float32]]]:
    """(character that ends a name, cells (144,) to attend to, facts (15,)) of a question."""
    mentions = _mentions(question)
    single = question.type != "count"
    if not single:
        word = plural(question.names[0])
        end = question.question.index(word) + len(word)
        graph = frames.graphs[index]
        same = [item["instance"] for item in graph if item["category"] == question.names[0]]
        mentions = [(end, same)]
    found = []
    for end, instances in mentions:
        cells = frames.coverage[index][[i - 1 for i in instances]].any(axis=0)
        unknown = np.full(OBJECT_FIELDS, np.nan, np.float32)
        facts = frames.objects[index][instances[0] - 1] if single else unknown
        if cells.any():
            found.append((end, cells, facts))
    return found


def _lay_out(lengths: list[int]) -> list[tuple[int, int]]:
    """(row, first column) of each piece: first row with room, longest pieces first."""
    room: list[int] = []
    places = [(0, 0)] * len(lengths)
    for piece in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        need = lengths[piece]
        row = next((r for r, left in enumerate(room) if left >= need), len(room))
        if row == len(room):
            room.append(ROW)
        places[piece] = (row, ROW - room[row])
        room[row] -= need
    return places


def _lay_out_frame(
    frames: TrainingFrames,
    index: int,
    tokenizer: PreTrainedTokenizerFast,
    rng: np.random.Generator,
    asks: Asks,
) -> list[tuple[_Piece, tuple[int, int]]]:
    """New questions about a frame that fit into a row, each with its (row, first column)."""
    encode = tokenizer.backend_tokenizer.encode_batch
    pixels = int(frames.pixels[index])
    view = make_view(frames.graphs[index], pixels, list(COLOURS), CATEGORIES)
    drawn = ask_all(view, rng, dict(asks.wanted), style=asks.style)
    asked = [replace(q, question=_FORM.words(q.question)) for q in drawn]
    heads = encode([_FORM.around(q.question) for q in asked], add_special_tokens=False)
    tails = encode([q.answer for q in asked], add_special_tokens=False)
    pieces = [piece for piece in zip(asked, heads, tails, strict=True) if _length(piece) <= ROW]
    return list(zip(pieces, _lay_out([_length(piece) for piece in pieces]), strict=True))


def make_batch(
    frames: TrainingFrames,
    chosen: npt.NDArray[np.int64],
    tokenizer: PreTrainedTokenizerFast,
    rng: np.random.Generator,
    asks: Asks = WIDE,
    without_depth: float = 0.0,
) -> Batch:
    """Fresh questions about the chosen frames.

    `without_depth`: the share of frames without depth.
    """
    laid_out = [_lay_out_frame(frames, int(index), tokenizer, rng, asks) for index in chosen]
    rows = max(row for pieces in laid_out for _, (row, _) in pieces) + 1
    shape = (len(chosen), rows, ROW)
    ids, places = np.full(shape, PAD, np.int64), np.zeros(shape, np.int64)
    segments, kinds = np.full(shape, -1, np.int64), np.full(shape, -1, np.int64)
    weights = np.zeros(shape, np.float32)
    look_at, cells, by_place, facts = [], [], [], []
    finals, values = [], []
    for b, pieces in enumerate(laid_out):
        for number, ((question, head, tail), (row, first)) in enumerate(pieces):
            start = first + len(head.ids)
            end = start + len(tail.ids)
            ids[b, row, first : end + 1] = [*head.ids, *tail.ids, EOS]
            places[b, row, first : end + 1] = np.arange(end + 1 - first)
            segments[b, row, first : end + 1] = number
            kinds[b, row, first : end + 1] = KINDS.index(question.type)
            weights[b, row, start : end + 1] = [*answer_weights(question.answer, tail.offsets), 1]
            if isinstance(question.reference, float):
                finals.append((b, row, start - 1))
                values.append(math.log(max(question.reference, 0.01)))
            ends = {span[1] - len(_BETWEEN): place for place, span in enumerate(head.offsets)}
            for stop, mask, fact in _focus(question, frames, int(chosen[b])):
                if stop in ends:
                    look_at.append((b, row, first + ends[stop]))
                    cells.append(mask)
                    by_place.append(stop == len(question.question))
                    facts.append(fact)
    named = {
        "look_at": torch.tensor(look_at, dtype=torch.int64).reshape(-1, 3),
        "cells": torch.from_numpy(np.array(cells, bool).reshape(-1, CELLS * CELLS)),
        "by_place": torch.tensor(by_place, dtype=torch.bool),
        "facts": torch.from_numpy(np.array(facts, np.float32).reshape(-1, OBJECT_FIELDS)),
    }
    packed = {
        "ids": torch.from_numpy(ids),
        "places": torch.from_numpy(places),
        "segments": torch.from_numpy(segments),
        "weights": torch.from_numpy(weights),
        "kinds": torch.from_numpy(kinds),
    }
    return Batch(
        **packed,
        **named,
        frames=chosen,
        ends=torch.tensor(finals, dtype=torch.int64).reshape(-1, 3),
        values=torch.tensor(values, dtype=torch.float32),
        shown=torch.from_numpy(rng.random(len(chosen)) >= without_depth),
        **_of_frames(frames, chosen),
        **_indices(**packed, **named),
    )


def _of_frames(frames: TrainingFrames, chosen: npt.NDArray[np.int64]) -> dict[str, torch.Tensor]:
    """What a batch has of its frames, and the objects that their image tokens show."""
    owner = torch.from_numpy(frames.owner[chosen]).long()
    objects = torch.from_numpy(frames.objects[chosen])
    at = (owner > 0).nonzero()
    shown = objects[at[:, 0], owner[at[:, 0], at[:, 1]] - 1]
    return {
        "coordinates": torch.from_numpy(frames.coordinates[chosen]),
        "valid": torch.from_numpy(frames.valid[chosen]),
        "focal": torch.from_numpy(frames.focal[chosen]),
        "owned_at": at,
        "owned_as": shown[:, :2].long(),
    }


def _indices(
    weights: torch.Tensor,
    places: torch.Tensor,
    segments: torch.Tensor,
    by_place: torch.Tensor,
    facts: torch.Tensor,
    **_: torch.Tensor,
) -> dict[str, torch.Tensor]:
    """The indices that losses need: on a GPU, a mask would make the host wait for its count."""
    known = facts.isfinite().all(dim=1) & ~by_place
    return {
        "answers_at": (weights[:, :, 1:] > 0).nonzero(),
        "firsts_at": ((places == 0) & (segments >= 0)).nonzero(),
        "named_at": (~by_place).nonzero().squeeze(1),
        "placed_at": by_place.nonzero().squeeze(1),
        "known_at": known.nonzero().squeeze(1),
    }


def _length(piece: _Piece) -> int:
    """Tokens of a question, its answer and the end token."""
    return len(piece[1].ids) + len(piece[2].ids) + 1
