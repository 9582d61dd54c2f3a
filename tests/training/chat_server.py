"""A chat-model server on this machine: real HTTP, with the needed part of OpenAI's protocol.

It answers with a given function; before that it shows the planned faults, in their order.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

#: Malformed bodies that it can send with status 200.
BROKEN = {
    "garbage": b"<html>gateway</html>",
    "nested": b"[" * 100_000,
    "list": b"[]",
    "no choices": b'{"choices": []}',
    "no text": b'{"choices": [{"message": {"content": null}}]}',
    "empty": b'{"choices": [{"message": {"content": " "}}]}',
}


@dataclass
class Chat:
    """The answers of the server, its planned faults, and the requests that it received.

    `misbehave` is consumed from the front, one entry per request: "429" (with `retry_after`), any
    other status, "stall" (until the client disconnects), "cut" (half a body), or a key of `BROKEN`.
    `logprobs` are those of the tokens of every answer; `refused` are parameters that it does not
    accept.
    """

    answer: Callable[[str], str]
    misbehave: list[str] = field(default_factory=list)
    retry_after: str = "0.1"
    bodies: list[dict] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    address: str = ""
    logprobs: list[tuple[str, float]] = field(default_factory=list)
    refused: tuple[str, ...] = ()

    def prompts(self) -> list[str]:
        """The prompt of every request."""
        return [_parts(body)[0] for body in self.bodies]

    def pictures(self) -> list[list[np.ndarray]]:
        """The images of every request, decoded, RGB."""
        return [_parts(body)[1] for body in self.bodies]


def _parts(body: dict) -> tuple[str, list[np.ndarray]]:
    content = body["messages"][0]["content"]
    if isinstance(content, str):
        return content, []
    pictures = []
    for part in content[:-1]:
        data = part["image_url"]["url"].removeprefix("data:image/jpeg;base64,")
        coded = np.frombuffer(base64.b64decode(data), np.uint8)
        pictures.append(cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1])
    return content[-1]["text"], pictures


def _handler(state: Chat) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def _send(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            headers = {"Content-Type": "application/json"} | headers
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            if self.path != "/v1/chat/completions":
                return self._send(404, b"{}")
            state.times.append(time.monotonic())
            state.keys.append(self.headers.get("Authorization", ""))
            state.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            fault = state.misbehave.pop(0) if state.misbehave else ""
            if fault == "stall":
                with suppress(OSError):
                    self.connection.recv(1)  # until the client disconnects
                return None
            if fault == "cut":
                return self._send(200, b'{"choices"', Content_Length="1000")
            if fault in BROKEN:
                return self._send(200, BROKEN[fault])
            if fault:
                # Like some servers, it repeats the key.
                said = {"error": {"message": f"refused {state.keys[-1]}"}}
                headers = {"Retry_After": state.retry_after} if fault == "429" else {}
                return self._send(int(fault), json.dumps(said).encode(), **headers)
            for name in state.refused:
                if name in state.bodies[-1]:
                    said = {"error": {"message": f"unsupported parameter: {name}"}}
                    return self._send(400, json.dumps(said).encode())
            text = state.answer(_parts(state.bodies[-1])[0])
            choice = {"message": {"role": "assistant", "content": text}}
            if state.logprobs:
                content = [{"token": token, "logprob": value} for token, value in state.logprobs]
                choice["logprobs"] = {"content": content}
            body = {
                "choices": [choice],
                "usage": {"prompt_tokens": 1000, "completion_tokens": 200},
            }
            return self._send(200, json.dumps(body).encode())

    return Handler


@contextmanager
def chatting(answer: Callable[[str], str]) -> Iterator[Chat]:
    """A running server whose model maps prompts to answers; its `address` is the base URL."""
    state = Chat(answer)
    running = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    state.address = f"http://127.0.0.1:{running.server_address[1]}/v1"
    thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        running.shutdown()
        running.server_close()
        thread.join()
