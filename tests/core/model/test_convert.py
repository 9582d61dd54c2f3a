"""Conversion of the released layout: complete or refused, resumable, small in memory."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, DepthAnythingForDepthEstimation
from typer.testing import CliRunner

from sdvlm_core.cli.app import app
from sdvlm_core.engine import SpatialEngine
from sdvlm_core.errors import CheckpointError
from sdvlm_core.frame import RgbdFrame
from sdvlm_core.model import conversion_plan, convert
from sdvlm_core.model.checkpoint import load
from sdvlm_core.model.depth_encoding import PARITY
from sdvlm_core.model.generation_options import GenerationOptions
from sdvlm_core.model.own_settings import encoding_settings
from tests.released_checkpoint import (
    BLOCKS,
    TOWER_NAME,
    WORDS,
    depth_anything_shapes,
    random_weights,
    released_weights,
    write_released_checkpoint,
)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_released_checkpoint(tmp_path_factory.mktemp("released"))


def _convert(directory: Path, out: Path, **options) -> conversion_plan.Plan:
    plan = conversion_plan.plan(directory, **options)
    convert.write_tokenizer(directory, out)
    convert.write(plan, out)
    return plan


def _without(weights: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in weights.items() if key != name}


def _frame() -> RgbdFrame:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (48, 64, 3)).astype(np.uint8)
    return RgbdFrame(rgb, rng.uniform(0.5, 3, (48, 64)).astype(np.float32))


def test_a_tokenizer_model_is_converted_to_the_same_ids(tmp_path):
    """The tokenizer file of the release, also read by sentencepiece itself for comparison."""
    sentences = [f"The box {n} is {n / 8} m wide, \u00e9." for n in range(200)]
    model = io.BytesIO()
    sentencepiece = pytest.importorskip("sentencepiece")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        vocab_size=300,
        model_type="bpe",
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        pad_id=-1,
        minloglevel=2,
    )
    source = tmp_path / "source"
    source.mkdir()
    (source / "tokenizer.model").write_bytes(model.getvalue())
    convert.write_tokenizer(source, tmp_path / "out")
    ours = AutoTokenizer.from_pretrained(tmp_path / "out")
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    assert (ours.bos_token_id, ours.eos_token_id) == (1, 2)
    for text in (*sentences[:20], "\nHow wide is it?", "a \u6f22 in bytes"):
        assert ours.encode(text, add_special_tokens=False) == theirs.encode(text)
        assert ours.decode(theirs.encode(text)) == text


def test_a_converted_release_loads_and_answers(released, tmp_path):
    _convert(released, tmp_path)
    checkpoint = load(str(tmp_path), "cpu", dtype="float32")
    answer = (
        SpatialEngine(checkpoint)
        .open(_frame())
        .ask("How far?", GenerationOptions(max_new_tokens=8))
    )
    assert answer.depth_source == "sensor"
    stored = load_file(released / "model-00001-of-00003.safetensors")
    ours = checkpoint.model.state_dict()
    key = "model.layers.0.mlp.up_proj.weight"
    all_stored = stored | load_file(released / "model-00002-of-00003.safetensors")
    all_stored |= load_file(released / "model-00003-of-00003.safetensors")
    assert torch.equal(ours["model.language_model.layers.0.mlp.up_proj.weight"], all_stored[key])
    assert torch.equal(ours["lm_head.weight"][:WORDS], all_stored["lm_head.weight"])
    assert not ours["lm_head.weight"][WORDS:].any()


def test_the_embedded_depth_network_keeps_every_layer_scale(released, tmp_path):
    plan = _convert(released, tmp_path)
    assert conversion_plan.describe(plan)["layer_scale_gammas"] == 2 * BLOCKS
    network, report = DepthAnythingForDepthEstimation.from_pretrained(
        tmp_path / convert.DEPTH_DIRECTORY, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    weights = released_weights()
    state = network.state_dict()
    for block in range(BLOCKS):
        for branch in (1, 2):
            theirs = weights[f"depth.pretrained.blocks.{block}.ls{branch}.gamma"]
            ours = state[f"backbone.encoder.layer.{block}.layer_scale{branch}.lambda1"]
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "name",
    [
        "depth.pretrained.blocks.2.ls1.gamma",
        "model.layers.1.self_attn.q_proj.weight",
        f"{TOWER_NAME}encoder.layers.1.mlp.fc2.bias",
        "depth.depth_head.scratch.refinenet4.resConfUnit1.conv1.weight",
    ],
)
def test_a_missing_weight_is_named_and_nothing_is_written(tmp_path, name):
    directory = write_released_checkpoint(
        tmp_path / "released", _without(released_weights(), name), shards=1
    )
    done = CliRunner().invoke(app, ["convert", str(directory), str(tmp_path / "out")])
    assert done.exit_code == 1
    assert f"1 missing: {name}" in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_unknown_weight_is_named(tmp_path):
    weights = released_weights() | {"model.surprise.weight": torch.ones(2)}
    directory = write_released_checkpoint(tmp_path, weights, shards=1)
    with pytest.raises(CheckpointError, match=r"1 unknown: model\.surprise\.weight"):
        conversion_plan.plan(directory)


@pytest.mark.parametrize("revision", ["old", "new"])
def test_the_unused_depth_projector_of_either_revision_is_ignored_by_name(tmp_path, revision):
    weights = released_weights(revision)
    directory = write_released_checkpoint(tmp_path, weights, shards=1)
    ignored = conversion_plan.plan(directory).ignored
    dead = sorted(name for name in weights if name.startswith("depth_projector."))
    assert dead
    assert set(dead) <= set(ignored)


def test_layer_scales_zeroed_by_a_defective_loader_are_refused(tmp_path):
    name = "depth.pretrained.blocks.0.ls2.gamma"
    weights = released_weights() | {name: torch.zeros(64)}
    directory = write_released_checkpoint(tmp_path / "released", weights, shards=1)
    with pytest.raises(CheckpointError, match=r"blocks\.0\.ls2\.gamma is all zeros"):
        convert.write(conversion_plan.plan(directory), tmp_path / "out")


def test_an_interrupted_conversion_resumes_and_does_not_load_before(released, tmp_path):
    def interrupt(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    plan = conversion_plan.plan(released)
    with pytest.raises(KeyboardInterrupt):
        convert.write(plan, tmp_path, interrupt)
    with pytest.raises(CheckpointError, match="not a complete model"):
        load(str(tmp_path), "cpu")
    first = tmp_path / "model-00001-of-00003.safetensors"
    before = first.stat().st_mtime_ns
    _convert(released, tmp_path)
    assert first.stat().st_mtime_ns == before
    load(str(tmp_path), "cpu")
    assert not list(tmp_path.rglob("*.tmp"))


def test_every_shard_of_an_index_must_exist(released, tmp_path):
    for file in released.iterdir():
        if file.name != "model-00002-of-00003.safetensors":
            os.link(file, tmp_path / file.name)
    with pytest.raises(CheckpointError, match=r"lacks model-00002-of-00003\.safetensors"):
        conversion_plan.plan(tmp_path)


def test_bin_files_are_read_as_weights_only(tmp_path):
    released_dir = tmp_path / "released"
    write_released_checkpoint(released_dir, shards=1)
    for file in released_dir.glob("*.safetensors*"):
        file.unlink()
    torch.save(released_weights(), released_dir / "pytorch_model.bin")
    _convert(released_dir, tmp_path / "out")
    load(str(tmp_path / "out"), "cpu")

    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "trapped"),))

    torch.save({"weight": Trap()}, released_dir / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
        conversion_plan.plan(released_dir)
    assert not (tmp_path / "trapped").exists()


def test_the_mode_is_written_into_the_config(released, tmp_path):
    corrected = conversion_plan.plan(released).llava
    assert encoding_settings(corrected).alignment == "padded"
    assert encoding_settings(corrected).orientation == "direct"  # gt_depth is true
    assert corrected.prompt_template == "vicuna_v1"
    parity = conversion_plan.plan(released, parity=True).llava
    assert encoding_settings(parity) == PARITY
    assert parity.prompt_template == "raw"
    inverse = conversion_plan.plan(released, orientation="inverse").llava
    assert encoding_settings(inverse).orientation == "inverse"


def test_a_dry_run_reports_and_writes_nothing(released, tmp_path):
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["convert", str(released), str(out), "--dry-run", "--json"])
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["image_token_id"] == WORDS
    assert report["layer_scale_gammas"] == 2 * BLOCKS
    assert not out.exists()


def test_loading_the_release_itself_is_refused_with_the_command_to_run(released):
    with pytest.raises(CheckpointError, match="sdvlm convert"):
        load(str(released), "cpu")


def test_a_depth_anything_file_converts_and_a_zeroed_gamma_is_named(tmp_path):
    weights = random_weights(depth_anything_shapes())
    path = tmp_path / "depth_anything_v2.pth"
    torch.save(weights, path)
    convert.convert_depth_anything(path, tmp_path / "relative")
    convert.convert_depth_anything(path, tmp_path / "indoor", metric_range=20)
    network = DepthAnythingForDepthEstimation.from_pretrained(tmp_path / "indoor")
    assert (network.config.depth_estimation_type, network.config.max_depth) == ("metric", 20)
    torch.save(_without(weights, "pretrained.blocks.3.ls2.gamma"), path)
    with pytest.raises(CheckpointError, match=r"missing: pretrained\.blocks\.3\.ls2\.gamma"):
        convert.convert_depth_anything(path, tmp_path / "broken")


def test_the_released_directory_is_never_written_to(released):
    before = sorted(file.name for file in released.iterdir())
    done = CliRunner().invoke(app, ["convert", str(released), str(released)])
    assert done.exit_code == 1
    assert "choose another one" in done.stderr
    assert sorted(file.name for file in released.iterdir()) == before


@pytest.mark.parametrize("linked", [False, True])
def test_a_single_file_is_never_overwritten_by_its_own_conversion(tmp_path, linked):
    source = given = tmp_path / "upstream" / "model.safetensors"
    source.parent.mkdir()
    save_file(random_weights(depth_anything_shapes()), source)
    before = source.read_bytes()
    if linked:
        given = tmp_path / "link.safetensors"
        given.symlink_to(source)
    done = CliRunner().invoke(app, ["convert", str(given), str(source.parent)])
    assert done.exit_code == 1
    assert "choose another one" in done.stderr
    assert source.read_bytes() == before


@pytest.mark.parametrize("content", ["{}", "[]", '{"model": {"type": "BPE"}}', "cut o"])
def test_a_tokenizer_that_does_not_load_is_refused_by_its_directory(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(CheckpointError, match=f"tokenizer in {tmp_path} does not load"):
        convert.write_tokenizer(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_system_error_is_one_json_document_too(released, tmp_path):
    (tmp_path / "file").touch()
    done = CliRunner().invoke(app, ["convert", str(released), str(tmp_path / "file"), "--json"])
    assert done.exit_code == 1
    assert str(tmp_path / "file") in json.loads(done.stdout)["error"]["message"]


def test_a_dry_run_of_a_single_file_is_wrong_usage_not_a_conversion(tmp_path):
    torch.save(random_weights(depth_anything_shapes()), tmp_path / "upstream.pth")
    words = ["convert", str(tmp_path / "upstream.pth"), str(tmp_path / "out"), "--dry-run"]
    assert CliRunner().invoke(app, words).exit_code == 2
    assert not (tmp_path / "out").exists()
