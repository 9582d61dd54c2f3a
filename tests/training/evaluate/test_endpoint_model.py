"""A model behind a real HTTP server with faults: what it is shown, and what becomes of replies."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from sdvlm_core.frame import CameraIntrinsics, RgbdFrame
from tests.training.chat_server import BROKEN, chatting
from training.evaluate.chat import ChatOptions, ServerUnusableError, cost_of
from training.evaluate.endpoint_model import depth_picture, depth_table, endpoint_model

QUESTIONS = ("What is the width of the desk?", "How many chairs are there?")
INTRINSICS = CameraIntrinsics(60.0, 61.0, 40.0, 30.0, 80, 60)
FAST = ChatOptions(timeout_s=2.0, retries=3)


def frame(depth=True):
    rgb = np.full((60, 80, 3), (30, 60, 90), np.uint8)
    metres = np.tile(np.linspace(1.0, 3.0, 80, dtype=np.float32), (60, 1))
    metres[:, :10] = np.nan
    return RgbdFrame(rgb, metres if depth else None, INTRINSICS)


def answers_of(chat, store, depth_as="none", options=FAST, asked=None):
    model = endpoint_model(chat.address, "some-model", store, depth_as, options)
    return model(asked or frame(), QUESTIONS)


def test_the_words_of_a_question_and_its_image_are_sent_as_they_are(tmp_path):
    with chatting(lambda _: "It is 1.2 m wide.") as chat:
        width, count = answers_of(chat, tmp_path)
    assert [width.text, width.kind, count.kind] == ["It is 1.2 m wide.", "side", "none"]
    assert chat.prompts() == [*QUESTIONS]
    for (picture,) in chat.pictures():
        assert np.abs(picture.astype(int) - frame().rgb).max() <= 3
    assert {body["model"] for body in chat.bodies} == {"some-model"}
    assert {body["temperature"] for body in chat.bodies} == {0}


def test_depth_is_shown_as_a_second_picture_whose_scale_is_in_the_words(tmp_path):
    with chatting(lambda _: "1 m") as chat:
        answers_of(chat, tmp_path, "picture")
    _, depth = chat.pictures()[0]
    assert depth[30, 15].mean() > depth[30, 45].mean() > depth[30, 75].mean()
    assert depth[30, 4, 2] > depth[30, 4, 0] + 50  # blue where there is no reading
    assert "white is at most 1.25 m" in chat.prompts()[0]
    assert "black at least 3.00 m" in chat.prompts()[0]
    assert "60 x 61 pixels" in chat.prompts()[0]
    assert chat.prompts()[0].endswith(f"\n\n{QUESTIONS[0]}")


def test_depth_is_written_as_a_table_of_metres(tmp_path):
    with chatting(lambda _: "1 m") as chat:
        answers_of(chat, tmp_path, "text")
    (first, *_), prompt = chat.pictures(), chat.prompts()[0]
    assert len(first) == 1
    assert prompt.count("- 1.37 1.62 1.87 2.13 2.38 2.63 2.89") == 6


@pytest.mark.parametrize("depth_as", ["none", "picture", "text"])
def test_a_frame_without_depth_is_asked_about_without_depth(tmp_path, depth_as):
    blind = np.full((60, 80), np.nan, np.float32)
    with chatting(lambda _: "1 m") as chat:
        answers_of(chat, tmp_path, depth_as, asked=frame(depth=False))
        empty = RgbdFrame(frame().rgb + 1, blind, INTRINSICS)
        answers_of(chat, tmp_path, depth_as, asked=empty)
    assert chat.prompts() == [*QUESTIONS, *QUESTIONS]
    assert {len(images) for images in chat.pictures()} == {1}


def test_a_picture_and_a_table_of_flat_depth_are_finite():
    flat = np.full((60, 80), 2.0, np.float32)
    picture, near, far = depth_picture(flat)
    assert (near, far) == (2.0, 2.0)
    assert picture.shape == (60, 80, 3)
    assert depth_table(flat).count("2.00") == 48


def test_confidence_is_that_of_the_deciding_tokens_where_the_server_has_them(tmp_path):
    with chatting(lambda _: "1.2 m") as chat:
        chat.logprobs = [("1", math.log(0.5)), (".", -0.1), ("2", math.log(0.5)), (" m", -3.0)]
        known, _ = answers_of(chat, tmp_path / "known")
        chat.logprobs = []
        unknown, _ = answers_of(chat, tmp_path / "unknown")
        chat.logprobs = [("1", float("nan"))]
        broken, _ = answers_of(chat, tmp_path / "broken")
    assert known.confidence == pytest.approx(0.5)
    assert math.isnan(unknown.confidence)
    assert math.isnan(broken.confidence)
    assert {body["logprobs"] for body in chat.bodies} == {True}


def test_parameters_that_a_server_refuses_are_left_out_and_the_limit_is_renamed(tmp_path):
    with chatting(lambda _: "1 m") as chat:
        chat.refused = ("logprobs", "temperature", "max_tokens")
        answers = answers_of(chat, tmp_path)
    assert [answer.error for answer in answers] == ["", ""]
    last = chat.bodies[-1]
    assert last["max_completion_tokens"] == 512
    assert not {"logprobs", "temperature", "max_tokens"} & set(last)
    assert len(chat.bodies) == 5  # three refusals, then every request is right at once


def test_faults_are_retried_and_a_second_run_asks_nothing_again(tmp_path):
    with chatting(lambda _: "1 m") as chat:
        chat.misbehave = ["429", "503", "cut"]
        first = answers_of(chat, tmp_path)
        sent = len(chat.bodies)
        again = answers_of(chat, tmp_path)
    assert [answer.error for answer in (*first, *again)] == [""] * 4
    assert sent == len(chat.bodies) == 5
    cost = cost_of(tmp_path, prompt_price=2.0, completion_price=10.0)
    assert (cost.replies, cost.prompt_tokens, cost.completion_tokens) == (2, 2000, 400)
    assert cost.cost == pytest.approx(0.008)


def test_a_damaged_reply_on_disk_is_asked_again(tmp_path):
    with chatting(lambda _: "1 m") as chat:
        answers_of(chat, tmp_path)
        for file, text in zip(sorted(tmp_path.glob("*.json")), ("{", "[]"), strict=True):
            file.write_text(text)
        answers_of(chat, tmp_path)
    assert len(chat.bodies) == 4
    assert cost_of(tmp_path).replies == 2


@pytest.mark.parametrize("fault", sorted(BROKEN))
def test_a_malformed_response_is_an_answer_with_a_reason_and_is_not_stored(tmp_path, fault):
    with chatting(lambda _: "1 m") as chat:
        chat.misbehave = [fault]
        bad, good = answers_of(chat, tmp_path)
    assert bad.error.startswith("ChatError: malformed response")
    assert (good.text, good.error) == ("1 m", "")
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_three_failures_in_a_row_end_the_run_with_the_remedy(tmp_path):
    with chatting(lambda _: "1 m") as chat:
        chat.misbehave = ["no text"] * 3
        model = endpoint_model(chat.address, "m", tmp_path, "none", FAST)
        model(frame(), QUESTIONS)
        with pytest.raises(ServerUnusableError, match=r"3 requests in a row.*resumes the run"):
            model(frame(), QUESTIONS)


@pytest.mark.parametrize("status", ["401", "403", "404"])
def test_a_refused_key_or_an_unknown_model_ends_the_run_and_the_key_is_not_shown(
    tmp_path, monkeypatch, status
):
    monkeypatch.setenv("SOME_KEY", "sk-secret")
    with chatting(lambda _: "1 m") as chat:
        chat.misbehave = [status]
        with pytest.raises(ServerUnusableError) as refused:
            answers_of(chat, tmp_path, options=ChatOptions("SOME_KEY", retries=0))
    assert chat.keys == ["Bearer sk-secret"]
    assert "sk-secret" not in str(refused.value)


def test_a_missing_key_is_reported_before_any_request(tmp_path, monkeypatch):
    monkeypatch.delenv("NO_KEY", raising=False)
    with pytest.raises(ServerUnusableError, match="NO_KEY is empty or not set"):
        endpoint_model("http://127.0.0.1:9/v1", "m", tmp_path, "none", ChatOptions("NO_KEY"))


def test_nothing_of_the_key_is_written_to_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sk-secret")
    with chatting(lambda _: "1 m") as chat:
        answers_of(chat, tmp_path, options=ChatOptions("SOME_KEY"))
    stored = [file.read_text() for file in tmp_path.rglob("*") if file.is_file()]
    assert len(stored) == 2
    assert all("sk-secret" not in text and json.loads(text)["text"] == "1 m" for text in stored)
