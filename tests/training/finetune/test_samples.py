"""Conversations become samples and batches: which tokens have labels, and who gets which."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from sdvlm_core.model.backbones.clip_image import clip_pixels
from sdvlm_core.model.checkpoint import load
from sdvlm_core.model.prompt import TEMPLATES, prefix_ids, question_ids
from tests.tiny_checkpoint import write_tiny_checkpoint
from training.finetune.batches import Collator, batches_of, share_of
from training.finetune.samples import (
    IGNORED,
    Prepared,
    tokens_of,
)
from training.loop.checkpoints import RunCheckpoints, latest
from training.loop.schedule import rate_factor


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("base"), "xyz")


def test_the_scale_of_float16_gradients_is_part_of_the_checkpoint(tmp_path):
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0, growth_interval=2)
    for _ in range(3):
        scaler.scale(model(torch.ones(1, 2)).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    RunCheckpoints(tmp_path, model, optimizer, scaler, {}, 0).save(3)
    again = torch.amp.GradScaler("cpu")
    RunCheckpoints(tmp_path, model, optimizer, again, {}, 0).restore(latest(tmp_path))
    assert again.state_dict() == scaler.state_dict()
    assert again.get_scale() == 1024


TURNS = (("How tall is it?", "0.25 m."), ("Which one?", "The mug."), ("Why?", "Because."))


@pytest.mark.parametrize("template", ["raw", "vicuna_v1"])
def test_only_answers_have_labels_and_a_conversation_begins_as_the_engine_asks(base, template):
    tokenizer, form = load(str(base)).tokenizer, TEMPLATES[template]
    ids, labels, lost = tokens_of(tokenizer, form, TURNS, 4, [16], 5000)
    assert lost == 0
    asked = prefix_ids(tokenizer, form, 4, [16]) + question_ids(tokenizer, form, TURNS[0][0])
    assert ids[: len(asked)] == asked
    learnt = tokenizer.decode([label for label in labels if label != IGNORED])
    end = tokenizer.eos_token
    assert learnt == f"0.25 m.{end}The mug.{end}Because.{end}"
    assert all(label in (IGNORED, token) for label, token in zip(labels, ids, strict=True))


def test_turns_that_do_not_fit_are_left_out_whole(base):
    tokenizer, form = load(str(base)).tokenizer, TEMPLATES["raw"]
    whole = len(tokens_of(tokenizer, form, TURNS, 4, [16], 5000)[0])
    ids, labels, lost = tokens_of(tokenizer, form, TURNS, 4, [16], whole - 1)
    assert lost == 1
    assert (ids, labels, 0) == tokens_of(tokenizer, form, TURNS[:2], 4, [16], 5000)


def test_every_process_gets_its_part_of_the_same_batches():
    lengths = np.random.default_rng(0).integers(10, 500, 101).tolist()
    batches = batches_of(lengths, 8, seed=3, epoch=1)
    assert len(batches) == 12
    assert len({number for members in batches for number in members}) == 96
    assert batches == batches_of(lengths, 8, seed=3, epoch=1) != batches_of(lengths, 8, 3, 2)
    for members in batches:
        shares = [share_of(members, process, 3, 2) for process in range(3)]
        assert len({len(share) for share in shares}) == 1
        assert sorted(n for share in shares for part in share for n in part) == sorted(members)
    spread = np.mean([np.ptp([lengths[n] for n in members]) for members in batches])
    assert spread < 0.5 * np.ptp(lengths)


def test_a_prepared_image_equals_the_input_of_the_tower_in_the_engine(base):
    rgb = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    empty = np.zeros((4, 3), np.float32)
    ids = np.array([1, 2], np.int64)
    sample = Prepared(ids, ids, rgb, empty, np.ones(4, bool))
    checkpoint = load(str(base))
    pixels = Collator.of(checkpoint)([sample]).images["pixel_values"][0].numpy()
    side = checkpoint.model.config.vision_config.image_size
    np.testing.assert_array_equal(pixels, clip_pixels(rgb, side))


def test_rates_rise_then_fall_to_zero():
    factors = [rate_factor(step, 100, 3, decay_from=3) for step in range(100)]
    assert factors[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert all(a >= b for a, b in pairwise(factors[3:]))
    assert factors[-1] < 0.01


def test_the_grid_of_a_tiny_model_is_what_the_data_was_prepared_for(base):
    assert load(str(base)).backbone.image_pieces(48, 64) == [16]
