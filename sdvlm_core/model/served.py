"""A model behind a vLLM server: frames are encoded here, questions are read and answered there.

    server = Server("http://gpu-box:8000", "sd-vlm-7b", key_from_environment())
    engine = SpatialEngine(image_half, server=server)

Each question is a request to the server's OpenAI-compatible API that has the depth-coded features
of the frame instead of its picture; the server keeps the keys and values of the frame from the
second question on. Every request has the features: vLLM answers wrongly, without an error, if it is
given their name alone. The tokens stream back, and a request whose question ends is closed, which
frees its place on the server.

The server must have the prompt that this process would have: it returns the ids of the prompt it
read, and others than ours are an error. Does not know HTTP (`server`), frames or what an answer
means.
"""

from __future__ import annotations

import base64
import io
import json
import math
import queue
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import torch

from sdvlm_core.errors import (
    ModelOutputError,
    QueryCanceled,
    QueryError,
    QueryTimeout,
    ServerError,
    shown,
)
from sdvlm_core.model import constrained
from sdvlm_core.model.checkpoint import Checkpoint
from sdvlm_core.model.generation import Progress, Prompt
from sdvlm_core.model.server import Server

#: How often limits are looked at while the server sends nothing.
_POLL_S = 0.02


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


@dataclass(eq=False)
class _Asked:
    """A question at the server; `read`: it has read our prompt."""

    prompt: Prompt
    read: bool = False


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
        asked = [_Asked(prompt) for prompt in prompts]
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
                # Looked at before the wait: events come before the end of their request, so one
                # that had ended before, and has no event after it, was lost.
                ended_before = [one for one, call in waiting.items() if call.done()]
                try:
                    index, event = events.get(timeout=_POLL_S)
                except queue.Empty:
                    for index in ended_before:
                        del waiting[index]
                        lost = ServerError(f"the request to {self.server.url} was lost")
                        yield Progress(index, True, lost)
                    continue
                if index not in waiting:
                    continue
                ended, error = self._take(asked[index], event, time.perf_counter() - started)
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

    def _take(self, asked: _Asked, event: Any, elapsed_s: float) -> tuple[bool, Exception | None]:
        """Take what the server sent for a question: whether its answer ended, and with what."""
        prompt, generated = asked.prompt, asked.prompt.generated
        if event is None:
            return True, self._cut(prompt, "")
        if isinstance(event, Exception):
            return True, event
        try:
            read = event.get("prompt_token_ids")
            if read is not None and not self._is_ours(read, prompt):
                return True, self._other_prompt(read, prompt)
            asked.read = asked.read or read is not None
            choices = event.get("choices") or []
            if not choices:
                return False, None
            tokens = [int(one) for one in choices[0].get("token_ids") or []]
            if tokens and not asked.read:
                return True, ServerError(f"{self.server.url} does not say which prompt it has read")
            ended = str(choices[0].get("finish_reason") or "")
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
        if not ended:
            return False, None
        return True, None if ended == "stop" else self._cut(prompt, ended)

    def _cut(self, prompt: Prompt, reason: str) -> ServerError | None:
        """The error of an answer that ends before its end; None = it has all tokens it may have."""
        tokens = len(prompt.generated.token_ids)
        if reason == "length" and tokens >= prompt.options.max_new_tokens:
            return None
        hint = "its --context is full" if reason == "length" else "it may be shutting down"
        return ServerError(
            f"{self.server.url} ended an answer after {tokens} tokens, before its end "
            f"({shown(reason) or 'no reason'}): {hint}"
        )

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
