"""A damaged or hostile model directory is refused in one line, and takes no memory."""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest

from sdvlm_core.errors import CheckpointError
from sdvlm_core.model.checkpoint import load
from sdvlm_core.model.conversion_plan import plan
from tests.released_checkpoint import write_released_checkpoint
from tests.tiny_checkpoint import write_tiny_checkpoint

DEEP = '{"a":' * 100_000 + "1" + "}" * 100_000


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("valid"))


@pytest.fixture
def model(valid, tmp_path):
    return Path(shutil.copytree(valid, tmp_path / "model"))


def _refusal(directory: Path) -> str:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError) as refused:
        load(str(directory), "cpu")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB
    text = str(refused.value)
    assert "\n" not in text
    assert len(text) < 2000
    return text


def _edit(directory: Path, key: str, value: Any) -> None:
    path = directory / "config.json"
    config = part = json.loads(path.read_text())
    *parents, last = key.split(".")
    for name in parents:
        part = part[name]
    part[last] = value
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("vision_config.patch_size", value) for value in (0, -14, "14", 14.5, None, 57, [1])),
        *(("vision_config.image_size", value) for value in (0, -1, 10**9, 8192)),
        *(("vision_config.num_hidden_layers", value) for value in (0, 10**9)),
        *(("text_config.num_hidden_layers", value) for value in (-1, 10**9, 900, 3)),
        *(("text_config.hidden_size", value) for value in (10**9, 60_000, 0)),
        *(("text_config.num_attention_heads", value) for value in (0, -4, 7)),
        *(("text_config.vocab_size", value) for value in (10**12, 4_000_000, -3, 4)),
        *(("text_config.max_position_embeddings", value) for value in (0, "long")),
        *(("text_config.rope_parameters", value) for value in ({"rope_type": "evil"}, 5)),
        *(("image_token_index", value) for value in (10**9, -1, "x")),
        *(("vision_feature_layer", value) for value in (99, "x")),
        *(("text_config", value) for value in (5, {"model_type": "nonsense"})),
        *(("vision_config", value) for value in ([1, 2], {"model_type": ["x"]})),
        ("text_config.rms_norm_eps", "x"),
        ("text_config.hidden_act", "__import__"),
        ("depth_encoding", [1]),
        ("depth_encoding", {"kind": ["xyz"]}),
        *(
            ("depth_encoding", {"kind": "xyz", "gain": gain})
            for gain in ("x", True, 0, 1e5, 10**400)
        ),
        *(("depth_encoding", {key: "false"}) for key in ("optional", "normalize_features")),
        *(("text_config.sliding_window", value) for value in (-1, 0, 1, "x", 64)),
        ("text_config.attention_chunk_size", 64),  # the cache of a Llama would drop tokens
        ("vision_feature_select_strategy", "full"),
        ("prompt_template", ["raw"]),
        ("calibration", [1]),
        ("model_type", ["llava"]),
        ("model_type", "bert"),
        ("quantization_config", {"quant_method": "gptq", "bits": 4}),
        ("dtype", "float3"),
    ],
)
def test_an_impossible_value_in_config_json_is_refused(model, key, value):
    _edit(model, key, value)
    _refusal(model)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("text", [DEEP, "[]", "{}", "", "\0", "[1", '{"version": 5}'])
def test_a_damaged_json_file_is_refused(model, name, text):
    (model / name).write_text(text)
    if name == "tokenizer_config.json":
        # The tokenizer itself is in tokenizer.json; without an end token it does not fit.
        assert "tokenizer" in _refusal(model)
    else:
        _refusal(model)


def test_an_oversized_config_is_refused_unread(model):
    (model / "config.json").write_text(json.dumps({"model_type": "llava", "x": "x" * (1 << 23)}))
    assert "bytes" in _refusal(model)


def test_a_pattern_that_the_tokenizer_cannot_compile_is_refused(model):
    path = model / "tokenizer.json"
    document = json.loads(path.read_text())
    document["pre_tokenizer"]["pattern"] = {"Regex": "(" * 5000 + "a" + ")" * 5000}
    path.write_text(json.dumps(document))
    assert "tokenizer" in _refusal(model)


def test_a_tokenizer_with_more_words_than_the_model_has_rows_is_refused(model):
    path = model / "tokenizer.json"
    document = json.loads(path.read_text())
    document["model"]["vocab"] |= {f"word{index}": 105 + index for index in range(9)}
    path.write_text(json.dumps(document))
    assert "114 words" in _refusal(model)


@pytest.mark.parametrize(
    "content", [b"", bytes(range(64)), (1 << 62).to_bytes(8, "little") + b"{}", b"\xff" * 9]
)
def test_a_damaged_weight_file_is_refused(model, content):
    (model / "model.safetensors").write_bytes(content)
    assert "does not load" in _refusal(model)


@pytest.mark.parametrize("weight_map", [{"a": 5}, {"a": "../../etc/passwd"}, [], 5])
def test_a_damaged_index_is_refused(model, weight_map):
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    _refusal(model)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("num_hidden_layers", value) for value in (10**9, -1, "x", None)),
        *(("num_attention_heads", value) for value in (0, "x")),
        *(("vocab_size", value) for value in (10**12, "x", None, -5)),
        *(("hidden_size", value) for value in (10**9, 0, [])),
        ("rope_theta", "x"),
        ("mm_vision_select_layer", 99),
    ],
)
def test_a_release_with_an_impossible_value_is_not_converted(tmp_path, key, value):
    write_released_checkpoint(tmp_path)
    _edit(tmp_path, key, value)
    with pytest.raises(CheckpointError) as refused:
        plan(tmp_path)
    assert "\n" not in str(refused.value)
