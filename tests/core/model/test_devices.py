"""Where a model runs: option values are used as given, and unavailable ones are refused."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from accelerate import infer_auto_device_map
from transformers import LlavaConfig, LlavaForConditionalGeneration

from sdvlm_core.engine import SpatialEngine
from sdvlm_core.errors import CheckpointError
from sdvlm_core.frame import CameraIntrinsics, RgbdFrame
from sdvlm_core.model.checkpoint import load
from sdvlm_core.model.devices import quantization_config, resolve
from tests.tiny_checkpoint import write_tiny_checkpoint

ON_CPU = ["bnb-int8", "bnb-nf4"]


def _frame() -> RgbdFrame:
    rng = np.random.default_rng(0)
    return RgbdFrame(
        rng.integers(0, 255, (48, 64, 3), dtype=np.uint8),
        rng.uniform(0.5, 3, (48, 64)).astype(np.float32),
        CameraIntrinsics(60, 60, 31.5, 23.5, 64, 48),
    )


def _logits(checkpoint) -> torch.Tensor:
    logits = SpatialEngine(checkpoint).open(_frame()).next_token_logits("How tall is it?")
    return logits[torch.isfinite(logits)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return str(write_tiny_checkpoint(tmp_path_factory.mktemp("tiny")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "abacus"}, "abacus"),
        ({"device": "balanced"}, "over at least 2 GPUs; torch finds"),
        ({"device": "cuda:63"}, "cuda:63"),
        ({"dtype": "float8"}, "auto, float32, float16, bfloat16"),
        ({"quantization": "int3"}, "none, bnb-int8, bnb-nf4"),
        ({"attention": "magic"}, "auto, eager, sdpa, flash_attention_2"),
        ({"device": "meta", "quantization": "bnb-int8"}, "cpu and cuda, not on meta"),
    ],
)
def test_unknown_or_missing_choices_are_refused_with_the_alternatives(options, message):
    with pytest.raises(CheckpointError, match=message):
        resolve(**options)


def test_auto_on_the_cpu_is_float32_and_bfloat16_beside_quantized_weights():
    assert resolve("cpu").dtype == torch.float32
    assert resolve("cpu", "float16").dtype == torch.float16
    pytest.importorskip("bitsandbytes")
    assert resolve("cpu", quantization="bnb-int8").dtype == torch.bfloat16


@pytest.mark.parametrize("name", ON_CPU)
def test_a_missing_library_is_named_with_the_command_that_installs_it(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(CheckpointError, match="pip install bitsandbytes"):
        resolve("cpu", quantization=name)


@pytest.mark.parametrize("name", ON_CPU)
def test_quantized_weights_answer_nearly_as_the_full_ones(name):
    pytest.importorskip("bitsandbytes")
    full, quantized = load("nano", "cpu"), load("nano", "cpu", quantization=name)
    logits, expected = _logits(quantized), _logits(full)
    assert not torch.equal(logits, expected)
    least = {"bnb-int8": 0.999, "bnb-nf4": 0.99}[name]
    assert torch.nn.functional.cosine_similarity(logits, expected, dim=0) > least
    assert SpatialEngine(quantized).open(_frame()).ask("How tall is it?").text


@pytest.mark.parametrize("name", ON_CPU)
def test_only_the_language_model_is_quantized(name):
    pytest.importorskip("bitsandbytes")
    model = load("nano", "cpu", quantization=name).model
    whole = load("nano", "cpu", dtype="bfloat16").model

    def kinds(part: str, of: LlavaForConditionalGeneration) -> set[tuple]:
        return {
            (type(module), type(module.weight), module.weight.dtype)
            for module in of.get_submodule(part).modules()
            if isinstance(module, torch.nn.Linear)
        }

    for part in ("model.vision_tower", "model.multi_modal_projector", "lm_head"):
        assert kinds(part, model) == kinds(part, whole), part
    assert not kinds("model.language_model", model) & kinds("model.language_model", whole)


def test_bitsandbytes_settings_for_cuda_are_made_without_a_gpu():
    pytest.importorskip("bitsandbytes")
    cuda = torch.device("cuda")
    four = quantization_config("bnb-nf4", cuda, torch.float16)
    assert (four.load_in_4bit, four.bnb_4bit_quant_type) == (True, "nf4")
    assert four.bnb_4bit_compute_dtype == torch.float16
    assert quantization_config("bnb-int8", cuda, torch.float16).load_in_8bit


def test_the_chosen_attention_is_used_and_gives_the_same_logits(tiny):
    eager, fused = (load(tiny, "cpu", attention=name) for name in ("eager", "sdpa"))
    assert eager.model.model.language_model.config._attn_implementation == "eager"
    torch.testing.assert_close(_logits(eager), _logits(fused), atol=1e-5, rtol=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="flash attention may be here")
def test_attention_that_is_not_installed_is_refused(tiny):
    with pytest.raises(CheckpointError, match=r"(?i)flash"):
        load(tiny, "cpu", attention="flash_attention_2")


def test_distributing_over_gpus_splits_no_layer():
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(LlavaConfig())
    size = model.get_memory_footprint()
    devices = infer_auto_device_map(
        model,
        {0: int(size * 0.6), 1: int(size * 0.6)},
        no_split_module_classes=model._no_split_modules,
    )
    assert set(devices.values()) == {0, 1}
    cut = [name for name in devices if ".layers." in name and name.split(".layers.")[1].count(".")]
    assert not cut
