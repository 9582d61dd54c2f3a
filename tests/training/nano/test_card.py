"""What nano's card and journals say of a training: frames counted once, steps counted once."""

from __future__ import annotations

import json

import pytest
import torch

from sdvlm_core.model.checkpoint import NANO_DIRECTORY
from training.nano.card import model_card
from training.nano.install import _stage
from training.nano.progress import EVERY, Journal


@pytest.fixture
def document():
    return json.loads((NANO_DIRECTORY / "training.json").read_text())


def test_the_card_that_ships_is_what_its_figures_make(document):
    assert (NANO_DIRECTORY / "README.md").read_text() == model_card(document)


def test_frames_of_one_seed_are_not_counted_twice(document):
    first = document["trainings"][0]
    data = {"frames": 1000, "seed": 7, "width": 256}
    document["trainings"] = [first | {"data": data}, first | {"data": data | {"frames": 5000}}]
    assert "Together 5,000 distinct simulated frames" in model_card(document)
    document["trainings"].append(first | {"data": data | {"seed": 8}})
    assert "Together 6,000 distinct simulated frames" in model_card(document)


def test_steps_that_were_lost_and_done_again_are_told_once(tmp_path):
    log = tmp_path / "tower.jsonl"
    for done, until in ((0, 4 * EVERY + 7), (2 * EVERY, 5 * EVERY)):
        with Journal(log, "tower", 5 * EVERY, done) as journal:
            for _ in range(done, until):
                journal.step({"loss": torch.tensor(1.0)})
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["step"] for line in lines] == [EVERY * n for n in (1, 2, 3, 4, 5)]
    assert _stage(log, 1)["steps"] == 5 * EVERY
