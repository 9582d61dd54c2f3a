"""A served model and a server that is not there, refuses, lies, stalls or dies: always a code.

The server of these tests speaks HTTP and nothing else; `tests/serving` has the real one.
"""

from __future__ import annotations

import json
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from sdvlm_core.answer import Asked, Quantity
from sdvlm_core.engine import LoadOptions, SpatialEngine, load_engine
from sdvlm_core.errors import (
    CheckpointError,
    ErrorCode,
    ModelOutputError,
    QueryCanceled,
    QueryError,
    QueryTimeout,
    ServerError,
    error_code,
)
from sdvlm_core.frame import CameraIntrinsics, RgbdFrame
from sdvlm_core.model import constrained, served
from sdvlm_core.model import server as connection
from sdvlm_core.model.checkpoint import NANO_DIRECTORY, load_for_server
from sdvlm_core.model.generation_options import GenerationOptions, Query
from sdvlm_core.model.image_half import language_mark, write_image_half
from sdvlm_core.model.server import Server, key_from_environment, marked
from tests.waiting import PATIENCE_S

NAME, KEY = "nano", "the-key"
FRAME = RgbdFrame(
    np.full((48, 64, 3), 128, np.uint8),
    np.full((48, 64), 1.0, np.float32),
    CameraIntrinsics(60, 60, 31.5, 23.5, 64, 48),
)


