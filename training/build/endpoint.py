"""A prompt and pictures -> a model's words, from an OpenAI-compatible server or a local model.

Knows HTTP, retries, the cache and what a run cost. Does not know what is asked, nor whether an
answer is right: what comes back is data, to be checked by whoever asked.
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

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
#: (prompt, pictures (H, W, 3) RGB) -> the model's text; raises EndpointError.
Ask = Callable[[str, Sequence[Picture]], str]

#: Longer answers are not read as JSON, nor kept whole.
MAX_TEXT = 4000
_MAX_REASON = 200


class EndpointError(RuntimeError):
    """No answer came, and why; what was asked may be asked again later."""


@dataclass(frozen=True)
class Usage:
    """What a run has cost so far.

    Attributes:
        requests: sent over HTTP, retries included.
        cached: answers that cost no request.
        retries: requests that repeat one that failed.
        prompt_tokens, completion_tokens: as the server counts them; 0 if it does not.
        cost: in the currency of the prices; 0 = prices unknown.
    """

    requests: int = 0
    cached: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


class Endpoint:
    """A chat model behind an OpenAI-compatible server, as an `Ask`.

    Serves one thread. Several processes may share a cache; each keeps its own rate.
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
        """Connects to nothing yet.

        Args:
            url: up to and with "/v1".
            model: its name at the server.
            cache: a directory for answers; it is made.
            key_variable: the environment variable that holds the key; "" = the server wants none.
            per_minute: requests, retries included; 0 = as many as will.
            timeout: seconds without a byte.
            retries: of one request, after 429, 5xx, timeouts and broken connections.
            max_tokens: of an answer.
            json_mode: the server holds the model to one JSON object.
            prompt_price, completion_price: of a million tokens; 0 = unknown.

        Raises:
            EndpointError: the client library or the key is missing.
        """
        try:
            import openai
        except ImportError as error:
            raise EndpointError("the client is missing: pip install openai") from error
        self._key = os.environ.get(key_variable, "").strip() if key_variable else ""
        if key_variable and not self._key:
            raise EndpointError(f"the environment variable {key_variable} holds no key")
        self._model, self._max_tokens, self._cache = model, max_tokens, cache
        self._more: dict[str, Any] = {}
        if json_mode:
            self._more["response_format"] = {"type": "json_object"}
        self._prices = (prompt_price / 1e6, completion_price / 1e6)
        self._spacing = 60.0 / per_minute if per_minute > 0 else 0.0
        self._free_at = 0.0
        self._usage = Usage()
        cache.mkdir(parents=True, exist_ok=True)
        # The library's own retries wait as the server's Retry-After says, else ever longer. Every
        # one of them passes through the hook, so that they are counted and keep the rate too.
        self._client = openai.OpenAI(
            base_url=url,
            api_key=self._key or "none",  # the library refuses an empty one
            timeout=timeout,
            max_retries=retries,
            http_client=openai.DefaultHttpxClient(event_hooks={"request": [self._pace]}),
        )

    @property
    def usage(self) -> Usage:
        """What this endpoint has cost since it was built."""
        return self._usage

    def __call__(self, prompt: str, pictures: Sequence[Picture]) -> str:
        """The model's text, from the cache if the very same was asked before."""
        prompt = encodable(prompt)
        encoded = [_jpeg(picture) for picture in pictures]
        file = self._cache / f"{self._digest(prompt, encoded)}.json"
        text = _stored(file)
        if text is None:
            text = self._ask(prompt, encoded)
            _store(file, {"model": self._model, "text": text})
        else:
            self._usage = replace(self._usage, cached=self._usage.cached + 1)
        return text

    def _digest(self, prompt: str, pictures: Sequence[bytes]) -> str:
        parts = [hashlib.sha256(picture).hexdigest() for picture in pictures]
        whole = json.dumps([self._model, prompt, parts, self._max_tokens, self._more])
        return hashlib.sha256(whole.encode()).hexdigest()

    def _pace(self, _request: object) -> None:
        """Before every request: wait for its turn, and count it."""
        time.sleep(max(0.0, self._free_at - time.monotonic()))
        self._free_at = time.monotonic() + self._spacing
        self._usage = replace(self._usage, requests=self._usage.requests + 1)

    def _ask(self, prompt: str, pictures: Sequence[bytes]) -> str:
        from openai import OpenAIError

        content: list[Any] = [
            {"type": "image_url", "image_url": {"url": _url(p)}} for p in pictures
        ]
        content.append({"type": "text", "text": prompt})
        before = self._usage.requests
        try:
            response = self._client.chat.completions.with_raw_response.create(
                model=self._model,
                # Servers of text models know plain words only.
                messages=[{"role": "user", "content": content if pictures else prompt}],
                max_tokens=self._max_tokens,
                temperature=0,
                **self._more,
            )
        except OpenAIError as error:
            raise EndpointError(self._without_key(str(error))[:_MAX_REASON]) from None
        finally:
            again = max(0, self._usage.requests - before - 1)
            self._usage = replace(self._usage, retries=self._usage.retries + again)
        # Not the library's own reading, which lets anything pass for an answer.
        try:
            body = json.loads(response.content)
            self._count(body.get("usage"))
            text = body["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise EndpointError("malformed response") from error
        if not isinstance(text, str) or not text.strip():
            raise EndpointError("malformed response: no text in it")
        return encodable(text)

    def _count(self, said: object) -> None:
        """Add the tokens that a response says it took."""
        numbers = said if isinstance(said, Mapping) else {}
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

    def _without_key(self, words: str) -> str:
        """Some servers repeat the key that they refuse."""
        return words.replace(self._key, "***") if self._key else words


def local_model(directory: Path, device: str = "cpu", max_tokens: int = 512) -> Ask:
    """A model of transformers' image-text-to-text kind from a directory, as an `Ask`.

    Nothing is downloaded, no code and no pickle of the directory is run, nothing is cached.

    Raises:
        EndpointError: it cannot be loaded from there.
    """
    if not directory.is_dir():  # transformers would take it for a name on the hub
        raise EndpointError(f"{directory} is no directory with a model")
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

    def ask(prompt: str, pictures: Sequence[Picture]) -> str:
        content: list[Any] = [
            {"type": "image", "image": Image.fromarray(picture)} for picture in pictures
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
        except RuntimeError as error:  # out of memory, for one
            raise EndpointError(f"local model: {error}"[:_MAX_REASON]) from error
        said = tokens[0, inputs["input_ids"].shape[1] :]
        return encodable(processor.decode(said, skip_special_tokens=True))

    return ask


def read_object(text: str) -> dict[str, Any] | None:
    """The one JSON object that an answer is, with or without a ```json fence; else None."""
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
    """Without the halves of characters that JSON can spell and no file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _jpeg(picture: Picture) -> bytes:
    bgr = np.ascontiguousarray(picture[..., ::-1])
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def _url(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"


def _stored(file: Path) -> str | None:
    """A cached answer; None without a whole one."""
    try:
        text = json.loads(file.read_text(encoding="utf-8"))["text"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return text if isinstance(text, str) and text else None


def _store(file: Path, answer: Mapping[str, str]) -> None:
    """Whole or not at all, whoever else writes the same."""
    unfinished = file.with_suffix(f".{os.getpid()}")
    unfinished.write_text(json.dumps(answer), encoding="utf-8")
    unfinished.replace(file)
