"""Requests to a model endpoint, with a real HTTP server on this machine."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tests.tiny_checkpoint import write_tiny_checkpoint
from tests.training.build.chat_endpoint import RGB, endpoint_of
from tests.training.chat_server import BROKEN
from training.build.endpoint import EndpointError, Usage, local_model, read_object


def test_an_image_arrives_unchanged_and_sampling_is_off(tmp_path, server):
    endpoint = endpoint_of(server, tmp_path, max_tokens=77)
    assert endpoint("what is this?", (RGB, RGB[:40])) == "heard what is this?"
    body = server.bodies[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("qwen", 0, 77)
    whole, part = server.pictures()[0]
    assert whole.shape == RGB.shape
    assert part.shape == RGB[:40].shape
    assert np.abs(whole.astype(int) - RGB).mean() < 8


def test_a_second_run_sends_no_request(tmp_path, server):
    first = endpoint_of(server, tmp_path)
    answers = [first(prompt, (RGB,)) for prompt in ("one", "two", "one")]
    assert first.usage == Usage(2, 1, 0, 2000, 400, 0.0)
    server.bodies.clear()
    second = endpoint_of(server, tmp_path)
    assert [second(prompt, (RGB,)) for prompt in ("one", "two", "one")] == answers
    assert server.bodies == []
    assert second.usage == Usage(cached=3)


def test_every_change_of_a_request_misses_the_cache(tmp_path, server):
    endpoint_of(server, tmp_path)("one", (RGB,))
    endpoint_of(server, tmp_path)("other", (RGB,))
    endpoint_of(server, tmp_path)("one", (RGB[::-1],))
    endpoint_of(server, tmp_path)("one", (RGB, RGB))
    endpoint_of(server, tmp_path)("one", ())
    endpoint_of(server, tmp_path, model="another")("one", (RGB,))
    endpoint_of(server, tmp_path, max_tokens=3)("one", (RGB,))
    assert len(server.bodies) == 7


@pytest.mark.parametrize(
    "damage", [b"", b'{"text": "he', b"[]", b'{"text": 3}', b"\xff", b"[" * 9999]
)
def test_a_damaged_cache_file_is_requested_again_and_replaced(tmp_path, server, damage):
    answer = endpoint_of(server, tmp_path)("one", ())
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage)
    assert endpoint_of(server, tmp_path)("one", ()) == answer
    assert endpoint_of(server, tmp_path)("one", ()) == answer
    assert len(server.bodies) == 2
    assert list(tmp_path.iterdir()) == [file]


def test_429_is_retried_after_the_time_that_the_server_gives(tmp_path, server):
    server.misbehave, server.retry_after = ["429"], "1"
    endpoint = endpoint_of(server, tmp_path)
    assert endpoint("one", ()) == "heard one"
    # Without the header the second request would come within half a second.
    assert server.times[1] - server.times[0] >= 1.0
    assert (endpoint.usage.requests, endpoint.usage.retries) == (2, 1)


def test_repeated_429_is_an_error_that_is_not_cached(tmp_path, server):
    server.misbehave = ["429"] * 3
    endpoint = endpoint_of(server, tmp_path)
    with pytest.raises(EndpointError, match="429"):
        endpoint("one", ())
    assert (endpoint.usage.requests, endpoint.usage.retries) == (3, 2)
    assert endpoint("one", ()) == "heard one"
    assert endpoint.usage.cached == 0


@pytest.mark.parametrize("fault", ["500", "503", "stall", "cut"])
def test_a_temporary_fault_is_retried(tmp_path, server, fault):
    server.misbehave = [fault]
    endpoint = endpoint_of(server, tmp_path)
    assert endpoint("one", ()) == "heard one"
    assert endpoint.usage.retries == 1


def test_a_server_that_never_answers_times_out(tmp_path, server):
    server.misbehave = ["stall"] * 2
    with pytest.raises(EndpointError, match="timed out"):
        endpoint_of(server, tmp_path, retries=1)("one", ())
    assert len(server.bodies) == 2
    assert not list(tmp_path.iterdir())


def test_no_server_is_an_error(tmp_path, server):
    server.address = "http://127.0.0.1:9/v1"
    with pytest.raises(EndpointError, match="Connection error"):
        endpoint_of(server, tmp_path, retries=0)("one", ())


@pytest.mark.parametrize("fault", BROKEN)
def test_a_malformed_response_is_an_error_that_is_not_cached(tmp_path, server, fault):
    server.misbehave = [fault]
    with pytest.raises(EndpointError, match="malformed response"):
        endpoint_of(server, tmp_path)("one", ())
    assert not list(tmp_path.iterdir())


def test_a_refused_request_is_not_retried_and_does_not_show_the_key(tmp_path, server, monkeypatch):
    monkeypatch.setenv("OUR_KEY", "sk-secret")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-someone-else")
    server.misbehave = ["401"]
    with pytest.raises(EndpointError, match=r"401.*\*\*\*") as raised:
        endpoint_of(server, tmp_path, key_variable="OUR_KEY")("one", ())
    endpoint_of(server, tmp_path)("one", ())
    assert server.keys == ["Bearer sk-secret", "Bearer none"]
    assert "sk-secret" not in str(raised.value)
    assert "sk-secret" not in "".join(file.read_text() for file in tmp_path.iterdir())


def test_requests_obey_the_rate_and_cached_answers_do_not_wait(tmp_path, server):
    server.misbehave, server.retry_after = ["429"], "0.01"
    endpoint = endpoint_of(server, tmp_path, per_minute=200)
    for prompt in ("one", "one", "one", "two"):
        endpoint(prompt, ())
    assert len(server.times) == 3
    # The client waits 0.3 s, the repeated one as well; the server's clock adds the machine's load.
    assert all(gap > 0.15 for gap in np.diff(server.times))
    assert server.times[-1] - server.times[0] < 1.15  # two more waits would make 1.2 s


def test_the_cost_is_counted(tmp_path, server):
    endpoint = endpoint_of(server, tmp_path, prompt_price=0.5, completion_price=2.0)
    endpoint("one", ())
    endpoint("one", ())
    assert endpoint.usage.cost == pytest.approx(1000 * 0.5e-6 + 200 * 2e-6)


def test_a_missing_key_library_or_model_is_an_error(tmp_path, server, monkeypatch):
    with pytest.raises(EndpointError, match="NOT_SET_HERE"):
        endpoint_of(server, tmp_path, key_variable="NOT_SET_HERE")
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(EndpointError, match="pip install openai"):
        endpoint_of(server, tmp_path)
    with pytest.raises(EndpointError, match=r"no directory .*Qwen: give"):
        local_model(tmp_path / "Qwen")
    with pytest.raises(EndpointError, match="cannot be loaded"):
        local_model(tmp_path)


def test_lone_surrogates_are_replaced(tmp_path, server):
    server.answer = lambda _: "half \ud800"
    for _ in range(2):
        assert endpoint_of(server, tmp_path)("also half \udc00", ()) == "half ?"
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ('{"name": "a"}', {"name": "a"}),
        ('```json\n{"name": "a"}\n```', {"name": "a"}),
        (' ```\n{"name": {}}``` ', {"name": {}}),
        ('Sure: {"name": "a"}', None),
        ('{"name": "a"} {"name": "b"}', None),
        ('["a"]', None),
        ("```", None),
        ("", None),
        ("[" * 3999, None),
        ('{"name": "' + "a" * 4000 + '"}', None),
    ],
)
def test_an_answer_is_parsed_only_if_it_is_one_json_object(text, read):
    assert read_object(text) == read


# --- a local model --------------------------------------------------------------------------------


def test_a_model_in_a_directory_answers_with_and_without_images(tmp_path):
    transformers = pytest.importorskip("transformers")
    write_tiny_checkpoint(tmp_path, "none")
    transformers.LlavaProcessor(
        transformers.CLIPImageProcessorPil(
            size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}
        ),
        transformers.AutoTokenizer.from_pretrained(tmp_path),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template="{% for turn in messages %}{% for part in turn['content'] %}"
        "{{ '<image>' if part['type'] == 'image' else part['text'] }}{% endfor %}{% endfor %}",
    ).save_pretrained(tmp_path)
    ask = local_model(tmp_path, max_tokens=5)
    answer = ask("what?", (RGB, RGB[:40]))
    assert 0 < len(answer) <= 5
    assert ask("what?", (RGB, RGB[:40])) == answer
    assert ask("what?", (RGB[::-1], RGB)) != answer
    assert 0 < len(ask("what?", ())) <= 5


# --- relabelling ----------------------------------------------------------------------------------


# --- chains of thought ----------------------------------------------------------------------------
