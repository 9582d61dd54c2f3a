"""The page's server over HTTP: its documents, its bounds, and who may use it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette", reason="requirements/front.txt is not installed")

import uvicorn
from starlette.testclient import TestClient

from sdvlm_core.cautions import Caution
from sdvlm_core.engine import LoadOptions
from sdvlm_core.errors import FrameError, QueryCanceled
from sdvlm_core.front.backend import OnText, Origin, Shot
from sdvlm_core.front.guard import COOKIE, Access, access_for
from sdvlm_core.front.offline import open_offline
from sdvlm_core.front.page import MAX_ASKING, MAX_BODY_BYTES, make_app
from sdvlm_core.front.page_documents import MAX_REGIONS
from sdvlm_core.front.source import Source, open_source

_TABLE = Path(__file__).parents[3] / "docs" / "table"
_SOURCE = Source(
    rgb=_TABLE / "rgb.png",
    depth=str(_TABLE / "depth.png"),
    intrinsics=_TABLE / "intrinsics.json",
    sensor="simulated",
)
_MUG = {"label": "red mug", "box": [189, 193, 266, 300]}
_BOX = {"label": "box", "box": [330, 152, 501, 283]}
_HERE = "http://127.0.0.1:8080"
_TOKEN = "a-token-of-enough-length"
_JSON = {"Content-Type": "application/json"}
_ASK = {"stamp": "0", "question": "How tall is the red mug?"}


def client_of(backend: Any, access: Access | None = None, source: Source = _SOURCE) -> TestClient:
    return TestClient(make_app(backend, source, access or Access()), base_url=_HERE)


@contextmanager
def listening(app: Any) -> Iterator[int]:
    """The port of a server of the app on this machine."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def page() -> TestClient:
    """The page of the rendered table, without a model, with its frame taken."""
    client = client_of(open_source(_SOURCE, None))
    assert client.post("/api/capture", json={"at_s": None}).status_code == 200
    return client


class Live:
    """A backend whose frames and answers the tests choose."""

    def __init__(self) -> None:
        self.origin = Origin("node", "/spatial_query")
        self.shots = [Shot(5, "camera", np.zeros((4, 6, 3), np.uint8), None)]
        self.go, self.started, self.canceled = (threading.Event() for _ in range(3))
        self.document: dict[str, Any] = {"text": "<img src=x onerror=alert(1)>"}

    def capture(self, at_s: float | None = None) -> Shot:
        if not self.shots:
            raise FrameError("the newest image is 9.0 s old")
        return self.shots.pop(0)

    def measure(self, stamp_ns: int, regions: Sequence[Any]) -> dict[str, Any]:
        raise ValueError("unforeseen")

    def ask(
        self,
        stamp_ns: int,
        questions: Sequence[Any],
        regions: Sequence[Any] = (),
        verify: bool = False,
        on_text: OnText | None = None,
    ) -> list[dict[str, Any]]:
        self.started.set()
        self.go.wait(30)
        if on_text is not None and not on_text(0, "some text"):
            self.canceled.set()
            raise QueryCanceled("canceled")
        return [self.document]

    def close(self) -> None:
        self.go.set()


