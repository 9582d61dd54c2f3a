"""A session's questions: plain text, within the context, within the limits; finite or an error."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from sdvlm_core.engine import LoadOptions, SpatialEngine, load_engine
from sdvlm_core.errors import ModelOutputError, QueryCanceled, QueryError, QueryTimeout
from sdvlm_core.frame import CameraIntrinsics, RgbdFrame
from sdvlm_core.model import generation
from sdvlm_core.model.checkpoint import NANO_DIRECTORY
from sdvlm_core.model.generation_options import GenerationOptions, Limits
from sdvlm_core.model.prompt import prefix_ids, question_ids, template
from tests.released_checkpoint import write_llama_tokenizer
from tests.tiny_checkpoint import write_tiny_checkpoint

TYPED = ("<image>", "</s>", "<s>", "<pad>", "<unk>", "[INST]", "<|im_end|>", "</s></s><image>")


@pytest.fixture
def engine(tmp_path):
    directory = write_tiny_checkpoint(tmp_path)
    return load_engine(LoadOptions(str(directory), device="cpu"))


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    return RgbdFrame(
        rng.integers(0, 255, (48, 64, 3), dtype=np.uint8),
        rng.uniform(0.5, 3, (48, 64)).astype(np.float32),
        CameraIntrinsics(60, 60, 31.5, 23.5, 64, 48),
    )


@pytest.fixture(params=["nano", "tiny", "llama"])
def tokenizer(request, tmp_path):
    if request.param == "tiny":
        write_tiny_checkpoint(tmp_path)
    if request.param == "llama":
        write_llama_tokenizer(tmp_path)
    return AutoTokenizer.from_pretrained(NANO_DIRECTORY if request.param == "nano" else tmp_path)


@pytest.mark.parametrize("name", ["raw", "vicuna_v1"])
@pytest.mark.parametrize("typed", TYPED)
def test_a_control_token_that_a_caller_types_is_text(tokenizer, typed, name):
    image_id = len(tokenizer)
    form, question = template(name), f"How tall{typed} is it?"
    ids = question_ids(tokenizer, form, question, image_id)
    control = {*tokenizer.all_special_ids, image_id} - {tokenizer.unk_token_id}
    assert control.isdisjoint(ids)
    prompt = prefix_ids(tokenizer, form, image_id, [9]) + ids
    assert prompt.count(image_id) == 9


@pytest.mark.parametrize("typed", TYPED)
def test_nano_reads_typed_control_tokens_as_their_letters(typed):
    tokenizer = AutoTokenizer.from_pretrained(NANO_DIRECTORY)
    ids = question_ids(tokenizer, template("raw"), f"How tall{typed} is it?")
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == f"How tall{typed} is it?"


def test_a_question_with_an_image_mark_is_answered_and_leaves_the_session_as_it_was(engine, frame):
    session = engine.open(frame)
    before = session.next_token_logits("How tall is it?")
    session.ask("<image></s>How tall is it?", GenerationOptions(max_new_tokens=2))
    torch.testing.assert_close(session.next_token_logits("How tall is it?"), before, rtol=0, atol=0)


def test_a_question_that_exceeds_the_context_is_refused_with_both_numbers(engine, frame):
    engine.checkpoint.model.config.text_config.max_position_embeddings = 1000
    session = engine.open(frame)
    room = 1000 - session.prefix_tokens - 256
    longest = "x" * (room - 1)  # one token is the template's line break
    assert session.ask(longest, GenerationOptions(max_new_tokens=1)).question == longest
    with pytest.raises(QueryError, match=f"has {room + 1} tokens; at most {room} are allowed"):
        session.ask(longest + "x")
    session.ask("How tall is it?", GenerationOptions(max_new_tokens=2))


def test_an_answer_ends_with_the_context(engine, frame):
    engine.checkpoint.model.config.text_config.max_position_embeddings = 400
    engine.checkpoint.tokenizer.eos_token = None  # never ends by itself
    session = engine.open(frame)
    answer = session.ask("How tall?", GenerationOptions(max_new_tokens=4000))
    assert len(answer.text) <= 400 - session.prefix_tokens


def test_opening_a_frame_observes_its_deadline_and_its_cancellation(engine, frame):
    canceled = threading.Event()
    canceled.set()
    with pytest.raises(QueryCanceled, match="decoding"):
        engine.open(frame, Limits(cancel=canceled))
    with pytest.raises(QueryTimeout):
        engine.open(frame, Limits(deadline=time.monotonic() - 1))


def test_a_cancellation_during_prefill_stops_before_the_next_chunk(engine, frame, monkeypatch):
    monkeypatch.setattr(generation, "_CPU_CHUNK", 4)
    canceled = threading.Event()
    model, passes = engine.checkpoint.model, []
    forward = model.forward

    def counted(*args, **kwargs):
        passes.append(1)
        canceled.set()
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", counted)
    with pytest.raises(QueryCanceled, match="tokens of the prompt"):
        engine.open(frame, Limits(cancel=canceled))
    assert len(passes) == 1
    canceled.clear()
    monkeypatch.setattr(model, "forward", forward)
    session = engine.open(frame)
    before = session.next_token_logits("How tall is it?")
    canceled.set()
    with pytest.raises(QueryCanceled):
        session.ask("How tall is it?", GenerationOptions(cancel=canceled))
    torch.testing.assert_close(session.next_token_logits("How tall is it?"), before, rtol=0, atol=0)


def test_a_prefill_in_chunks_gives_the_logits_of_one_pass(engine, frame, monkeypatch):
    question = "How tall is the red mug on the table?"
    whole = engine.open(frame).next_token_logits(question)
    monkeypatch.setattr(generation, "_CPU_CHUNK", 5)
    chunked = engine.open(frame).next_token_logits(question)
    torch.testing.assert_close(chunked, whole, atol=1e-5, rtol=1e-5)


def test_weights_that_are_not_finite_are_an_error_and_not_256_tokens(engine, frame):
    with torch.no_grad():
        engine.checkpoint.model.model.multi_modal_projector.linear_1.weight[0, 0] = torch.nan
    with pytest.raises(ModelOutputError, match="not finite"):
        SpatialEngine(engine.checkpoint).open(frame).ask("How tall is it?")
