"""A model behind a vLLM server: frames are encoded here, questions are read and answered there.

    server = Server("http://gpu-box:8000", "sd-vlm-7b", key_from_environment())
    engine = SpatialEngine(image_half, server=server)

Each question is a request to the server's OpenAI-compatible API that has the depth-coded features
of the frame instead of its picture; the server keeps the keys and values of the frame from the
second question on. Every request has the features: vLLM answers wrongly, without an error, if it is
given their name alone. The tokens stream back, and a request whose question ends is closed, which
frees its place on the server.

The server must have the prompt that this process would have: it returns the ids of the prompt it
read, and others than ours are an error. Does not know frames or what an answer means.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import math
import os
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as CallTimeout  # its own class until Python 3.10
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import torch

from sdvlm_core.errors import (
    ModelOutputError,
    QueryCanceled,
    QueryError,
    QueryTimeout,
    SdvlmError,
    ServerError,
    shown,
)
from sdvlm_core.model import constrained
from sdvlm_core.model.checkpoint import Checkpoint
from sdvlm_core.model.generation import Progress, Prompt

#: Environment variables with the server's key, or with the name of a file that holds it.
KEY, KEY_FILE = "SDVLM_SERVER_KEY", "SDVLM_SERVER_KEY_FILE"
_CONNECT_S = 5.0
#: A server that sends nothing for so long is an error; questions also wait there for their turn.
_SILENCE_S = 60.0
#: How often limits are looked at while the server sends nothing.
_POLL_S = 0.02
_MAX_KEY_BYTES = 4096
_MAX_LINE = 4_000_000
_MAX_REASON = 300


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

    Raises:
        ServerError: the URL has another form.
    """

    def __init__(self, url: str, model: str, key: str = "") -> None:
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
        self.url, self.model = url.rstrip("/"), model
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._closing = threading.Lock()
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
        call = asyncio.run_coroutine_threadsafe(self._models(), self._loop)
        try:
            names = call.result(timeout_s)
        except CallTimeout:
            call.cancel()
            raise ServerError(f"{self.url} does not answer within {timeout_s:g} s") from None
        if self.model not in names:
            raise ServerError(
                f"{self.url} has no model {shown(self.model)!r}; it has "
                + ", ".join(shown(name, 80) for name in names[:10])
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
        return ServerError(f"{self.url} refuses the request (HTTP {status}): {reason}")

    def _unreachable(self, error: Exception) -> ServerError:
        reason = shown(str(error) or type(error).__name__, _MAX_REASON)
        return ServerError(
            f"the connection to {self.url} failed: {reason}; is the server running there "
            "(sdvlm serve MODEL)?"
        )


@dataclass(frozen=True, eq=False)
class ServedPrefix:
    """What all questions about a frame share.

    Attributes:
        ids: token ids with one image placeholder per image token.
        before, after: the text of the template around the image.
        features: base64 of the depth-coded features (tokens, channels).
    """

    ids: list[int]
    before: str
    after: str
    features: str


def served_prefix(
    checkpoint: Checkpoint, ids: list[int], size: tuple[int, int], features: torch.Tensor
) -> ServedPrefix:
    """The opening of a prompt, as a server is sent it.

    Args:
        ids: as of `prompt.prefix_ids`.
        size: height and width of the frame.
        features: (tokens, channels), the depth code added.
    """
    form, tokenizer = checkpoint.prompt_template, checkpoint.tokenizer
    starts = form.starts_itself or tokenizer.bos_token_id is None
    before = "" if starts else tokenizer.decode([tokenizer.bos_token_id or 0])
    pieces = checkpoint.backbone.image_pieces(*size)
    at = next(index for index, piece in enumerate(pieces) if isinstance(piece, int))
    opening, closing = pieces[:at], pieces[at + 1 :]
    stored = io.BytesIO()
    # The form that vLLM reads; it loads tensors only.
    torch.save(features.detach().cpu().contiguous().clone(), stored)
    return ServedPrefix(
        ids,
        before + form.before + "".join(map(str, opening)),
        "".join(map(str, closing)),
        base64.b64encode(stored.getbuffer()).decode("ascii"),
    )


class ServedDecoder:
    """See `generation.Decoder`. All questions of a call are sent at once; the server batches."""

    def __init__(self, checkpoint: Checkpoint, prefix: ServedPrefix, server: Server) -> None:
        self.prefix, self.server = prefix, server
        self._checkpoint = checkpoint

    @property
    def prefix_tokens(self) -> int:
        """Number of tokens that all questions share."""
        return len(self.prefix.ids)

    def together(self, prompts: Sequence[Prompt], most: int) -> list[int]:
        """The first `most` prompts."""
        return list(range(min(len(prompts), most)))

    def decode(self, prompts: Sequence[Prompt]) -> Generator[Progress, None, None]:
        """Generate all answers; one that ends with an error ends alone."""
        started = time.perf_counter()
        events: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        waiting: dict[int, Future[None]] = {}
        try:
            for index, prompt in enumerate(prompts):
                try:
                    body = self._body(prompt)
                except QueryError as refusal:
                    yield Progress(index, True, refusal.with_traceback(None))
                    continue
                waiting[index] = self.server.start(body, _to(events, index))
            while waiting:
                for index in list(waiting):
                    if (reached := _limit(prompts[index])) is not None:
                        waiting.pop(index).cancel()
                        yield Progress(index, True, reached)
                try:
                    index, event = events.get(timeout=_POLL_S)
                except queue.Empty:
                    # Its events come before its end: one that ended, and sent none, was lost.
                    for index in [one for one, call in waiting.items() if call.done()]:
                        del waiting[index]
                        lost = ServerError(f"the request to {self.server.url} was lost")
                        yield Progress(index, True, lost)
                    continue
                if index not in waiting:
                    continue
                ended, error = self._take(prompts[index], event, time.perf_counter() - started)
                if ended:
                    waiting.pop(index).cancel()
                yield Progress(index, ended, error)
        finally:
            for call in waiting.values():
                call.cancel()

    def _body(self, prompt: Prompt) -> bytes:
        """The request for a question; raises QueryError for a control token in its text."""
        tokenizer, text = self._checkpoint.tokenizer, prompt.text
        closing = self._checkpoint.prompt_template.closing
        asked = text[: len(text) - len(closing)]
        for mark in tokenizer.all_special_tokens:
            # The server reads such a text as the token.
            if mark in asked:
                raise QueryError(f"the question contains the control token {shown(mark)!r}")
        sampling = prompt.options.sampling
        document: dict[str, Any] = {
            "model": self.server.model,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": self.prefix.before},
                        {"type": "image_embeds", "image_embeds": self.prefix.features},
                        {"type": "text", "text": self.prefix.after + text},
                    ],
                }
            ],
            "stream": True,
            "max_tokens": prompt.options.max_new_tokens,
            "temperature": 0.0 if sampling is None else sampling.temperature,
            "stop_token_ids": sorted(prompt.ends),
            "logprobs": True,
            "return_token_ids": True,
            "add_generation_prompt": False,
        }
        if sampling is not None:
            document |= {"seed": sampling.seed, "top_k": sampling.top_k or -1}
        if prompt.form is not None:
            document["structured_outputs"] = {"regex": constrained.pattern(prompt.form)}
        return json.dumps(document).encode()

    def _take(self, prompt: Prompt, event: Any, elapsed_s: float) -> tuple[bool, Exception | None]:
        """Take what the server sent for a question: whether its answer ended, and with what."""
        generated = prompt.generated
        if event is None:
            return True, None
        if isinstance(event, Exception):
            return True, event
        try:
            read = event.get("prompt_token_ids")
            if read is not None and not self._is_ours(read, prompt):
                return True, self._other_prompt(read, prompt)
            choices = event.get("choices") or []
            if not choices:
                return False, None
            tokens = [int(one) for one in choices[0].get("token_ids") or []]
            details = (choices[0].get("logprobs") or {}).get("content") or []
            chances = [math.exp(float(one["logprob"])) for one in details]
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
            return True, ServerError(f"{self.server.url} sent an event of another form")
        for place, token in enumerate(tokens):
            if not generated.prefill_s:
                generated.prefill_s = elapsed_s
            generated.decode_s = elapsed_s - generated.prefill_s
            if token in prompt.ends:
                return True, None
            if place >= len(chances) or not 0 <= chances[place] <= 1.001:
                return True, ModelOutputError(
                    f"{self.server.url} sent no probability of token {len(generated.token_ids)}"
                )
            generated.append(token, min(1.0, chances[place]))
            if generated.is_stopped:
                return True, None
        return False, None

    def _is_ours(self, read: Sequence[int], prompt: Prompt) -> bool:
        """Whether the server read our prompt: with one image placeholder, or one for each token."""
        ours = [*self.prefix.ids, *prompt.ids]
        return list(read) in (ours, _collapsed(ours, self._checkpoint.model.config.image_token_id))

    def _other_prompt(self, read: Sequence[int], prompt: Prompt) -> ServerError:
        ours = len(self.prefix.ids) + len(prompt.ids)
        return ServerError(
            f"{self.server.url} read another prompt than ours ({len(read)} tokens, ours {ours}): "
            f"its model {shown(self.server.model)!r} has another tokenizer or chat template; start "
            "it with sdvlm serve"
        )


def _collapsed(ids: Sequence[int], image_id: int) -> list[int]:
    """The ids with one image placeholder instead of all that follow one another."""
    return [one for at, one in enumerate(ids) if one != image_id or at == 0 or ids[at - 1] != one]


def _to(events: queue.SimpleQueue[tuple[int, Any]], index: int) -> Callable[[Any], None]:
    return lambda event: events.put((index, event))


def _limit(prompt: Prompt) -> Exception | None:
    """The error of a question whose deadline passed or that is canceled."""
    try:
        prompt.options.check(f"{len(prompt.generated.token_ids)} tokens")
    except (QueryTimeout, QueryCanceled) as error:
        return error.with_traceback(None)
    return None