def error_of(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def lines_of(response: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in response.text.splitlines() if line]


def test_a_measurement_is_the_document_of_the_command_with_its_drawing(page):
    reply = page.post("/api/measure", json={"stamp": "0", "regions": [_MUG, _BOX]}).json()
    assert list(reply["document"]) == ["cautions", "regions", "pairs"]
    assert reply["document"]["regions"][0]["height_m"] == pytest.approx(0.11, abs=0.005)
    box = np.array(reply["boxes"][0]["corners"])
    x1, y1, x2, y2 = _MUG["box"]
    assert np.abs(box.min(axis=0) - (x1, y1)).max() < 12
    assert np.abs(box.max(axis=0) - (x2, y2)).max() < 12
    # Corners 4 to 7 are the upper ones: nearer to the top of the image.
    assert box[4:, 1].mean() < box[:4, 1].mean()
    assert reply["boxes"][0]["nearest"] < 4


def test_the_depth_of_a_frame_is_in_millimetres_with_zero_for_holes():
    depth = np.full((2, 3), 1.2345, np.float32)
    depth[0, 0], depth[1, 1] = np.nan, 99.0
    live = Live()
    live.shots = [Shot(7, "camera", np.zeros((2, 3, 3), np.uint8), depth)]
    client = client_of(live)
    frame = client.post("/api/capture", json={}).json()
    assert frame["depth"]["valid_fraction"] == pytest.approx(5 / 6)
    values = np.frombuffer(client.get("/api/shots/7/depth").content, "<u2").reshape(2, 3)
    assert values.tolist() == [[0, 1234, 1234], [1234, 65535, 1234]]


def test_the_colour_image_is_a_jpeg(page):
    assert page.get("/api/shots/0/rgb.jpg").content.startswith(b"\xff\xd8")


def test_every_caution_has_words(page):
    known = page.get("/api/state").json()["cautions"]
    assert set(known) == {code.value for code in Caution}


def test_an_answer_streams_in_parts_and_ends_with_its_checks():
    backend = open_offline(
        _SOURCE.rgb,
        _TABLE / "depth.png",
        _SOURCE.intrinsics,
        sensor="simulated",
        model=LoadOptions("nano"),
    )
    client = client_of(backend)
    client.post("/api/capture", json={})
    body = _ASK | {"verify": True, "regions": [_MUG, _BOX]}
    *parts, last = lines_of(client.post("/api/ask", json=body))
    assert len(parts) > 1
    assert "".join(part["text"] for part in parts).strip() == last["answer"]["text"]
    assert last["answer"]["checks"]
    # Only the region of what is asked about has a part in the check.
    assert last["regions"] == ["red mug"]
    assert "red mug=189,193,266,300" in last["copy"]["cli"]
    assert "box=330" not in last["copy"]["cli"]


class Talking(Live):
    """A model that goes on with its answer until it is canceled."""

    def ask(
        self,
        stamp_ns: int,
        questions: Sequence[Any],
        regions: Sequence[Any] = (),
        verify: bool = False,
        on_text: OnText | None = None,
    ) -> list[dict[str, Any]]:
        assert on_text is not None
        self.started.set()
        while on_text(0, "a word "):
            assert not self.go.wait(0.05), "it was not canceled"
        self.canceled.set()
        raise QueryCanceled("canceled")


def test_a_reader_that_leaves_cancels_its_question():
    # Over a socket: some versions of the test client give a stream only when it has ended.
    live = Talking()
    with listening(make_app(live, _SOURCE, Access())) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", "/api/capture", "{}", _JSON)
        assert connection.getresponse().read()
        connection.request("POST", "/api/ask", json.dumps(_ASK | {"stamp": "5"}), _JSON)
        response = connection.getresponse()
        assert live.started.wait(30)
        response.close()
        connection.close()
        try:
            assert live.canceled.wait(30)
        finally:
            live.close()


def test_more_questions_than_allowed_are_refused():
    live = Live()
    client = client_of(live)
    client.post("/api/capture", json={})
    body = _ASK | {"stamp": "5"}
    threads = [
        threading.Thread(target=client.post, args=("/api/ask",), kwargs={"json": body})
        for _ in range(MAX_ASKING)
    ]
    try:
        for thread in threads:
            live.started.clear()
            thread.start()
            assert live.started.wait(30)
        assert error_of(client.post("/api/ask", json=body)) == (429, "QUEUE_FULL")
    finally:
        live.close()
        for thread in threads:
            thread.join()


def test_a_live_frame_states_its_age_and_another_clock_has_none(monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1_700_000_012.5)
    live = Live()
    pixels = np.zeros((4, 6, 3), np.uint8)
    live.shots = [Shot(1_700_000_010_000_000_000, "", pixels, None), Shot(5, "", pixels, None)]
    client = client_of(live)
    assert client.post("/api/capture", json={}).json()["age_s"] == pytest.approx(2.5)
    assert client.post("/api/capture", json={}).json()["age_s"] is None
    refused = client.post("/api/capture", json={})
    assert error_of(refused) == (422, "NO_IMAGE")
    assert "9.0 s old" in refused.json()["error"]["message"]


def test_an_unforeseen_error_is_shown_as_a_defect_and_logged(caplog):
    client = client_of(Live())
    client.post("/api/capture", json={})
    refused = client.post("/api/measure", json={"stamp": "5", "regions": []})
    assert error_of(refused) == (500, "UNKNOWN")
    assert "ValueError: unforeseen" in refused.json()["error"]["message"]
    assert "ValueError" in caplog.text


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"regions": []}, "stamp is a text"),
        ({"stamp": 0, "regions": []}, "stamp is a text"),
        ({"stamp": "9" * 30, "regions": []}, "stamp is a text"),
        ({"stamp": "1", "regions": []}, "not shown any more"),
        ({"stamp": "0"}, "regions is a list"),
        ({"stamp": "0", "regions": [1]}, "JSON object"),
        ({"stamp": "0", "regions": [{"box": [0, 0, 1, 1]}]}, "needs a label"),
        ({"stamp": "0", "regions": [_MUG, _MUG]}, "own label"),
        ({"stamp": "0", "regions": [{"label": "a"}]}, "box or a point"),
        ({"stamp": "0", "regions": [{"label": "a", "box": [0, 0, 0, 1]}]}, "empty box"),
        ({"stamp": "0", "regions": [{"label": "a", "box": [0, 0, 1]}]}, "4 numbers"),
        ({"stamp": "0", "regions": [{"label": "a", "point": ["0", 1]}]}, "2 numbers"),
        ({"stamp": "0", "regions": [{"label": "a", "point": [1e9, 1]}]}, "below a million"),
        ({"stamp": "0", "regions": [{"label": "a" * 81, "point": [1, 1]}]}, "at most 80"),
        ({"stamp": "0", "regions": [{"label": "a\n", "point": [1, 1]}] * 2}, "own label"),
        ({"stamp": "0", "regions": [{"label": "a\u202eb", "point": [1, 1]}]}, "printable"),
        ({"stamp": "0", "regions": [_MUG] * (MAX_REGIONS + 1)}, "at most 16"),
        ([], "not a JSON object"),
    ],
)
def test_a_malformed_measurement_is_refused_with_the_reason(page, body, reason):
    refused = page.post("/api/measure", json=body)
    assert refused.status_code == 422
    assert reason in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"question": ""}, "empty"),
        ({"question": "how? " * 1000}, "at most 2000"),
        ({"question": 7}, "question is a text"),
        ({"question": "How tall?", "verify": 1}, "true or false"),
    ],
)
def test_a_malformed_question_is_refused_with_the_reason(page, body, reason):
    refused = page.post("/api/ask", json={"stamp": "0"} | body)
    assert error_of(refused) == (422, "INVALID_QUERY")
    assert reason in refused.json()["error"]["message"]


