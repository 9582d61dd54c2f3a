"""nano on a real vLLM server: the same answers as here, and a code for whatever goes wrong."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from sdvlm_core.answer import Asked, Quantity, SpatialAnswer
from sdvlm_core.engine import LoadOptions, SpatialEngine, load_engine
from sdvlm_core.errors import QueryTimeout, ServerError
from sdvlm_core.model.generation_options import GenerationOptions, Query
from tests.blocks import room_frame
from tests.serving.conftest import Serving

QUESTIONS = [
    "How tall is the red box?",
    "How far is the blue box from the camera?",
    "Is there a pink bottle in the image?",
    "How many boxes are there?",
    "What is the gap between the red box and the blue box?",
    "How wide is the brown table?",
    "Where is the green box?",
    "What is the capital of Italy?",
    "How far apart are the red box and the brown table?",
    "Which is taller, the red box or the blue box?",
]


@pytest.fixture(scope="module")
def frame():
    return room_frame()


def test_ten_questions_have_the_answers_of_a_local_model_and_share_the_frame(
    serving: Serving, served: SpatialEngine, local: SpatialEngine, frame
) -> None:
    here, there = local.open(frame), served.open(frame)
    hits = []
    for question in QUESTIONS:
        before = serving.metric("vllm:prefix_cache_hits_total")
        expected, found = here.ask(question), there.ask(question)
        hits.append(serving.metric("vllm:prefix_cache_hits_total") - before)
        assert found.text == expected.text, question
        assert found.confidence == pytest.approx(expected.confidence, abs=2e-3)
        assert found.measurements == expected.measurements
    # Blocks of 32 tokens: all whole ones of the 145 that the questions share.
    assert min(hits[1:]) >= 128, hits


def test_48_questions_at_once_have_the_answers_that_they_have_alone(
    served: SpatialEngine, local: SpatialEngine, frame
) -> None:
    asked = [QUESTIONS[n % 10] for n in range(48)]
    here = local.open(frame)
    expected = {question: here.ask(question).text for question in QUESTIONS}
    found = served.open(frame).ask_many([Query(question) for question in asked], max_rows=48)
    assert [one.text for one in found] == [expected[question] for question in asked]


def test_a_constrained_answer_has_the_form(served: SpatialEngine, frame) -> None:
    options = GenerationOptions(constrained=True)
    answer = served.open(frame).ask(Asked(Quantity.HEIGHT, ("red box",)), options)
    assert answer.text.startswith('{"value": ')


def test_a_stream_that_is_closed_frees_its_place_on_the_server(
    serving: Serving, served: SpatialEngine, frame
) -> None:
    stream = served.open(frame).stream("How tall is the red box?")
    next(stream)
    stream.close()
    serving.wait_until_idle()


def test_a_deadline_ends_a_question(serving: Serving, served: SpatialEngine, frame) -> None:
    with pytest.raises(QueryTimeout):
        served.open(frame).ask(QUESTIONS[0], GenerationOptions(deadline=time.monotonic() + 0.001))
    serving.wait_until_idle()


def test_a_wrong_key_and_a_wrong_model_are_named(serving: Serving, monkeypatch) -> None:
    with pytest.raises(ServerError, match="has no model 'other'; it has nano"):
        load_engine(LoadOptions("nano", "cpu", server=serving.url, served_model="other"))
    monkeypatch.setenv("SDVLM_SERVER_KEY", "another")
    with pytest.raises(ServerError, match="refuses the key"):
        load_engine(LoadOptions("nano", "cpu", server=serving.url))


def test_two_robots_lose_no_question_when_the_server_is_killed_and_started_again(
    serving: Serving, local: SpatialEngine, frame
) -> None:
    """Every question of both has an answer or an error, and the same engines go on."""
    here = local.open(frame)
    expected = {question: here.ask(question).text for question in QUESTIONS}
    robots = [
        load_engine(LoadOptions("nano", "cpu", "float32", server=serving.url)) for _ in range(2)
    ]
    results: list[list[SpatialAnswer | Exception]] = [[], []]
    halfway, again = threading.Event(), threading.Event()

    def ask(robot: int) -> None:
        session = robots[robot].open(frame)
        for count in range(200):
            if count == 60 and robot == 0:
                halfway.set()
            if count == 120:
                again.wait(300)
            try:
                results[robot].append(session.ask(QUESTIONS[count % 10]))
            except ServerError as error:
                results[robot].append(error)

    threads = [threading.Thread(target=ask, args=(robot,)) for robot in range(2)]
    for thread in threads:
        thread.start()
    assert halfway.wait(300)
    serving.kill()
    time.sleep(2)
    serving.start()
    again.set()
    for thread in threads:
        thread.join(300)
    for robot in robots:
        robot.close()
    for found in results:
        assert len(found) == 200
        for count, one in enumerate(found):
            if isinstance(one, SpatialAnswer):
                assert one.text == expected[QUESTIONS[count % 10]]
        kinds = Counter(isinstance(one, SpatialAnswer) for one in found)
        assert kinds[False] > 0
        assert all(isinstance(one, SpatialAnswer) for one in found[120:])
        print(f"{kinds[True]} answers, {kinds[False]} errors, e.g. {found[119]}")
