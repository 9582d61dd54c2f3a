"""nano's card and metrics: every frame and every step is counted once."""

from __future__ import annotations

import json

import pytest

from sdvlm_core.model.checkpoint import NANO_DIRECTORY
from training.loop.metrics import STEPS_PER_ENTRY, Averages, MetricsLogger
from training.nano.card import model_card
from training.nano.install import _stage


@pytest.fixture
def document():
    return json.loads((NANO_DIRECTORY / "training.json").read_text())


def test_the_stored_card_equals_the_card_made_from_its_figures(document):
    assert (NANO_DIRECTORY / "README.md").read_text() == model_card(document)


def test_frames_of_one_seed_are_not_counted_twice(document):
    first = document["trainings"][0]
    data = {"frames": 1000, "seed": 7, "width": 256}
    document["trainings"] = [first | {"data": data}, first | {"data": data | {"frames": 5000}}]
    assert "In total 5,000 distinct simulated frames" in model_card(document)
    document["trainings"].append(first | {"data": data | {"seed": 8}})
    assert "In total 6,000 distinct simulated frames" in model_card(document)


def test_steps_that_run_again_after_a_resume_are_logged_once(tmp_path):
    log, every = tmp_path / "tower.jsonl", STEPS_PER_ENTRY
    for done, until in ((0, 4 * every + 7), (2 * every, 5 * every)):
        averages = Averages(done)
        with MetricsLogger(log, "tower", 5 * every, done) as logger:
            for step in range(done, until):
                logger.log(step + 1, averages.add({"loss": 1.0}))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["step"] for line in lines] == [every * n for n in (1, 2, 3, 4, 5)]
    assert [line["loss"] for line in lines] == [1.0] * 5
    assert _stage(log, 1)["steps"] == 5 * every