@pytest.mark.parametrize("at_s", [-1, "1", True, 10**400])
def test_a_malformed_time_is_refused(page, at_s):
    assert error_of(page.post("/api/capture", json={"at_s": at_s})) == (422, "INVALID_QUERY")


def test_broken_json_and_large_bodies_are_refused(page):
    head = {"content-type": "application/json"}
    deep = b"[" * 50_000
    for data in (b"{", b"\xff", b'{"at_s": NaN}', deep):
        assert page.post("/api/capture", content=data, headers=head).status_code == 422
    large = b" " * (MAX_BODY_BYTES + 1)
    assert page.post("/api/capture", content=large, headers=head).status_code == 413


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "8.8.8.8", "", "a@b:c"])
def test_another_host_name_is_refused(page, host):
    for path in ("/", "/api/state"):
        assert error_of(page.get(path, headers={"host": host})) == (421, "WRONG_HOST")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9999", "[::1]:8080", "LOCALHOST"])
def test_the_names_of_this_machine_are_accepted_at_any_forwarded_port(page, host):
    assert page.get("/api/state", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://[x"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_request_of_another_page_is_refused(page, headers):
    refused = page.post("/api/capture", json={}, headers=headers)
    assert error_of(refused) == (403, "WRONG_ORIGIN")


def test_the_own_page_may_post_json_and_forms_may_not(page):
    own = {"origin": _HERE, "sec-fetch-site": "same-origin"}
    assert page.post("/api/capture", json={}, headers=own).status_code == 200
    assert page.post("/api/capture", data={"a": "b"}).status_code == 415


def test_every_reply_forbids_scripts_of_others_and_frames(page):
    for path in ("/", "/page.js", "/api/state", "/api/nothing", "/api/shots/77/rgb.jpg"):
        policy = page.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy


def test_the_page_loads_nothing_of_other_hosts_and_has_no_inline_script(page):
    html = page.get("/").text
    for text in (html, page.get("/page.css").text):
        assert "//" not in text.replace("http://www.w3.org/2000/svg", "")
    assert html.count("<script") == html.count('<script src="page.js"') == 1
    assert "style=" not in html
    script = page.get("/page.js").text
    assert "innerHTML" not in script
    assert "insertAdjacentHTML" not in script


@pytest.mark.parametrize(
    "path",
    ["/../setup.cfg", "/page.js/../../setup.cfg", "/%2e%2e/setup.cfg", "/assets", "/rgb.png"],
)
def test_no_other_file_is_served(page, path):
    assert page.get(path).status_code == 404


def test_a_server_that_others_reach_needs_its_token():
    client = client_of(open_source(_SOURCE, None), access_for("0.0.0.0", _TOKEN))
    client.base_url = "http://192.168.1.20:8080"
    assert client.get("/").status_code == 200  # the page itself asks for the token
    assert error_of(client.get("/api/state")) == (401, "TOKEN_NEEDED")
    assert error_of(client.post("/api/capture", json={})) == (401, "TOKEN_NEEDED")
    wrong = client.post("/api/login", json={"token": "a-token-of-enough-lengtH"})
    assert error_of(wrong) == (422, "INVALID_QUERY")
    assert COOKIE not in client.cookies
    cookie = client.post("/api/login", json={"token": _TOKEN}).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert client.get("/api/state").status_code == 200
    client.cookies.clear()
    bearer = {"authorization": f"Bearer {_TOKEN}"}
    assert client.get("/api/state", headers=bearer).status_code == 200


def test_a_token_is_made_for_any_host_but_loopback():
    assert access_for("127.0.0.1").token == access_for("localhost").token == ""
    made = {access_for(host).token for host in ("0.0.0.0", "::", "robot.local")}
    assert len(made) == 3
    assert min(map(len, made)) >= 32
    assert access_for("127.0.0.1", _TOKEN).token == _TOKEN
