"""The embedded model is small, safe to load, and able to answer offline."""

from __future__ import annotations

import json

import pytest

from sdvlm_core.model.checkpoint import NANO_DIRECTORY, load


def test_nano_is_small_and_uses_the_classes_of_the_large_models():
    checkpoint = load("nano", device="cpu")
    assert checkpoint.model_id == "nano"
    assert checkpoint.model.num_parameters() <= 8_000_000
    assert type(checkpoint.model.model.vision_tower).__name__ == "CLIPVisionModel"
    assert type(checkpoint.model.model.language_model).__name__ == "LlamaModel"
    assert checkpoint.model.config.depth_encoding["kind"] == "xyz"
    weights = NANO_DIRECTORY / "model.safetensors"
    assert weights.stat().st_size <= 16 * 1024 * 1024


def test_nano_comes_with_its_command_and_its_scores():
    card = json.loads((NANO_DIRECTORY / "training.json").read_text())
    commands = [command for training in card["trainings"] for command in training["commands"]]
    assert any("training.nano" in command for command in commands)
    assert card["scores"]["own"]["macro"] > card["scores"]["shuffled_frames"]["macro"]


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".pkl", ".py"])
def test_nano_contains_no_file_that_could_run_code(suffix):
    assert not list(NANO_DIRECTORY.rglob(f"*{suffix}"))
