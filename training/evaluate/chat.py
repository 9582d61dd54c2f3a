"""A chat model behind an OpenAI-compatible server: text with token probabilities, stored on disk.

`training.build.endpoint` returns text only. An evaluation also needs the probability of each token,
servers that accept fewer parameters, and the cost of answers that earlier runs have stored. Knows
HTTP, retries and the stored replies. Does not know questions, depth, nor whether a reply is right:
a reply is untrusted data.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sdvlm_core.files import write_text
from training.build.endpoint import encodable
from training.data.images import Rgb, encode_jpeg

_JPEG_QUALITY = 95
_MAX_REASON_CHARACTERS = 200
_MAX_TOKENS = 10**9
#: Parameters that some servers refuse; the name in the refusal -> what is sent instead.
_REPLACED: dict[str, dict[str, Any]] = {
    "logprobs": {"logprobs": None},
    "temperature": {"temperature": None},
    "max_tokens": {"max_tokens": None, "max_completion_tokens": ...},
}


class ChatError(RuntimeError):
    """This request has no reply, and why; the next one may have."""


class ServerUnusableError(ConnectionError):
    """No request will have a reply: no client library, no key, a refused key, an unknown model."""


@dataclass(frozen=True)
class Reply:
    """The reply to one request.

    Attributes:
        text: what the model said.
        pieces, probabilities: the text and the probability of each token; () = the server has none.
        prompt_tokens, completion_tokens: as counted by the server; 0 if it does not count.
    """

    text: str
    pieces: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class ChatOptions:
    """How a server is asked.

    Attributes:
        key_variable: environment variable that holds the key; "" = the server needs none.
        per_minute: maximum request rate, including retries; 0 = unlimited.
        timeout_s: seconds without a byte.
        retries: maximum per request, after 429, 5xx, timeouts and broken connections.
        max_tokens: maximum length of a reply.
    """

    key_variable: str = ""
    per_minute: float = 0.0
    timeout_s: float = 120.0
    retries: int = 5
    max_tokens: int = 512


class Chat:
    """A chat model on a server, for one thread. Several processes may share the stored replies."""

    def __init__(self, url: str, model: str, store: Path, options: ChatOptions) -> None:
        """Opens no connection yet.

        Args:
            url: base URL, including "/v1".
            model: model name on the server.
            store: directory of stored replies; created if missing.

        Raises:
            ServerUnusableError: the client library or the key is missing.
        """
        try:
            import openai
        except ImportError as error:
            raise ServerUnusableError(
                "the client library is missing: pip install openai"
            ) from error
        variable = options.key_variable
        self._key = os.environ.get(variable, "").strip() if variable else ""
        if variable and not self._key:
            raise ServerUnusableError(f"the environment variable {variable} is empty or not set")
        self._model, self._store = model, store
        self._settings: dict[str, Any] = {
            "logprobs": True,
            "temperature": 0,
            "max_tokens": options.max_tokens,
        }
        self._adapted = dict(self._settings)
        self._spacing_s = 60.0 / options.per_minute if options.per_minute > 0 else 0.0
        self._next_request_s = 0.0
        store.mkdir(parents=True, exist_ok=True)
        # The library's retries obey Retry-After or back off exponentially; each passes the hook.
        self._client = openai.OpenAI(
            base_url=url,
            api_key=self._key or "none",  # the library refuses an empty one
            timeout=options.timeout_s,
            max_retries=options.retries,
            http_client=openai.DefaultHttpxClient(event_hooks={"request": [self._pace]}),
        )

    def __call__(self, prompt: str, images: Sequence[Rgb]) -> Reply:
        """The reply to a prompt after images (H, W, 3) RGB; stored ones are not asked again.

        Raises:
            ChatError: no usable reply.
            ServerUnusableError: the server refuses the key, or does not know the model.
        """
        prompt = encodable(prompt)
        encoded = [encode_jpeg(image, _JPEG_QUALITY) for image in images]
        digests = [hashlib.sha256(image).hexdigest() for image in encoded]
        whole = json.dumps([self._model, prompt, digests, self._settings])
        file = self._store / f"{hashlib.sha256(whole.encode()).hexdigest()}.json"
        reply = _stored(file)
        if reply is None:
            reply = self._ask(prompt, encoded)
            write_text(file, json.dumps(asdict(reply)))
        return reply

    def _pace(self, _request: object) -> None:
        """Runs before every request: limits the rate."""
        time.sleep(max(0.0, self._next_request_s - time.monotonic()))
        self._next_request_s = time.monotonic() + self._spacing_s

    def _ask(self, prompt: str, images: Sequence[bytes]) -> Reply:
        import openai

        content: list[Any] = [{"type": "image_url", "image_url": {"url": _url(p)}} for p in images]
        content.append({"type": "text", "text": prompt})
        for _ in range(len(_REPLACED) + 1):
            try:
                response = self._client.chat.completions.with_raw_response.create(
                    model=self._model,
                    # Servers of text-only models accept plain text only.
                    messages=[{"role": "user", "content": content if images else prompt}],
                    **{name: value for name, value in self._adapted.items() if value is not None},
                )
                return _reply(response.content)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if not self._adapt(str(error)):
                    raise ChatError(self._reason(error)) from None
            except (
                openai.AuthenticationError,
                openai.PermissionDeniedError,
                openai.NotFoundError,
            ) as error:
                raise ServerUnusableError(self._reason(error)) from None
            except openai.OpenAIError as error:
                raise ChatError(self._reason(error)) from None
        raise ChatError("the server refuses every form of the request")

    def _adapt(self, message: str) -> bool:
        """Leave out the parameter that the server refuses; False if it refuses something else."""
        for name, instead in _REPLACED.items():
            if name in message and self._adapted.get(name) is not None:
                limit = self._adapted.get("max_tokens")
                self._adapted |= {
                    key: limit if value is ... else value for key, value in instead.items()
                }
                return True
        return False

    def _reason(self, error: Exception) -> str:
        """The message without the key: some servers repeat a key that they refuse."""
        message = str(error)
        return (message.replace(self._key, "***") if self._key else message)[
            :_MAX_REASON_CHARACTERS
        ]


@dataclass(frozen=True)
class Cost:
    """Tokens of all stored replies, and their price; 0 = the server does not count, or no price."""

    replies: int
    prompt_tokens: int
    completion_tokens: int
    cost: float


def cost_of(store: Path, prompt_price: float = 0.0, completion_price: float = 0.0) -> Cost:
    """The cost of the replies in a directory, those of earlier runs included.

    Args:
        prompt_price, completion_price: per million tokens, in any currency.
    """
    replies = [reply for file in sorted(store.glob("*.json")) if (reply := _stored(file))]
    prompt = sum(reply.prompt_tokens for reply in replies)
    completion = sum(reply.completion_tokens for reply in replies)
    cost = (prompt * prompt_price + completion * completion_price) / 1e6
    return Cost(len(replies), prompt, completion, round(cost, 6))


def _reply(content: bytes) -> Reply:
    """A response of the server. Not parsed by the library, which accepts malformed ones."""
    try:
        body = json.loads(content)
        choice = body["choices"][0]
        text = choice["message"]["content"]
        usage = body.get("usage")
        pieces, probabilities = _tokens(choice.get("logprobs"))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ChatError("malformed response") from error
    if not isinstance(text, str) or not text.strip():
        raise ChatError("malformed response: no text in it")
    counts = usage if isinstance(usage, Mapping) else {}
    prompt, completion = (
        number if isinstance(number := counts.get(name), int) and 0 < number < _MAX_TOKENS else 0
        for name in ("prompt_tokens", "completion_tokens")
    )
    return Reply(encodable(text), pieces, probabilities, prompt, completion)


def _tokens(logprobs: object) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """The tokens of a choice and their probabilities; empty if any of them has none."""
    entries = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not isinstance(entries, list) or not entries:
        return (), ()
    pieces, probabilities = [], []
    for entry in entries:
        token, logarithm = entry.get("token"), entry.get("logprob")
        if not isinstance(token, str) or not isinstance(logarithm, (int, float)):
            return (), ()
        if not logarithm <= 0:  # also NaN
            return (), ()
        pieces.append(encodable(token))
        probabilities.append(math.exp(logarithm))
    return tuple(pieces), tuple(probabilities)


def _stored(file: Path) -> Reply | None:
    """A stored reply; None if there is none, or its file is damaged."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        reply = Reply(**{**found, **{k: tuple(found[k]) for k in ("pieces", "probabilities")}})
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return reply if isinstance(reply.text, str) and reply.text else None


def _url(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"
