"""One encoded frame answers many questions, each independent of the others."""

from __future__ import annotations

import dataclasses
import threading
import time

import numpy as np
import pytest
import torch
from transformers.cache_utils import DynamicLayer

from sdvlm_core.answer import SpatialAnswer, Status
from sdvlm_core.engine import LoadOptions, SpatialEngine, load_engine
from sdvlm_core.errors import (
    CheckpointError,
    DepthError,
    IntrinsicsError,
    ModelMemoryError,
    QueryCanceled,
    QueryError,
    QueryTimeout,
)
from sdvlm_core.frame import RgbdFrame
from sdvlm_core.model.checkpoint import load
from sdvlm_core.model.confidence import KINDS
from sdvlm_core.model.generation_options import GenerationOptions, Sampling
from sdvlm_core.session import FrameSession
from tests.tiny_checkpoint import noise_frame as _frame
from tests.tiny_checkpoint import write_tiny_checkpoint


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    directory = write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))
    return load_engine(LoadOptions(str(directory), device="cpu"))


def _limit(tokens: int) -> GenerationOptions:
    return GenerationOptions(max_new_tokens=tokens)


def test_a_second_question_gives_the_logits_of_a_fresh_session(engine):
    used = engine.open(_frame())
    used.ask("How wide is the table?", _limit(8))
    used.ask("A much longer question about something else entirely?", _limit(3))
    again = used.next_token_logits("How tall is the mug?")
    fresh = engine.open(_frame()).next_token_logits("How tall is the mug?")
    torch.testing.assert_close(again, fresh, atol=0, rtol=0)


def test_the_cached_prefix_gives_the_logits_of_one_whole_forward_pass(engine):
    frame, question = _frame(), "How tall is the mug?"
    session = engine.open(frame)
    from sdvlm_core.model.prompt import prefix_ids, question_ids

    checkpoint = engine.checkpoint
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    with torch.inference_mode():
        features = engine.image_features(frame)
        ids = prefix_ids(tokenizer, checkpoint.prompt_template, model.config.image_token_id, [16])
        ids += question_ids(tokenizer, checkpoint.prompt_template, question)
        whole = model(input_ids=torch.tensor([ids]), mm_encoder_outputs={"image": features}).logits[
            0, -1
        ]
    cached = session.next_token_logits(question)
    text = torch.arange(len(whole)) != model.config.image_token_id
    torch.testing.assert_close(cached[text], whole[text], atol=1e-5, rtol=1e-5)


def test_a_warmed_up_engine_answers_as_before(engine):
    before = engine.open(_frame()).next_token_logits("How tall is it?")
    engine.warm_up()
    after = engine.open(_frame()).next_token_logits("How tall is it?")
    torch.testing.assert_close(after, before, atol=0, rtol=0)


def test_options_that_name_a_missing_estimator_are_refused(tmp_path):
    options = LoadOptions(
        str(write_tiny_checkpoint(tmp_path / "tiny")),
        device="cpu",
        depth_estimator=str(tmp_path / "missing"),
    )
    with pytest.raises(CheckpointError, match="missing"):
        load_engine(options)


def test_depth_changes_the_answer_of_a_depth_encoded_model(engine):
    frame = _frame()
    assert frame.depth is not None
    deeper = dataclasses.replace(frame, depth=frame.depth * 1.5)
    first, second = (engine.open(f).next_token_logits("How tall is it?") for f in (frame, deeper))
    assert (first - second).abs().nan_to_num().max() > 1e-4


def test_a_model_with_optional_depth_answers_without_it_and_marks_the_answer(tmp_path):
    checkpoint = load(str(write_tiny_checkpoint(tmp_path)), device="cpu")
    checkpoint.model.config.depth_encoding["optional"] = True
    engine, frame = SpatialEngine(checkpoint), _frame()
    seen, unseen = (
        engine.open(f).ask("How tall is it?", _limit(4))
        for f in (frame, dataclasses.replace(frame, depth=None))
    )
    assert (seen.status, seen.depth_source) == (Status.OK, "sensor")
    assert (unseen.status, unseen.depth_source) == (Status.NO_DEPTH, "")
    # A depth image without a reading is a broken sensor, not a missing one.
    with pytest.raises(DepthError, match="no valid reading"):
        engine.open(dataclasses.replace(frame, depth=np.full((48, 64), np.nan, np.float32)))


