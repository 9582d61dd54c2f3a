"""Fine-tuning of every backbone: batches, what learns, and the result as it is loaded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sdvlm_core.engine import SpatialEngine
from sdvlm_core.frame import CameraIntrinsics, RgbdFrame
from sdvlm_core.language.question import Dialect
from sdvlm_core.model.backbones import backbone_for
from sdvlm_core.model.backbones.contract import ImageAttention
from sdvlm_core.model.checkpoint import Checkpoint, load
from sdvlm_core.model.depth_encoding import EncodingSettings, pool
from sdvlm_core.model.own_settings import encoding_settings
from sdvlm_core.model.prompt import TEMPLATES, further_ids, prefix_ids, question_ids
from tests.paths import ROOT
from tests.tiny_backbones import (
    IMAGE,
    MODEL_TYPES,
    SMOLVLM,
    tiny_checkpoint,
    tiny_config,
    tiny_tokenizer,
    write_tiny_backbone,
)
from training.finetune.batches import Collator, depth_shown
from training.finetune.config import Config, read_config
from training.finetune.samples import IGNORED, Prepared, tokens_of
from training.finetune.trainee import Trainee, save_trained
from training.finetune.trainer import train
from training.loop.checkpoints import trained_tensors
from training.merge import merge
from training.nano.architecture import ENCODING
from training.nano.qwen_style import write_untrained

CONFIGS = ROOT / "training" / "configs"

TURNS = (("How tall is it?", "0.25 m."), ("Which one?", "The mug."), ("Why?", "Because."))
#: Frames of one and of several tiles, with different numbers of tokens.
SIZES = ((60, 90), (120, 64), (50, 50))
LORA = Config(
    "base", "data", "out", lora_rank=4, lora_alpha=8, lora_dropout=0.0, lora_rate=0.05,
    projector_rate=0.05, dtype="float32", gradient_checkpointing=False,
)  # fmt: skip


def frame_of(height: int, width: int) -> RgbdFrame:
    """Smooth noise with depth, a part of which has no reading."""
    rng = np.random.default_rng(height)
    rgb = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
    depth = rng.uniform(0.5, 3, (height, width)).astype(np.float32)
    depth[: height // 3, : width // 3] = np.nan
    return RgbdFrame(rgb, depth, CameraIntrinsics(80, 80, width / 2, height / 2, width, height))


def sample_of(checkpoint: Checkpoint, height: int, width: int, turns=TURNS) -> Prepared:
    """A sample as it is prepared for training; one turn where a model takes no more."""
    backbone, frame = checkpoint.backbone, frame_of(height, width)
    if backbone.attention is ImageAttention.PROMPT:
        turns = turns[:1]
    ids, labels, _ = tokens_of(
        checkpoint.tokenizer,
        checkpoint.prompt_template,
        turns,
        checkpoint.model.config.image_token_id,
        backbone.image_pieces(height, width),
        10_000,
    )
    settings = encoding_settings(checkpoint.model.config)
    pixels = backbone.token_pixels(height, width)
    depth = pool(frame.depth, frame.intrinsics, settings, pixels)
    whole = np.array(ids, np.int64), np.array(labels, np.int64)
    return Prepared(*whole, frame.rgb, depth.coordinates, depth.valid)


@pytest.fixture(params=MODEL_TYPES)
def checkpoint(request) -> Checkpoint:
    return tiny_checkpoint(request.param)


def test_a_batch_has_the_losses_of_its_samples_alone(checkpoint):
    samples = [sample_of(checkpoint, *size, turns=TURNS[at:]) for at, size in enumerate(SIZES)]
    assert len({len(one.ids) for one in samples}) == 3
    trainee, collate = Trainee(checkpoint, LORA), Collator.of(checkpoint)
    alone = [trainee(collate([one])) for one in samples]
    together = trainee(collate(samples))
    torch.testing.assert_close(together, sum(alone), atol=1e-4, rtol=1e-6)
    # And the same gradient.
    together.backward(retain_graph=True)
    gradients = [p.grad.clone() for p in trainee.parameters() if p.requires_grad]
    trainee.zero_grad()
    sum(alone).backward()
    trained = [p for p in trainee.parameters() if p.requires_grad]
    assert any(one.abs().max() > 0 for one in gradients)
    for gradient, parameter in zip(gradients, trained, strict=True):
        torch.testing.assert_close(gradient, parameter.grad, atol=1e-4, rtol=1e-3)


def test_the_first_answer_of_a_sample_has_the_probability_it_has_in_a_session(checkpoint):
    """The prompt, positions, attention and depth code of training are those of the engine."""
    size, (question, _) = SIZES[0], TURNS[0]
    sample = sample_of(checkpoint, *size, turns=TURNS[:1])
    first = int((sample.labels != IGNORED).argmax())
    labels = np.full_like(sample.labels, IGNORED)
    labels[first] = sample.labels[first]
    trainee = Trainee(checkpoint, LORA).eval()
    batch = Collator.of(checkpoint)([replace(sample, labels=labels)])
    if batch.token_types is not None and checkpoint.backbone.attention is ImageAttention.PROMPT:
        batch.token_types[0, first:] = 1
    with torch.no_grad():
        loss = trainee(batch)
    # Before a step an adapter changes nothing.
    logits = SpatialEngine(checkpoint).open(frame_of(*size)).next_token_logits(question)
    expected = -torch.log_softmax(logits, -1)[sample.labels[first]]
    torch.testing.assert_close(loss, expected, atol=1e-3, rtol=1e-3)


def _trained(checkpoint: Checkpoint, config: Config) -> Trainee:
    """After one step on two samples."""
    trainee = Trainee(checkpoint, config)
    optimizer = torch.optim.AdamW(trainee.groups(config), weight_decay=0.0)
    trainee.train()
    trainee(Collator.of(checkpoint)([sample_of(checkpoint, *size) for size in SIZES])).backward()
    optimizer.step()
    return trainee.eval()


def _weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


#: What the projectors of the families are called, whatever the backbones say.
_PROJECTORS = ("multi_modal_projector", "merger", "connector")


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_changes_adapters_and_projector_and_nothing_else(checkpoint, checkpointing):
    config = replace(LORA, gradient_checkpointing=checkpointing)
    trainee = Trainee(checkpoint, config)
    before = _weights(trainee)
    optimizer = torch.optim.AdamW(trainee.groups(config), weight_decay=0.0)
    trainee.train()
    batch = Collator.of(checkpoint)([sample_of(checkpoint, *size) for size in SIZES])
    for _ in range(2):  # the first matrix of an adapter begins to learn in the second step
        trainee(batch).backward()
        optimizer.step()
        optimizer.zero_grad()
    changed = {name for name, value in _weights(trainee).items() if not value.equal(before[name])}
    adapters = {name for name in before if ".lora_" in name}
    projector = {
        name for name in before
        if ".modules_to_save." in name and any(one in name for one in _PROJECTORS)
    }  # fmt: skip
    assert changed == adapters | projector
    text = checkpoint.model.config.text_config
    layers = {name.split(".layers.")[1].split(".")[0] for name in adapters}
    assert layers == {str(number) for number in range(text.num_hidden_layers)}
    assert not any("vision" in name or "visual" in name for name in adapters)
    assert projector


@pytest.mark.parametrize("model_type", ["llava", "qwen3_vl", "internvl", "gemma3", SMOLVLM])
def test_an_adapter_loads_and_merges_to_the_trained_model(model_type, tmp_path):
    base = write_tiny_backbone(tmp_path / "base", model_type)
    checkpoint = load(str(base), "cpu")
    trainee = _trained(checkpoint, LORA)
    save_trained(trainee, trained_tensors(trainee), str(base), tmp_path / "adapter")
    merge(tmp_path / "adapter", tmp_path / "whole")
    frame = frame_of(*SIZES[0])
    expected = SpatialEngine(checkpoint).open(frame).next_token_logits(TURNS[0][0])
    untrained = SpatialEngine(load(str(base), "cpu")).open(frame).next_token_logits(TURNS[0][0])
    text = expected.isfinite()  # not of the image token
    assert (expected - untrained)[text].abs().max() > 0.01
    for name in ("adapter", "whole"):
        loaded = load(str(tmp_path / name), "cpu")
        assert loaded.dialect is Dialect.MSMU
        assert loaded.prompt_template == checkpoint.prompt_template
        assert loaded.backbone == checkpoint.backbone
        logits = SpatialEngine(loaded).open(frame).next_token_logits(TURNS[0][0])
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0, msg=name)


@pytest.mark.parametrize("model_type", ["llava", "qwen3_vl", SMOLVLM, "gemma3"])
def test_training_in_full_gives_a_whole_model(model_type, tmp_path):
    base = write_tiny_backbone(tmp_path / "base", model_type)
    checkpoint = load(str(base), "cpu")
    before = _weights(checkpoint.model)
    trainee = _trained(checkpoint, replace(LORA, lora_rank=0, lora_rate=1e-3))
    changed = {
        name for name, value in checkpoint.model.named_parameters() if not value.equal(before[name])
    }
    for part in ("vis", "embed_tokens", "layers.1.mlp", *_PROJECTORS):
        assert any(part in name for name in changed) == any(part in name for name in before), part
    # A tower's layers behind the one whose features are taken have no gradient.
    assert len(changed) > 0.7 * len(before)
    save_trained(trainee, trained_tensors(trainee), str(base), tmp_path / "model")
    loaded = load(str(tmp_path / "model"), "cpu")
    assert (loaded.dialect, loaded.backbone) == (Dialect.MSMU, checkpoint.backbone)
    for (name, value), other in zip(
        checkpoint.model.named_parameters(), loaded.model.parameters(), strict=True
    ):
        assert value.equal(other), name


# Turns.


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_a_conversation_begins_as_the_engine_asks_and_its_answers_have_the_labels(name):
    tokenizer, form = tiny_tokenizer(), TEMPLATES[name]
    ids, labels, _ = tokens_of(tokenizer, form, TURNS, IMAGE, [16], 10_000)
    asked = prefix_ids(tokenizer, form, IMAGE, [16]) + question_ids(tokenizer, form, TURNS[0][0])
    assert ids[: len(asked)] == asked
    assert set(labels[: len(asked)]) == {IGNORED}
    end = form.end or tokenizer.eos_token
    learnt = tokenizer.decode([label for label in labels if label != IGNORED])
    assert learnt == "".join(form.lead + answer + end for _, answer in TURNS)
    assert all(label in (IGNORED, token) for label, token in zip(labels, ids, strict=True))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("raw", "\nHow tall is it?0.25 m.<eos>\nWhich one?The mug.<eos>"),
        (
            "vicuna_v1",
            "\nHow tall is it? ASSISTANT:0.25 m.<eos>USER: Which one? ASSISTANT:The mug.<eos>",
        ),
        (
            "mistral_instruct",
            "\nHow tall is it? [/INST]0.25 m.<eos>[INST] Which one? [/INST]The mug.<eos>",
        ),
        (
            "qwen3_vl",
            "How tall is it?<|im_end|>\n<|im_start|>assistant\n0.25 m.<|im_end|>\n"
            "<|im_start|>user\nWhich one?<|im_end|>\n<|im_start|>assistant\nThe mug.<|im_end|>",
        ),
        (
            "smolvlm",
            "How tall is it?<end_of_utterance>\nAssistant: 0.25 m.<end_of_utterance>\n"
            "User: Which one?<end_of_utterance>\nAssistant: The mug.<end_of_utterance>",
        ),
        (
            "gemma3",
            "\n\nHow tall is it?<end_of_turn>\n<start_of_turn>model\n0.25 m.<end_of_turn>\n"
            "<start_of_turn>user\nWhich one?<end_of_turn>\n<start_of_turn>model\n"
            "The mug.<end_of_turn>",
        ),
        ("paligemma", "How tall is it?\n0.25 m.<eos>"),
    ],
)
def test_further_turns_are_those_of_the_chat_template(name, text):
    tokenizer = tiny_tokenizer()
    turns = TURNS[:1] if name == "paligemma" else TURNS[:2]
    ids, _, _ = tokens_of(tokenizer, TEMPLATES[name], turns, IMAGE, [16], 10_000)
    last = len(ids) - ids[::-1].index(IMAGE)
    assert tokenizer.decode(ids[last:]) == text


def test_every_template_has_a_further_turn_and_the_end_that_its_prompt_has():
    for name, form in TEMPLATES.items():
        assert bool(form.again) == (name != "paligemma"), name
        assert form.closing.startswith(form.end), name
        assert bool(form.end) == bool(form.closing), name


def test_text_that_follows_a_control_token_is_one_text_with_the_question():
    class Words:
        """Two characters a token, so that ids show where a text was cut."""

        all_special_tokens = ("<|im_start|>",)
        all_special_ids = (0,)
        unk_token_id = None

        def encode(self, text, *, add_special_tokens, split_special_tokens=False):
            parts = [text] if split_special_tokens else text.split("<|im_start|>")
            pieces = []
            for number, part in enumerate(parts):
                pieces += [0] if number else []
                pieces += [hash(part[at : at + 2]) for at in range(0, len(part), 2)]
            return pieces

    form, words = TEMPLATES["qwen3_vl"], Words()
    whole = words.encode(form.again + "How tall?", add_special_tokens=False)
    asked = further_ids(words, replace(form, closing=""), "How tall?")
    assert asked == whole


def test_packed_turns_are_refused_where_the_image_sees_the_question(tmp_path):
    base = write_tiny_backbone(tmp_path / "base", "paligemma")
    with pytest.raises(ValueError, match=r"turns: packed is impossible.*turns: single"):
        train(replace(LORA, model=str(base), out=str(tmp_path / "out")))


# The recipes.


def test_the_recipe_for_qwen3_vl_reads_and_bounds_the_image():
    recipe = read_config(CONFIGS / "qwen3_vl_4b_dpe.yaml")
    assert recipe.settings() == EncodingSettings("xyz", gain=0.1, optional=True)
    assert recipe.lora_rate > recipe.projector_rate
    backbone = backbone_for(tiny_config("qwen3_vl"), recipe.preprocessor)
    rows, columns = backbone.grid(3000, 4000)
    cell = backbone.patch * backbone.merge
    assert rows * columns * cell**2 <= recipe.preprocessor["max_pixels"]


@pytest.mark.parametrize("name", ["qwen_style_nano", "qwen_style_nano_nodepth"])
def test_the_recipes_of_the_small_qwen_differ_in_depth_only(name):
    recipe, other = (
        read_config(CONFIGS / f"{name}.yaml"),
        read_config(CONFIGS / "qwen_style_nano.yaml"),
    )
    assert recipe.lora_rank == 0
    free = {"model": "", "out": "", "without_depth": 0.0}
    assert replace(recipe, **free) == replace(other, **free)


@pytest.mark.parametrize("depth", [True, False])
def test_a_small_qwen_is_small_and_asks_about_any_frame(tmp_path, depth):
    encoding = ENCODING if depth else EncodingSettings(kind="none")
    assert write_untrained(tmp_path / "model", encoding) <= 8_000_000
    checkpoint = load(str(tmp_path / "model"), "cpu")
    assert checkpoint.dialect is Dialect.MSMU
    assert encoding_settings(checkpoint.model.config).kind == ("xyz" if depth else "none")
    for height, width in ((192, 256), (480, 640), (720, 960)):
        assert checkpoint.backbone.image_pieces(height, width)[1] == 192
    session = SpatialEngine(checkpoint).open(frame_of(192, 256))
    assert session.next_token_logits("How tall is it?").isfinite().sum() > 400


def test_depth_is_hidden_from_a_share_of_the_steps(tmp_path):
    checkpoint = tiny_checkpoint("qwen3_vl")
    sample = sample_of(checkpoint, *SIZES[0])
    seen = [depth_shown(sample, 0.25, 0, step, 3).valid.any() for step in range(400)]
    assert 0.65 < np.mean(seen) < 0.85
    assert seen == [depth_shown(sample, 0.25, 0, step, 3).valid.any() for step in range(400)]
    assert depth_shown(sample, 0.0, 0, 1, 3) is sample
    features = Trainee(checkpoint, LORA).eval()
    collate, hidden = Collator.of(checkpoint), depth_shown(sample, 1.0, 0, 0, 3)
    checkpoint.model.config.depth_encoding = None
    without = features(collate([sample]))
    checkpoint.model.config.depth_encoding = EncodingSettings("xyz", optional=True).to_mapping()
    assert features(collate([hidden])).equal(without)
    assert not features(collate([sample])).equal(without)
