"""A prompt and images -> the text of a model, behind an OpenAI-compatible server or local.

Knows HTTP, retries, the cache and the cost of a run. Does not know what is asked, nor whether an
answer is right: an answer is untrusted data, which the caller checks.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sdvlm_core.files import write_text
from training.data.images import Rgb, encode_jpeg

#: (prompt, images (H, W, 3) RGB) -> the text of the model; raises EndpointError.
Ask = Callable[[str, Sequence[Rgb]], str]

#: Longer answers are not parsed as JSON; the text of a thought is truncated to it.
MAX_TEXT = 4000
_MAX_REASON_CHARACTERS = 200
_JPEG_QUALITY = 90


class EndpointError(RuntimeError):
    """There is no answer, and why; the same request may succeed later."""


@dataclass(frozen=True)
class Usage:
    """The cost of a run so far.

    Attributes:
        requests: sent over HTTP, including retries.
        cached: answers from the cache, without a request.
        retries: requests that repeat a failed one.
        prompt_tokens, completion_tokens: as counted by the server; 0 if it does not count.
        cost: sum in the currency of the prices; 0 = prices unknown.
    """

    requests: int = 0
    cached: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


class Endpoint:
    """A chat model behind an OpenAI-compatible server, as an `Ask`.

    For one thread. Several processes may share a cache; each limits its own request rate.
    """

    def __init__(
        self,
        url: str,
        model: str,
        cache: Path,
        *,
        key_variable: str = "",
        per_minute: float = 0.0,
        timeout: float = 120.0,
        retries: int = 5,
        max_tokens: int = 512,
        json_mode: bool = False,
        prompt_price: float = 0.0,
        completion_price: float = 0.0,
    ) -> None:
        """Opens no connection yet.

        Args:
            url: base URL, including "/v1".
            model: model name on the server.
            cache: directory of cached answers; created if missing.
            key_variable: environment variable that holds the key; "" = the server needs none.
            per_minute: maximum request rate, including retries; 0 = unlimited.
            timeout: seconds without a byte.
            retries: maximum per request, after 429, 5xx, timeouts and broken connections.
            max_tokens: maximum length of an answer.
            json_mode: the server forces the answer to be one JSON object.
            prompt_price, completion_price: per million tokens; 0 = unknown.

        Raises:
            EndpointError: the client library or the key is missing.
        """
        try:
            import openai
        except ImportError as error:
            raise EndpointError("the client library is missing: pip install openai") from error
        self._key = os.environ.get(key_variable, "").strip() if key_variable else ""
        if key_variable and not self._key:
            raise EndpointError(f"the environment variable {key_variable} is empty or not set")
        self._model, self._max_tokens, self._cache = model, max_tokens, cache
        self._more: dict[str, Any] = {}
        if json_mode:
            self._more["response_format"] = {"type": "json_object"}
        self._prices = (prompt_price / 1e6, completion_price / 1e6)
        self._spacing_s = 60.0 / per_minute if per_minute > 0 else 0.0
        self._next_request_s = 0.0
        self._usage = Usage()
        cache.mkdir(parents=True, exist_ok=True)
        # The library's retries obey Retry-After or back off exponentially. Each of them passes
        # through the hook, so that it is counted and obeys the request rate.
        self._client = openai.OpenAI(
            base_url=url,
            api_key=self._key or "none",  # the library refuses an empty one
            timeout=timeout,
            max_retries=retries,
            http_client=openai.DefaultHttpxClient(event_hooks={"request": [self._pace]}),
        )

    @property
    def usage(self) -> Usage:
        """The cost of this endpoint since it was created."""
        return self._usage

    def __call__(self, prompt: str, images: Sequence[Rgb]) -> str:
        """The text of the model, from the cache if the same request was answered before."""
        prompt = encodable(prompt)
        encoded = [encode_jpeg(image, _JPEG_QUALITY) for image in images]
        file = self._cache / f"{self._digest(prompt, encoded)}.json"
        text = _stored(file)
        if text is None:
            text = self._ask(prompt, encoded)
            write_text(file, json.dumps({"model": self._model, "text": text}))
        else:
            self._usage = replace(self._usage, cached=self._usage.cached + 1)
        return text

    def _digest(self, prompt: str, images: Sequence[bytes]) -> str:
        parts = [hashlib.sha256(image).hexdigest() for image in images]
        whole = json.dumps([self._model, prompt, parts, self._max_tokens, self._more])
        return hashlib.sha256(whole.encode()).hexdigest()

    def _pace(self, _request: object) -> None:
        """Runs before every request: limits the rate, and counts it."""
        time.sleep(max(0.0, self._next_request_s - time.monotonic()))
        self._next_request_s = time.monotonic() + self._spacing_s
        self._usage = replace(self._usage, requests=self._usage.requests + 1)

    def _ask(self, prompt: str, images: Sequence[bytes]) -> str:
        from openai import OpenAIError

        content: list[Any] = [{"type": "image_url", "image_url": {"url": _url(p)}} for p in images]
        content.append({"type": "text", "text": prompt})
        before = self._usage.requests
        try:
            response = self._client.chat.completions.with_raw_response.create(
                model=self._model,
                # Servers of text-only models accept plain text only.
                messages=[{"role": "user", "content": content if images else prompt}],
                max_tokens=self._max_tokens,
                temperature=0,
                **self._more,
            )
        except OpenAIError as error:
            raise EndpointError(self._without_key(str(error))[:_MAX_REASON_CHARACTERS]) from None
        finally:
            again = max(0, self._usage.requests - before - 1)
            self._usage = replace(self._usage, retries=self._usage.retries + again)
        # Not parsed by the library, which accepts malformed answers.
        try:
            body = json.loads(response.content)
            self._count(body.get("usage"))
            text = body["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise EndpointError("malformed response") from error
        if not isinstance(text, str) or not text.strip():
            raise EndpointError("malformed response: no text in it")
        return encodable(text)

    def _count(self, usage: object) -> None:
        """Add the tokens that a response reports."""
        numbers = usage if isinstance(usage, Mapping) else {}
        prompt, completion = (
            number if isinstance(number := numbers.get(name), int) and 0 < number < 10**9 else 0
            for name in ("prompt_tokens", "completion_tokens")
        )
        self._usage = replace(
            self._usage,
            prompt_tokens=self._usage.prompt_tokens + prompt,
            completion_tokens=self._usage.completion_tokens + completion,
            cost=self._usage.cost + prompt * self._prices[0] + completion * self._prices[1],
        )

    def _without_key(self, message: str) -> str:
        """Hide the key: some servers repeat a key that they refuse."""
        return message.replace(self._key, "***") if self._key else message


def local_model(directory: Path, device: str = "cpu", max_tokens: int = 512) -> Ask:
    """An image-text-to-text model of transformers from a directory, as an `Ask`.

    Downloads nothing, runs no code and no pickle of the directory, caches nothing.

    Raises:
        EndpointError: the directory does not exist, or the model does not load.
    """
    if not directory.is_dir():  # transformers would read it as a name on the hub
        raise EndpointError(f"no directory {directory}: give a directory that holds a model")
    try:
        import torch
        from PIL import Image
        from transformers import AutoModelForImageTextToText, AutoProcessor

        processor = AutoProcessor.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False
        )
        model = AutoModelForImageTextToText.from_pretrained(
            directory,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype="auto",
        ).to(device)
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        raise EndpointError(f"{directory} cannot be loaded: {error}") from error

    def ask(prompt: str, images: Sequence[Rgb]) -> str:
        content: list[Any] = [
            {"type": "image", "image": Image.fromarray(image)} for image in images
        ]
        content.append({"type": "text", "text": encodable(prompt)})
        try:
            inputs = processor.apply_chat_template(
                [{"role": "user", "content": content}],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            ).to(device, dtype=model.dtype)
            with torch.inference_mode():
                tokens = model.generate(**inputs, max_new_tokens=max_tokens, do_sample=False)
        except RuntimeError as error:  # for example out of memory
            raise EndpointError(f"local model: {error}"[:_MAX_REASON_CHARACTERS]) from error
        answer = tokens[0, inputs["input_ids"].shape[1] :]
        return encodable(processor.decode(answer, skip_special_tokens=True))

    return ask


def read_object(text: str) -> dict[str, Any] | None:
    """An answer that is one JSON object, with or without a ```json fence; else None."""
    text = text.strip()
    if len(text) > MAX_TEXT:
        return None
    if text.startswith("```") and text.endswith("```"):
        text = text[3:-3].removeprefix("json")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def encodable(text: str) -> str:
    """The text without lone surrogates, which JSON can hold and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _url(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"


def _stored(file: Path) -> str | None:
    """A cached answer; None if there is none, or its file is damaged."""
    try:
        text = json.loads(file.read_text(encoding="utf-8"))["text"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return text if isinstance(text, str) and text else None