class Scripted(ThreadingHTTPServer):
    """Answers every question with `reply(handler, request)`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.names = [NAME, marked(NAME, language_mark(NANO_DIRECTORY))]
        self.requests: list[dict] = []
        self.closed = threading.Event()  # a client closed a request
        self.reply: Callable[[_Handler, dict], None] = lambda handler, _: handler.events(tokens())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Scripted

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            self.refuse(401, b'{"error": "Unauthorized"}')
            return
        body = json.dumps({"data": [{"id": name} for name in self.server.names]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(request)
        self.read = read_prompt(request)
        try:
            self.server.reply(self, request)
        except OSError:
            self.server.closed.set()

    def refuse(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def begin(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()

    def send(self, text: str) -> None:
        self.wfile.write(text.encode())
        self.wfile.flush()

    def events(self, events: list[object], end: str = "data: [DONE]\n\n") -> None:
        self.begin()
        if events and isinstance(events[0], dict):
            events = [{"prompt_token_ids": self.read, **events[0]}, *events[1:]]
        for event in events:
            self.send(f"data: {json.dumps(event)}\n\n")
        self.send(end)


@pytest.fixture(scope="module")
def half():
    return load_for_server("nano", "cpu")


# Not a model: transformers loads models in one thread at a time, and a server's threads call this.
TOKENIZER = AutoTokenizer.from_pretrained(NANO_DIRECTORY, local_files_only=True)


def read_prompt(request: dict) -> list[int]:
    """The ids of the prompt that vLLM makes of a request, with one image placeholder."""
    before, _, after = request["messages"][0]["content"]
    text = f"{before['text']}<image>{after['text']}"
    return TOKENIZER.encode(text, add_special_tokens=False)


def tokens(text: str = "0.25 m.", finish: str | None = "stop", **more: object) -> list[object]:
    ids = TOKENIZER.encode(text, add_special_tokens=False)
    chances = [{"logprob": math.log(0.9)} for _ in ids]
    choice = {"token_ids": ids, "logprobs": {"content": chances}, "finish_reason": finish}
    return [{"choices": [choice], **more}]


@pytest.fixture
def server() -> Iterator[Scripted]:
    with Scripted() as scripted:
        threading.Thread(target=scripted.serve_forever, daemon=True).start()
        yield scripted
        scripted.shutdown()


@pytest.fixture
def engine(server, half) -> Iterator[SpatialEngine]:
    engine = SpatialEngine(half, server=Server(server.url, NAME, KEY))
    yield engine
    engine.close()


def ask(engine: SpatialEngine, question: object = "How tall is the red mug?", **options: object):
    return engine.open(FRAME).ask(question, GenerationOptions(**options))


def test_an_answer_has_the_servers_text_and_probabilities(engine, server):
    answer = ask(engine)
    assert answer.text == "0.25 m."
    assert answer.measurements[0].value == 0.25
    (request,) = server.requests
    assert request["stop_token_ids"] == sorted(engine.checkpoint.ends)
    assert request["temperature"] == 0
    kinds = [part["type"] for part in request["messages"][0]["content"]]
    assert kinds == ["text", "image_embeds", "text"]


def test_every_request_has_the_features_of_the_frame(engine, server):
    session = engine.open(FRAME)
    session.ask_many([Query("How tall is the red mug?")] * 3)
    sent = {request["messages"][0]["content"][1]["image_embeds"] for request in server.requests}
    assert len(server.requests) == 3
    assert len(sent) == 1
    assert len(sent.pop()) > 100_000


def test_a_constrained_question_has_the_form_as_a_pattern(engine, server):
    session = engine.open(FRAME)
    session.ask(Asked(Quantity.HEIGHT, ("mug",)), GenerationOptions(constrained=True))
    assert server.requests[0]["structured_outputs"] == {
        "regex": constrained.pattern(Quantity.HEIGHT)
    }


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("gpu-box:8000", "http://host:port"),
        ("ftp://gpu-box:8000", "http://host:port"),
        ("http://gpu-box:8000/v1", "http://host:port"),
        ("http://user:secret@gpu-box:8000", "SDVLM_SERVER_KEY"),
        ("http://gpu-box:99999", "http://host:port"),
        ("", "http://host:port"),
    ],
)
def test_a_url_of_another_form_is_refused(url, reason):
    with pytest.raises(ServerError, match=reason):
        Server(url, NAME)


def test_a_server_that_is_not_there_is_named_when_the_model_loads():
    with pytest.raises(ServerError, match=r"http://127.0.0.1:9 failed.*sdvlm serve") as caught:
        load_engine(LoadOptions("nano", server="http://127.0.0.1:9"))
    assert error_code(caught.value) is ErrorCode.MODEL_NOT_READY


@pytest.mark.parametrize(
    ("key", "model", "reason"),
    [("wrong", NAME, "refuses the key"), (KEY, "other", "has no model 'other'; it has nano")],
)
def test_a_wrong_key_or_model_is_refused_when_the_model_loads(
    server, monkeypatch, key, model, reason
):
    monkeypatch.setenv("SDVLM_SERVER_KEY", key)
    with pytest.raises(ServerError, match=reason):
        load_engine(LoadOptions("nano", server=server.url, served_model=model))


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([NAME, f"{NAME}#0123456789abcdef"], "with other weights than ours: .*0123456789abcdef"),
        ([NAME], "does not tell which weights"),
    ],
)
def test_a_server_with_other_or_unknown_weights_is_refused(server, monkeypatch, names, reason):
    monkeypatch.setenv("SDVLM_SERVER_KEY", KEY)
    server.names = names
    with pytest.raises(ServerError, match=reason):
        load_engine(LoadOptions(NAME, "cpu", server=server.url))


def test_every_request_names_the_weights(server, monkeypatch, tmp_path):
    monkeypatch.setenv("SDVLM_SERVER_KEY", KEY)
    half = tmp_path / "half"
    write_image_half(NANO_DIRECTORY, half)
    for model in (NAME, str(half)):
        engine = load_engine(LoadOptions(model, "cpu", server=server.url, served_model=NAME))
        assert ask(engine).measurements[0].value == 0.25
        engine.close()
    assert [one["model"] for one in server.requests] == [server.names[1]] * 2


def test_an_answer_that_arrives_as_the_wait_for_it_ends_is_not_lost(half, monkeypatch):
    class Late(queue.SimpleQueue):
        """The answer arrives, and its request ends, when the first wait has just ended."""

        def get(self, block: bool = True, timeout: float | None = None) -> object:
            if call.done():
                return super().get(block, timeout)
            (event,) = tokens(prompt_token_ids=read_prompt(json.loads(bodies[0])))
            for one in (event, None):
                sinks[0](one)
            call.set_result(None)
            raise queue.Empty

    class Silent(Server):
        def start(self, body: bytes, sink: Callable[[object], None]) -> Future[None]:
            bodies.append(body)
            sinks.append(sink)
            return call

    bodies: list[bytes] = []
    sinks: list[Callable[[object], None]] = []
    call: Future[None] = Future()
    monkeypatch.setattr(served.queue, "SimpleQueue", Late)
    engine = SpatialEngine(half, server=Silent("http://127.0.0.1:9", NAME))
    assert ask(engine).measurements[0].value == 0.25
    engine.close()


def test_the_key_is_of_the_environment_or_of_a_file(tmp_path):
    file = tmp_path / "key"
    file.write_text("from-file\n")
    assert key_from_environment({}) == ""
    assert key_from_environment({"SDVLM_SERVER_KEY": " k "}) == "k"
    both = {"SDVLM_SERVER_KEY": "k", "SDVLM_SERVER_KEY_FILE": str(file)}
    assert key_from_environment(both) == "from-file"
    file.write_text("")
    with pytest.raises(ServerError, match="empty or too large"):
        key_from_environment(both)
    with pytest.raises(ServerError, match="unreadable"):
        key_from_environment({"SDVLM_SERVER_KEY_FILE": str(tmp_path / "absent")})


LIES = {
    "HTTP 500": (lambda h, _: h.refuse(500, b"no cheese\n\x1b[31m"), r"500\): no cheese\\n"),
    "no JSON": (lambda h, _: h.events([], "data: <html>\n\ndata: [DONE]\n\n"), "not JSON"),
    "a list": (lambda h, _: h.events([[1]]), "not JSON"),
    "an error event": (lambda h, _: h.events([{"error": "engine died"}]), "engine died"),
    "another form": (lambda h, _: h.events([{"choices": [{"token_ids": "x"}]}]), "another form"),
    "no end": (lambda h, _: h.events(tokens("0.2", None), ""), "before the end of the answer"),
    "cut off": (lambda h, _: h.events(tokens("1", "abort")), "ended an answer after 1 .*abort"),
    "a full context": (lambda h, _: h.events(tokens("1", "length")), "its --context is full"),
    "no reason": (lambda h, _: h.events(tokens("1", None)), "ended an answer after 1 .*no reason"),
    "an unknown prompt": (
        lambda h, _: h.events(tokens(prompt_token_ids=None)),
        "does not say which prompt",
    ),
    "another prompt": (
        lambda h, _: h.events(tokens(prompt_token_ids=[1, 2, 3])),
        "read another prompt than ours",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_what_is_no_answer_is_an_error_that_names_the_server(engine, server, name):
    server.reply, reason = LIES[name]
    with pytest.raises(ServerError, match=reason) as caught:
        ask(engine)
    assert server.url in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_server_that_has_another_model_since_says_which(engine, server):
    server.reply = lambda handler, _: handler.refuse(404, b'{"error": "no such model"}')
    server.names = ["other"]
    with pytest.raises(ServerError, match="has no model 'nano'; it has other"):
        ask(engine)


def test_a_question_beyond_the_servers_context_is_the_questions_fault(engine, server):
    reason = b"This model's maximum context length is 160 tokens. However, you requested 900."
    server.reply = lambda handler, _: handler.refuse(400, reason)
    with pytest.raises(QueryError, match=r"more tokens than .* takes: .* 160 tokens"):
        ask(engine)


def test_the_servers_problem_is_known_without_waiting(half, server, monkeypatch):
    monkeypatch.setattr(connection, "_LOOK_S", 0.05)
    engine = SpatialEngine(half, server=Server(server.url, NAME, KEY))

    def becomes(wanted: str) -> str:
        deadline = time.monotonic() + PATIENCE_S
        while wanted not in (found := engine.problem()) or bool(found) is not bool(wanted):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return found

    server.names = ["other"]
    becomes("has no model 'nano'")
    server.names = [NAME]
    becomes("")
    server.shutdown()
    server.server_close()
    assert server.url in becomes("failed")
    engine.close()
    engine.problem()  # looks no more


def test_the_settings_of_a_language_model_elsewhere_are_refused():
    for options in ({"quantization": "bnb-nf4"}, {"attention": "sdpa"}):
        with pytest.raises(CheckpointError, match="leave them at none and auto"):
            load_engine(LoadOptions("nano", server="http://127.0.0.1:9", **options))


def test_a_token_without_its_probability_is_an_error(engine, server):
    server.reply = lambda handler, _: handler.events([{"choices": [{"token_ids": [5]}]}])
    with pytest.raises(ModelOutputError, match="no probability"):
        ask(engine)


def test_a_request_whose_connection_breaks_before_an_answer_is_sent_once_more(engine, server):
    def break_once(handler: _Handler, _: dict) -> None:
        if len(server.requests) == 1:
            handler.connection.close()
            return
        handler.events(tokens())

    server.reply = break_once
    assert ask(engine).text == "0.25 m."
    assert len(server.requests) == 2


def test_a_server_that_always_breaks_is_an_error_after_two_requests(engine, server):
    server.reply = lambda handler, _: handler.connection.close()
    with pytest.raises(ServerError, match="failed"):
        ask(engine)
    assert len(server.requests) == 2


def stall(handler: _Handler, _: dict) -> None:
    """One token, then nothing until the client is gone."""
    handler.begin()
    (event,) = tokens("0.2", None, prompt_token_ids=handler.read)
    handler.send(f"data: {json.dumps(event)}\n\n")
    while True:
        time.sleep(0.05)
        handler.send(": still here\n\n")


def test_a_deadline_ends_a_stalled_question_and_closes_its_request(engine, server):
    server.reply = stall
    with pytest.raises(QueryTimeout, match="tokens"):
        ask(engine, deadline=time.monotonic() + 0.5)
    assert server.closed.wait(10)


def test_cancelling_ends_a_question_and_closes_its_request(engine, server):
    server.reply = stall
    cancel = threading.Event()
    threading.Timer(0.3, cancel.set).start()
    with pytest.raises(QueryCanceled):
        ask(engine, cancel=cancel)
    assert server.closed.wait(10)


def test_a_stream_that_is_closed_early_closes_its_request(engine, server):
    server.reply = stall
    stream = engine.open(FRAME).stream("How tall is the red mug?")
    assert next(stream)
    stream.close()
    assert server.closed.wait(10)


def test_a_silent_server_is_an_error_without_a_deadline(server, half, monkeypatch):
    monkeypatch.setattr(connection, "_SILENCE_S", 0.3)
    engine = SpatialEngine(half, server=Server(server.url, NAME, KEY))
    release = threading.Event()
    server.reply = lambda handler, _: release.wait(30)
    with pytest.raises(ServerError, match="sent nothing"):
        ask(engine)
    release.set()
    engine.close()


def test_one_failing_question_leaves_the_others_their_answers(engine, server):
    def some(handler: _Handler, request: dict) -> None:
        asked = request["messages"][0]["content"][2]["text"]
        if "table" in asked:
            handler.refuse(400, b"no")
            return
        handler.events(tokens())

    server.reply = some
    asked = [
        Query("How tall is the mug?"),
        Query("How tall is the table?"),
        Query("How wide is the box?"),
    ]
    first, second, third = engine.open(FRAME).ask_many(asked)
    assert first.text == third.text == "0.25 m."
    assert isinstance(second, ServerError)


def test_a_question_with_a_control_token_is_refused_here(engine, server):
    with pytest.raises(QueryError, match="control token"):
        ask(engine, "How tall is the <image> mug?")
    assert not server.requests


@given(st.sampled_from(sorted(constrained.QUANTITIES, key=lambda q: q.value)), st.data())
def test_the_pattern_matches_exactly_the_complete_answers_of_the_form(quantity, data):
    text = data.draw(
        st.from_regex(
            constrained.pattern(quantity),
            fullmatch=True,
            alphabet=st.characters(max_codepoint=127),
        )
    )
    assert constrained.is_complete(text, quantity)


def test_a_connection_that_was_closed_is_an_error_not_a_wait(engine, server):
    session = engine.open(FRAME)
    engine.close()
    with pytest.raises(ServerError, match="was closed"):
        session.ask("How tall is the red mug?")


def test_closing_while_a_question_waits_ends_the_question(engine, server):
    server.reply = stall
    stream = engine.open(FRAME).stream("How tall is the red mug?")
    assert next(stream)
    threading.Timer(0.2, engine.close).start()
    with pytest.raises(ServerError):
        list(stream)
