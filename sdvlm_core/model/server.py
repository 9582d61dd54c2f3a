"""A connection to one model of a vLLM server: its OpenAI-compatible API, streamed and cancelled.

Knows URLs, keys, HTTP and what can go wrong with them. Does not know what is asked: a request is
bytes, an answer is a sequence of JSON objects.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from sdvlm_core.errors import QueryError, SdvlmError, ServerError, shown

#: Environment variables with the server's key, or with the name of a file that holds it.
KEY, KEY_FILE = "SDVLM_SERVER_KEY", "SDVLM_SERVER_KEY_FILE"
_CONNECT_S = 5.0
#: A server that sends nothing for so long is an error; questions also wait there for their turn.
_SILENCE_S = 60.0
#: How often `problem` looks, seconds.
_LOOK_S = 5.0
_MAX_KEY_BYTES = 4096
_MAX_LINE = 4_000_000
_MAX_REASON = 300
# How vLLM refuses a prompt that is longer than its context.
_TOO_LONG = re.compile(r"maximum context length", re.I)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(shown(name, 80) for name in names[:10])


def marked(model: str, mark: str) -> str:
    """The name on a server of a model with certain weights."""
    return f"{model}#{mark}"


def key_from_environment(environment: Mapping[str, str] = os.environ) -> str:
    """The key of the server: of SDVLM_SERVER_KEY, or of the file SDVLM_SERVER_KEY_FILE; "" = none.

    Raises:
        ServerError: the file is unreadable, empty or too large.
    """
    name = environment.get(KEY_FILE, "")
    if not name:
        return environment.get(KEY, "").strip()
    try:
        with Path(name).open("rb") as file:
            stored = file.read(_MAX_KEY_BYTES + 1)
        key = stored.decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ServerError(
            f"the key file {shown(name)} of {KEY_FILE} is unreadable: {error}"
        ) from None
    if not key or len(stored) > _MAX_KEY_BYTES:
        raise ServerError(f"{KEY_FILE}={shown(name)} is empty or too large")
    return key


class Server:
    """One model of a server, for any number of threads. Opens its connections when they are needed.

    Args:
        url: http(s)://host:port, without a path.
        model: its name on the server.
        key: "" = the server wants none.
        mark: of its weights (`image_half.language_mark`): the server must have a model of this name
            and mark, as `sdvlm serve` starts it. "" = any weights.

    Raises:
        ServerError: the URL has another form.
    """

    def __init__(self, url: str, model: str, key: str = "", mark: str = "") -> None:
        try:
            parts = urlsplit(url)
            fits = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            fits = False
        if not fits or parts.path.strip("/") or parts.query or parts.username:
            raise ServerError(
                f"the server must be http://host:port or https://host:port, got {shown(url)!r}; a "
                f"key belongs into {KEY} or {KEY_FILE}"
            )
        # Every request names the weights: a server that is started again with others refuses it.
        self.url, self._name = url.rstrip("/"), model
        self.model = marked(model, mark) if mark else model
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._closing = threading.Lock()
        self._look: Future[None] | None = None
        self._look_due, self._problem = 0.0, ""
        self._loop = asyncio.new_event_loop()
        self._client = httpx2.AsyncClient(
            base_url=self.url,
            headers=self._headers,
            timeout=httpx2.Timeout(_SILENCE_S, connect=_CONNECT_S),
            # No proxy: features and answers go where the URL says.
            trust_env=False,
            follow_redirects=False,
        )
        # A daemon: an unfinished request must not keep the process alive.
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="sdvlm_server", daemon=True
        )
        self._thread.start()

    def check(self, timeout_s: float = 10.0) -> None:
        """Whether the server is there, accepts the key, and has the model.

        Raises:
            ServerError: it is not, does not, or has not.
        """
        asyncio.run_coroutine_threadsafe(self._checked(timeout_s), self._loop).result()

    def problem(self) -> str:
        """Why the server would refuse a question; "" = it would not, or is being looked at.

        Never waits: looks in the background, every _LOOK_S seconds at most.
        """
        if self._look is not None and self._look.done() and not self._look.cancelled():
            error = self._look.exception()
            self._problem = "" if error is None else str(error)
            self._look = None
        if self._look is None and time.monotonic() >= self._look_due and not self._loop.is_closed():
            self._look_due = time.monotonic() + _LOOK_S
            self._look = asyncio.run_coroutine_threadsafe(self._checked(_LOOK_S), self._loop)
        return self._problem

    async def _checked(self, timeout_s: float) -> None:
        try:
            names = await asyncio.wait_for(self._models(), timeout_s)
        except asyncio.TimeoutError:
            raise ServerError(f"{self.url} does not answer within {timeout_s:g} s") from None
        if self.model not in names:
            raise self._missing(names)

    def _missing(self, names: Sequence[str]) -> ServerError:
        """The error of a server with these models, none of which is ours."""
        others = [name for name in names if name.startswith(marked(self._name, ""))]
        if others:
            return ServerError(
                f"{self.url} has {shown(self._name)!r} with other weights than ours: ours are "
                f"{shown(self.model)}, its are {_listed(others)}. Serve the very model that the "
                "robots have"
            )
        if self._name in names:
            return ServerError(
                f"{self.url} does not tell which weights its {shown(self._name)!r} has: start it "
                f"with sdvlm serve, or add the name {shown(self.model)} to --served-model-name"
            )
        return ServerError(
            f"{self.url} has no model {shown(self._name)!r}; it has {_listed(names)}"
        )

    def start(self, body: bytes, sink: Callable[[Any], None]) -> Future[None]:
        """Send a request; its chunks (dict), then None or an SdvlmError, go to `sink`.

        `sink` is called by the thread of this object. Cancelling the result closes the request.

        Raises:
            ServerError: this object was closed.
        """
        if self._loop.is_closed():
            raise ServerError(f"the connection to {self.url} was closed")
        return asyncio.run_coroutine_threadsafe(self._stream(body, sink), self._loop)

    def close(self) -> None:
        """Close all connections; requests that are not finished end with an error."""
        with self._closing:
            if self._loop.is_closed():
                return
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.aclose()

    async def _models(self) -> list[str]:
        try:
            answer = await self._client.get("/v1/models")
        except httpx2.HTTPError as error:
            raise self._unreachable(error) from None
        if answer.status_code != 200:
            raise self._refused(answer.status_code, answer.content)
        try:
            return [str(one["id"]) for one in answer.json()["data"]]
        except (ValueError, LookupError, TypeError):
            raise ServerError(
                f"{self.url} does not answer as an OpenAI-compatible server"
            ) from None

    async def _stream(self, body: bytes, sink: Callable[[Any], None]) -> None:
        """Sent again once, if the connection fails before the first chunk."""
        for attempt in (1, 2):
            begun = False
            try:
                async for chunk in self._chunks(body):
                    begun = True
                    sink(chunk)
                sink(None)
                return
            except SdvlmError as error:
                sink(error)
                return
            except httpx2.ReadTimeout:
                sink(ServerError(f"{self.url} has sent nothing for {_SILENCE_S:g} s"))
                return
            except httpx2.HTTPError as error:
                if begun or attempt == 2:
                    sink(self._unreachable(error))
                    return
            except Exception as error:  # noqa: BLE001 - delivered: somebody waits for it
                sink(self._unreachable(error))
                return

    async def _chunks(self, body: bytes) -> AsyncIterator[dict[str, Any]]:
        """The events of a streamed answer; raises ServerError if it ends before its end."""
        async with self._client.stream(
            "POST",
            "/v1/chat/completions",
            content=body,
            headers={"Content-Type": "application/json"},
        ) as answer:
            if answer.status_code == 404:
                raise self._missing(await self._models())  # started again, with another model
            if answer.status_code != 200:
                raise self._refused(answer.status_code, await answer.aread())
            async for line in answer.aiter_lines():
                if not line.startswith("data:"):
                    continue
                text = line[5:].strip()
                if text == "[DONE]":
                    return
                if len(text) > _MAX_LINE:
                    raise ServerError(f"{self.url} sent an event of {len(text)} characters")
                yield self._event(text)
        raise ServerError(f"{self.url} closed the connection before the end of the answer")

    def _event(self, text: str) -> dict[str, Any]:
        try:
            event = json.loads(text)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            raise ServerError(f"{self.url} sent an event that is not JSON: {shown(text, 80)}")
        if "error" in event:
            raise ServerError(f"{self.url} reports: {shown(str(event['error']), _MAX_REASON)}")
        return event

    def _refused(self, status: int, content: bytes) -> SdvlmError:
        reason = shown(content[: 2 * _MAX_REASON].decode("utf-8", "replace"), _MAX_REASON)
        if status in (401, 403):
            return ServerError(
                f"{self.url} refuses the key (HTTP {status}): set {KEY} or {KEY_FILE}"
            )
        if status == 400 and _TOO_LONG.search(reason):
            return QueryError(f"the question has more tokens than {self.url} takes: {reason}")
        return ServerError(f"{self.url} refuses the request (HTTP {status}): {reason}")

    def _unreachable(self, error: Exception) -> ServerError:
        reason = shown(str(error) or type(error).__name__, _MAX_REASON)
        return ServerError(
            f"the connection to {self.url} failed: {reason}; is the server running there "
            "(sdvlm serve MODEL)?"
        )
