"""What holds for every backbone: the code lands on its tokens, and sessions share nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sdvlm_core.answer import Asked, Quantity
from sdvlm_core.engine import SpatialEngine
from sdvlm_core.frame import CameraIntrinsics, RgbdFrame
from sdvlm_core.model import generation
from sdvlm_core.model.checkpoint import load
from sdvlm_core.model.coded_features import token_features
from sdvlm_core.model.frame_features import load_encoder
from sdvlm_core.model.generation_options import GenerationOptions, Query
from sdvlm_core.model.prompt import prefix_ids, question_ids
from tests.tiny_backbones import MODEL_TYPES, tiny_checkpoint, write_tiny_backbone

FREE = GenerationOptions(max_new_tokens=6, constrained=False)
WORDS = ("How tall is the mug?", "Why?", "How far apart are the red mug and the blue bowl?")


def a_frame(height: int = 48, width: int = 72, seed: int = 0) -> RgbdFrame:
    rng = np.random.default_rng(seed)
    return RgbdFrame(
        rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        rng.uniform(0.5, 3, (height, width)).astype(np.float32),
        CameraIntrinsics(60, 60, width / 2, height / 2, width, height),
    )


@pytest.fixture(scope="module", params=MODEL_TYPES)
def engine(request) -> SpatialEngine:
    return SpatialEngine(tiny_checkpoint(request.param))


def whole_pass(engine: SpatialEngine, frame: RgbdFrame, question: str) -> torch.Tensor:
    """Logits of the last token of one pass over the whole prompt, as transformers makes it."""
    checkpoint = engine.checkpoint
    model, backbone = checkpoint.model, checkpoint.backbone
    image_id = model.config.image_token_id
    pieces = backbone.image_pieces(frame.height, frame.width)
    ids = prefix_ids(checkpoint.tokenizer, checkpoint.prompt_template, image_id, pieces)
    ids += question_ids(checkpoint.tokenizer, checkpoint.prompt_template, question)
    tokens = torch.tensor([ids])
    is_image = (tokens == image_id).int()
    kind = model.config.model_type
    more: dict[str, Any] = {}
    if kind.startswith("qwen"):
        inputs = backbone.prepare(frame.rgb, torch.device("cpu"))
        grid = inputs["image_grid_thw"]
        more["position_ids"], _ = model.model.get_rope_index(
            tokens, image_grid_thw=grid, mm_token_type_ids=is_image
        )
    if kind == "gemma3":
        more["token_type_ids"] = is_image
    if kind == "paligemma":
        more["token_type_ids"] = torch.zeros_like(is_image)
    with torch.inference_mode():
        features = engine.image_features(frame)
        return model(input_ids=tokens, mm_encoder_outputs={"image": features}, **more).logits[0, -1]


def test_a_question_after_the_cached_prefix_has_the_logits_of_one_whole_pass(engine):
    frame = a_frame()
    session = engine.open(frame)
    for words in WORDS:
        ours, whole = session.next_token_logits(words), whole_pass(engine, frame, words)
        text = torch.isfinite(ours)
        assert text.sum() > 200
        torch.testing.assert_close(ours[text], whole[text], atol=1e-5, rtol=1e-5)


def test_a_prompt_that_is_read_in_parts_has_the_same_logits(engine, monkeypatch):
    frame = a_frame()
    at_once = engine.open(frame).next_token_logits(WORDS[2])
    monkeypatch.setattr(generation, "_CPU_CHUNK", 4)
    in_parts = engine.open(frame).next_token_logits(WORDS[2])
    torch.testing.assert_close(in_parts, at_once, atol=1e-5, rtol=1e-5)


def test_sessions_that_take_turns_do_not_change_each_other(engine):
    first, second = engine.open(a_frame()), engine.open(a_frame(80, 40, seed=1))
    before = [first.next_token_logits(words) for words in WORDS]
    other = [second.next_token_logits(words) for words in WORDS]
    first.ask(WORDS[0], FREE)
    second.ask(WORDS[2], FREE)
    for session, kept in ((first, before), (second, other)):
        for words, logits in zip(WORDS, kept, strict=True):
            torch.testing.assert_close(session.next_token_logits(words), logits, atol=0, rtol=0)


def test_questions_asked_together_get_the_answers_they_get_alone(engine):
    session = engine.open(a_frame())
    together = session.ask_many([Query(words, FREE) for words in (*WORDS, WORDS[0])])
    for words, answer in zip((*WORDS, WORDS[0]), together, strict=True):
        alone = session.ask(words, FREE)
        assert answer.text == alone.text
        assert answer.confidence == pytest.approx(alone.confidence, abs=1e-4)


def test_the_code_is_added_to_the_features_of_its_own_token(engine):
    frame = a_frame()
    model = engine.checkpoint.model
    code = engine.depth_code(frame)
    boxes = engine.checkpoint.backbone.token_boxes(frame.height, frame.width)
    with torch.inference_mode():
        coded = token_features(engine.image_features(frame))
        plain = token_features(engine.image_features(replace(frame, depth=None)))
    assert coded.shape == plain.shape == (len(boxes), model.config.text_config.hidden_size)
    torch.testing.assert_close(coded - plain, code, atol=1e-5, rtol=0)
    shows_nothing = np.isnan(boxes).any(1)
    assert not code[torch.from_numpy(shows_nothing)].any()


def test_depth_that_changes_in_one_place_changes_the_code_of_the_tokens_that_show_it(engine):
    frame = a_frame()
    boxes = engine.checkpoint.backbone.token_boxes(frame.height, frame.width)
    before = engine.depth_code(frame)
    for row, column in ((5, 7), (40, 66), (24, 36)):
        depth = frame.depth.copy()
        depth[row, column] += 1.0
        changed = (engine.depth_code(replace(frame, depth=depth)) != before).any(1).numpy()
        x, y = column + 0.5, row + 0.5
        holds = (boxes[:, 0] <= x) & (x < boxes[:, 2]) & (boxes[:, 1] <= y) & (y < boxes[:, 3])
        assert holds.any()
        np.testing.assert_array_equal(changed, holds)


def test_tokens_without_a_depth_reading_keep_exactly_their_features(engine):
    frame = a_frame()
    depth = frame.depth.copy()
    depth[:, : frame.width // 2] = np.nan
    boxes = engine.checkpoint.backbone.token_boxes(frame.height, frame.width)
    with torch.inference_mode():
        coded = token_features(engine.image_features(replace(frame, depth=depth)))
        plain = token_features(engine.image_features(replace(frame, depth=None)))
    unread = torch.from_numpy(~(boxes[:, 2] > frame.width // 2 + 0.5))
    assert unread.any()
    torch.testing.assert_close(coded[unread], plain[unread], atol=0, rtol=0)
    assert (coded[~unread] != plain[~unread]).any(1).all()


def test_without_an_encoding_the_model_is_the_library_s_own(engine):
    model_type = engine.checkpoint.model_id
    plain = SpatialEngine(tiny_checkpoint(model_type, "none"))
    frame = a_frame()
    inputs = plain.checkpoint.backbone.prepare(frame.rgb, torch.device("cpu"))
    with torch.inference_mode():
        ours = token_features(plain.image_features(frame))
        output = plain.checkpoint.model.get_image_features(**inputs, return_dict=True)
    torch.testing.assert_close(ours, token_features(output), atol=0, rtol=0)
    without_depth = engine.open(replace(frame, depth=None)).next_token_logits(WORDS[0])
    torch.testing.assert_close(
        plain.open(frame).next_token_logits(WORDS[0]), without_depth, atol=0, rtol=0
    )


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_a_saved_model_answers_as_before(tmp_path, model_type):
    checkpoint = load(str(write_tiny_backbone(tmp_path / "model", model_type)), "cpu", "float32")
    made = SpatialEngine(tiny_checkpoint(model_type))
    # transformers reads any tokenizer of a Qwen3.5 as Qwen's, which splits words in its own way.
    loaded = SpatialEngine(replace(checkpoint, tokenizer=made.checkpoint.tokenizer))
    frame = a_frame()
    assert loaded.checkpoint.backbone == made.checkpoint.backbone
    one, other = (engine.open(frame).next_token_logits(WORDS[0]) for engine in (loaded, made))
    torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_image_half_alone_makes_the_features_of_the_whole_model(tmp_path, model_type):
    directory = str(write_tiny_backbone(tmp_path / "model", model_type))
    engine = SpatialEngine(load(directory, "cpu", "float32"))
    encoder, frame = load_encoder(directory, "cpu", "float32"), a_frame()
    with torch.inference_mode():
        whole = engine.image_features(frame)
    torch.testing.assert_close(
        token_features(encoder.features(frame)), token_features(whole), atol=0, rtol=0
    )
    held = sum(parameter.numel() for parameter in encoder.model.get_decoder().parameters())
    assert held < engine.checkpoint.model.get_decoder().get_input_embeddings().weight.numel()


@pytest.mark.parametrize("model_type", ["qwen3_vl", "internvl"])
def test_a_chat_model_answers_a_question_for_one_number_in_json_by_default(model_type):
    session = SpatialEngine(tiny_checkpoint(model_type)).open(a_frame())
    asked = [Asked(Quantity.HEIGHT, ("red mug",)), Asked(Quantity.COUNT, ("mug",))]
    both = session.ask_many([Query(one) for one in (*asked, "Describe the scene.")])
    for one, answer in zip(asked, both, strict=False):
        stated = json.loads(answer.text)
        unit = {"unit"} if one.quantity is Quantity.HEIGHT else set()
        assert set(stated) in ({"value"}, {"value", *unit})
        if stated["value"] is not None and stated.get("unit", "m") == "m":
            assert answer.measurements[0].value == pytest.approx(stated["value"])
    assert not both[2].text.startswith('{"value"')
    free = session.ask(asked[0], replace(FREE, constrained=False))
    assert not free.text.startswith('{"value"')