def test_a_calibrated_model_returns_calibrated_confidence(tmp_path):
    checkpoint = load(str(write_tiny_checkpoint(tmp_path)), device="cpu")
    curve = {"raw": [0.5], "right": [0.25]}
    checkpoint.model.config.calibration = dict.fromkeys(KINDS, curve)
    answer = SpatialEngine(checkpoint).open(_frame()).ask("How tall is it?", _limit(4))
    assert answer.confidence == 0.25


def test_a_model_without_encoding_answers_without_depth(tmp_path):
    plain = load_engine(
        LoadOptions(str(write_tiny_checkpoint(tmp_path, encoding="none")), device="cpu")
    )
    answer = plain.open(RgbdFrame(_frame().rgb)).ask("How tall is it?", _limit(4))
    assert answer.depth_source == ""


def test_a_frame_without_the_input_of_the_encoding_is_refused(engine):
    frame = _frame()
    with pytest.raises(DepthError, match="depth"):
        engine.open(dataclasses.replace(frame, depth=None))
    with pytest.raises(IntrinsicsError, match="intrinsics"):
        engine.open(dataclasses.replace(frame, intrinsics=None))
    with pytest.raises(DepthError, match="relative"):
        engine.open(dataclasses.replace(frame, depth_source="estimated_relative"))


def test_deadline_and_cancel_stop_between_tokens_and_leave_the_session_usable(engine):
    session = engine.open(_frame())
    before = session.next_token_logits("How tall is it?")
    with pytest.raises(QueryTimeout):
        session.ask("How tall is it?", GenerationOptions(deadline=time.monotonic() - 1))
    canceled = threading.Event()
    canceled.set()
    with pytest.raises(QueryCanceled):
        session.ask("How tall is it?", GenerationOptions(cancel=canceled))
    canceled.clear()
    threading.Timer(0.05, canceled.set).start()
    with pytest.raises(QueryCanceled, match="tokens"):
        session.ask("How tall is it?", GenerationOptions(cancel=canceled, max_new_tokens=100_000))
    torch.testing.assert_close(session.next_token_logits("How tall is it?"), before, rtol=0, atol=0)


def test_an_answer_has_its_provenance_and_timings(engine):
    answer = engine.open(_frame()).ask("How tall is it?", _limit(6))
    assert answer.model_id == engine.model_id
    assert answer.depth_source == "sensor"
    assert 0 < answer.confidence <= 1
    assert answer.timings.encode > 0
    assert answer.timings.prefill > 0


def test_an_empty_question_is_refused(engine):
    with pytest.raises(QueryError):
        engine.open(_frame()).ask("   ")


def _drained(stream) -> tuple[list[str], SpatialAnswer]:
    pieces = []
    while True:
        try:
            pieces.append(next(stream))
        except StopIteration as end:
            return pieces, end.value


def test_a_stream_yields_the_text_in_parts_and_then_the_answer(engine):
    session = engine.open(_frame())
    asked = session.ask("How tall is it?", _limit(12))
    pieces, streamed = _drained(session.stream("How tall is it?", _limit(12)))
    assert len(pieces) > 1
    assert "".join(pieces).strip() == streamed.text == asked.text


def test_a_stream_that_is_closed_early_leaves_the_session_as_it_was(engine):
    session = engine.open(_frame())
    before = session.next_token_logits("How tall is the mug?")
    stream = session.stream("How wide is the table?", _limit(20))
    next(stream)
    session.ask("How tall is the mug?", _limit(2))
    next(stream)
    stream.close()
    after = session.next_token_logits("How tall is the mug?")
    torch.testing.assert_close(after, before, atol=0, rtol=0)


