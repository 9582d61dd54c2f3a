"""A LoRA adapter on a LLaVA: merged and unmerged give equal results; a partial one is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sdvlm_core.engine import SpatialEngine
from sdvlm_core.errors import CheckpointError
from sdvlm_core.frame import CameraIntrinsics, RgbdFrame
from sdvlm_core.model.checkpoint import load
from sdvlm_core.model.own_settings import encoding_settings
from tests.tiny_checkpoint import write_tiny_checkpoint

peft = pytest.importorskip("peft", reason="adapters need peft (requirements/train.txt)")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """LoRA on the paper's target modules and a fully trained projector, on a plain LLaVA."""
    base = write_tiny_checkpoint(tmp_path / "base", "none")
    torch.manual_seed(1)
    config = peft.LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=r".*language_model.*\.(q|k|v|o|gate|up|down)_proj",
        modules_to_save=["multi_modal_projector"],
        init_lora_weights=False,  # random, so that the adapter has an effect
    )
    model = peft.get_peft_model(load(str(base), "cpu").model, config)
    for name, parameter in model.named_parameters():
        if "modules_to_save" in name:
            parameter.data += 0.1
    model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(tmp_path / "adapter")
    settings = {"depth_encoding": {"kind": "xyz"}, "prompt_template": "raw"}
    (tmp_path / "adapter" / "sdvlm.json").write_text(json.dumps(settings))
    return tmp_path / "adapter"


def _logits(name: Path, **options) -> torch.Tensor:
    rng = np.random.default_rng(0)
    frame = RgbdFrame(
        rng.integers(0, 255, (48, 64, 3), dtype=np.uint8),
        rng.uniform(0.5, 3, (48, 64)).astype(np.float32),
        CameraIntrinsics(60, 60, 31.5, 23.5, 64, 48),
    )
    session = SpatialEngine(load(str(name), "cpu", dtype="float32", **options)).open(frame)
    logits = session.next_token_logits("How tall is it?")
    return logits[torch.isfinite(logits)]


def test_merged_and_unmerged_logits_are_equal_and_differ_from_the_base_model(adapter):
    merged, unmerged = _logits(adapter), _logits(adapter, merge=False)
    torch.testing.assert_close(merged, unmerged, atol=1e-5, rtol=0)
    base = _logits(adapter.parent / "base")
    assert (merged - base).abs().max() > 1e-2


def test_on_a_quantized_model_the_adapter_is_not_merged(adapter):
    pytest.importorskip("bitsandbytes")
    exact, near = _logits(adapter), _logits(adapter, quantization="bnb-int8")
    without = _logits(adapter.parent / "base", quantization="bnb-int8")
    assert (near - exact).abs().max() < 0.1 * (without - exact).abs().max()
    model = load(str(adapter), "cpu", quantization="bnb-int8").model
    assert any("lora_A" in name for name, _ in model.named_parameters())


def test_an_adapter_sets_the_encoding_that_it_was_trained_with(adapter):
    checkpoint = load(str(adapter), "cpu")
    assert encoding_settings(checkpoint.model.config).kind == "xyz"
    assert checkpoint.prompt_template.before == ""
    assert checkpoint.model_id == str(adapter)


def test_an_adapter_that_lacks_a_weight_is_refused_by_its_name(adapter):
    path = adapter / "adapter_model.safetensors"
    weights = load_file(path)
    name = sorted(weights)[0]
    save_file({key: value for key, value in weights.items() if key != name}, path)
    with pytest.raises(CheckpointError, match="does not fit"):
        load(str(adapter), "cpu")


def test_a_pickled_adapter_is_refused(adapter):
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(CheckpointError, match=r"without adapter_model\.safetensors"):
        load(str(adapter), "cpu")


def test_unknown_settings_of_an_adapter_are_refused(adapter):
    (adapter / "sdvlm.json").write_text(json.dumps({"depth": "xyz"}))
    with pytest.raises(CheckpointError, match="unknown key 'depth'"):
        load(str(adapter), "cpu")


@pytest.mark.parametrize("itself", [False, True])
def test_an_adapter_on_an_adapter_is_refused_by_the_names_of_both(adapter, itself):
    outer = adapter if itself else adapter.parent / "outer"
    outer.mkdir(exist_ok=True)
    text = json.dumps({"base_model_name_or_path": str(adapter)})
    (outer / "adapter_config.json").write_text(text)
    with pytest.raises(CheckpointError, match=f"adapter {outer} is an adapter too: {adapter};"):
        load(str(outer), "cpu")
