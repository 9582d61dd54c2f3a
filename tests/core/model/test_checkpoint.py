"""Models load from safetensors alone, or are refused with the reason."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from sdvlm_core.errors import CheckpointError
from sdvlm_core.model.checkpoint import load
from tests.tiny_checkpoint import write_tiny_checkpoint


def _edit_config(directory, **changes):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_directory_loads_with_its_encoding_and_template(tmp_path):
    checkpoint = load(str(write_tiny_checkpoint(tmp_path)), device="cpu")
    assert checkpoint.model.config.depth_encoding["kind"] == "xyz"
    assert checkpoint.prompt_template.before == ""
    assert checkpoint.model.dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in checkpoint.model.parameters())


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(tmp_path, name):
    write_tiny_checkpoint(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match=r"missing"):
        load(str(tmp_path), "cpu")


def test_a_missing_weight_is_named(tmp_path):
    write_tiny_checkpoint(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    lost = next(name for name in weights if "multi_modal_projector" in name)
    del weights[lost]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="multi_modal_projector"):
        load(str(tmp_path), "cpu")


def test_an_unknown_encoding_is_refused_at_loading(tmp_path):
    write_tiny_checkpoint(tmp_path)
    _edit_config(tmp_path, depth_encoding={"kind": "polar"})
    with pytest.raises(CheckpointError, match="polar"):
        load(str(tmp_path), "cpu")


def test_weights_that_are_not_safetensors_are_refused(tmp_path):
    write_tiny_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="does not load"):
        load(str(tmp_path), "cpu")


@pytest.mark.parametrize("name", ["/no/such/place", "./nothing", "cpystan/not-downloaded"])
def test_a_missing_model_is_refused_and_not_downloaded(name):
    with pytest.raises(CheckpointError):
        load(name, "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_does_not_exist_is_refused_not_replaced(tmp_path):
    write_tiny_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="CUDA"):
        load(str(tmp_path), device="cuda")


def test_the_older_weight_names_of_llava_load_to_the_same_model(tmp_path):
    ours = load(str(write_tiny_checkpoint(tmp_path / "new", "none")), "cpu").model.state_dict()
    write_tiny_checkpoint(tmp_path / "old", "none", seed=1)
    hub = {
        "model.language_model.": "language_model.model.",
        "lm_head.": "language_model.lm_head.",
        "model.vision_tower.": "vision_tower.vision_model.",
        "model.multi_modal_projector.": "multi_modal_projector.",
    }
    renamed = {}
    for name, value in ours.items():
        prefix = next(prefix for prefix in hub if name.startswith(prefix))
        renamed[hub[prefix] + name.removeprefix(prefix)] = value.contiguous()
    save_file(renamed, tmp_path / "old" / "model.safetensors", metadata={"format": "pt"})
    loaded = load(str(tmp_path / "old"), "cpu").model.state_dict()
    assert loaded.keys() == ours.keys()
    assert all(torch.equal(loaded[name], ours[name]) for name in ours)