@pytest.mark.parametrize("end", ["close", "throw", "drop"])
def test_a_stream_that_ends_early_frees_the_session_without_the_garbage_collector(
    engine, monkeypatch, end
):
    session = engine.open(_frame())
    held = []  # a second reference: only an explicit close ends the token loop

    def hold(*arguments):
        held.append(FrameSession._together(session, *arguments))
        return held[-1]

    monkeypatch.setattr(session, "_together", hold)
    stream = session.stream("How wide is the table?", _limit(20))
    next(stream)
    if end == "close":
        stream.close()
    elif end == "throw":
        with pytest.raises(KeyError):
            stream.throw(KeyError("the consumer failed"))
    else:
        del stream
    assert held[0].gi_frame is None
    session.ask("How tall is the mug?", _limit(1))


def test_a_stream_can_be_canceled_between_two_parts(engine):
    cancel = threading.Event()
    stream = engine.open(_frame()).stream("How tall is it?", GenerationOptions(cancel=cancel))
    next(stream)
    cancel.set()
    with pytest.raises(QueryCanceled):
        list(stream)


def test_the_templates_stop_text_ends_an_answer_and_is_not_part_of_it(engine):
    checkpoint = engine.checkpoint
    session = engine.open(_frame())
    whole = session.ask("How tall is it?", _limit(12)).text
    stop = whole[4:6]
    form = dataclasses.replace(checkpoint.prompt_template, stop=stop)
    stopped = SpatialEngine(dataclasses.replace(checkpoint, prompt_template=form)).open(_frame())
    expected = whole[: whole.index(stop)].strip()
    assert stopped.ask("How tall is it?", _limit(12)).text == expected
    pieces, answer = _drained(stopped.stream("How tall is it?", _limit(12)))
    assert "".join(pieces).strip() == answer.text == expected


def test_sampling_is_repeatable_by_seed_and_greedy_at_low_temperature(engine):
    session = engine.open(_frame())

    def drawn(temperature: float, seed: int) -> str:
        sampling = Sampling(temperature=temperature, seed=seed)
        return session.ask("How far?", GenerationOptions(max_new_tokens=10, sampling=sampling)).text

    greedy = session.ask("How far?", _limit(10)).text
    assert drawn(2.0, 1) == drawn(2.0, 1)
    assert len({drawn(2.0, seed) for seed in range(4)}) > 1
    assert drawn(1e-6, 3) == greedy
    with pytest.raises(QueryError, match="temperature"):
        Sampling(temperature=0.0)


def test_out_of_memory_is_an_error_and_the_engine_continues(engine, monkeypatch):
    session = engine.open(_frame())
    before = session.ask("How tall is it?", _limit(4)).text

    def greedy(*args: object, **kwargs: object) -> None:
        torch.empty(1 << 58, dtype=torch.uint8)  # the allocator raises the error

    with monkeypatch.context() as patch:
        patch.setattr(engine.checkpoint.model, "forward", greedy)
        with pytest.raises(ModelMemoryError, match="out of memory while answering"):
            session.ask("How tall is it?")
    assert session.ask("How tall is it?", _limit(4)).text == before


@pytest.mark.parametrize("keys_first", [False, True])
def test_a_forward_pass_that_fails_half_way_leaves_the_session_as_it_was(
    engine, monkeypatch, keys_first
):
    session = engine.open(_frame())
    before = session.next_token_logits("How tall is it?")
    layers, extended = len(session.decoder.prefix.cache.layers), []

    def greedy(layer: DynamicLayer, keys: torch.Tensor, *values: object, **kw: object) -> object:
        extended.append(layer)
        if len(extended) < layers:
            return update(layer, keys, *values, **kw)
        if keys_first:
            layer.keys = torch.cat([layer.keys, keys], -2)
        raise torch.OutOfMemoryError("out of memory in the last decoder layer")

    update = DynamicLayer.update
    with monkeypatch.context() as patch:
        patch.setattr(DynamicLayer, "update", greedy)
        with pytest.raises(ModelMemoryError, match="decoder layer"):
            session.ask("How tall is it?")
    assert len(extended) == layers
    torch.testing.assert_close(session.next_token_logits("How tall is it?"), before, rtol=0, atol=0)


def test_text_that_is_no_answer_to_the_asked_number_has_the_status_no_answer(engine):
    session = engine.open(_frame())
    answer = session.ask("How tall is the mug?", _limit(6))
    assert answer.measurements == ()
    assert answer.status is Status.NO_ANSWER
    assert answer.why_none
    assert session.ask("What do you see?", _limit(6)).status is Status.OK
