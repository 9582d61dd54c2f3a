"""The token loop: questions about one frame -> the tokens of their answers, decoded together.

One forward pass makes the next token of every question: a pass reads all weights once, whether it
has one row or ten. An answer ends at the end-of-sequence token, the template's stop text or its
token limit; its deadline and its cancellation end it alone. Does not know frames, how a cache is
kept (`Rows`), or what the text means.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import cv2
import torch

from sdvlm_core.answer import Quantity
from sdvlm_core.errors import ModelMemoryError, ModelOutputError, QueryCanceled, QueryTimeout
from sdvlm_core.model import constrained
from sdvlm_core.model.generated import Generated
from sdvlm_core.model.generation_options import GenerationOptions, Sampling

# Tokens of one forward pass over a prompt; deadline and cancellation are checked between two
# passes. A GPU gets 2048: a pass of a 7B model takes as long to launch as its 739 tokens to compute
# (H200: a frame opens in 84 ms in one pass, in 153 ms in passes of 256).
_CPU_CHUNK, _GPU_CHUNK = 256, 2048


class Rows(Protocol):
    """A model and a key/value cache with one row for each question.

    Logits are (rows, vocabulary) float32 on the device of the cache.
    """

    def prefill(self, prompts: Sequence[list[int]]) -> Iterator[tuple[int, torch.Tensor]]:
        """Read the prompts, in parts: the tokens read so far, and the logits after them."""

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append one token (rows,) to each row; the logits of the next ones."""

    def keep(self, rows: list[int]) -> None:
        """Keep only these rows, in this order."""

    def close(self) -> None:
        """The rows are not used any more."""


@dataclass(frozen=True, eq=False)
class Prompt:
    """One question of a batch.

    Attributes:
        ids: of the question.
        text: of the question: what follows the image, to the last character of the template.
        generated: empty; filled in place.
        options: limits and choice of tokens.
        ends: the ids that end an answer.
        form: the answer is the JSON form of this quantity (`constrained`); None = free text.
            Probabilities are those among the tokens that the form allows.
    """

    ids: list[int]
    text: str
    generated: Generated
    options: GenerationOptions
    ends: frozenset[int]
    form: Quantity | None = None

    @property
    def is_greedy(self) -> bool:
        """Whether the most likely token is taken, whichever it is."""
        return self.options.sampling is None and self.form is None


class Progress(NamedTuple):
    """An answer has a token more, or has ended: completely, or with an error.

    `prompt` is its index in the batch.
    """

    prompt: int
    ended: bool = False
    error: Exception | None = None


class Decoder(Protocol):
    """Where the questions about one opened frame are answered: here, or on a server."""

    @property
    def prefix_tokens(self) -> int:
        """Number of tokens that all questions share."""

    def together(self, prompts: Sequence[Prompt], most: int) -> list[int]:
        """The indices of the prompts to decode now, at least one and at most `most`."""

    def decode(self, prompts: Sequence[Prompt]) -> Generator[Progress, None, None]:
        """Generate the answers of these prompts, into their `generated`.

        An answer ends with QueryTimeout, QueryCanceled or another error of its own.

        Raises:
            SdvlmError: ends all answers.
        """


def mask_non_text(logits: torch.Tensor, image_token_id: int, vocabulary: int) -> torch.Tensor:
    """Set the logits (..., rows) of tokens that are not text to -inf, in place.

    These tokens are the image placeholder and the padding of the vocabulary.
    """
    if image_token_id < logits.shape[-1]:
        logits[..., image_token_id] = -math.inf
    logits[..., vocabulary:] = -math.inf
    return logits


def chunks(length: int, device: torch.device) -> Iterator[tuple[int, int]]:
    """The parts of a prompt that suit the device: start and end of each."""
    size = _CPU_CHUNK if device.type == "cpu" else _GPU_CHUNK
    for start in range(0, length, size):
        yield start, min(start + size, length)


def generate(
    rows: Rows, prompts: Sequence[Prompt], device: torch.device
) -> Generator[Progress, None, None]:
    """Generate the answers of all prompts together, into their `generated`.

    An answer ends with QueryTimeout or QueryCanceled between two tokens or two parts of the
    prompts, or with ModelOutputError if the model computes a value that is not finite; the others
    go on.

    Raises:
        ModelMemoryError: out of memory; ends all answers.
        ModelOutputError: the tokenizer cannot spell a constrained answer; ends all answers.
    """
    started = time.perf_counter()
    batch = _Batch(rows, prompts, device)
    yield from batch.check("0 tokens")
    if not batch.active:
        return
    parts = rows.prefill([prompt.ids for prompt in prompts])
    longest = max(len(prompt.ids) for prompt in prompts)
    while True:
        with _computing():
            part = next(parts, None)
        if part is None:
            break
        done, logits = part
        if done < longest:
            yield from batch.check(f"{done} of {longest} tokens of the prompt")
            if not batch.active:
                return
    with _computing():
        logits = batch.compact(logits)
    count = 0
    while True:
        with _computing():
            tokens, probabilities = batch.choose(logits)
            chosen = _to_host(tokens, probabilities)
            # The host reads a token while the device computes the next one.
            ahead = rows.step(tokens) if device.type == "cuda" and batch.goes_on(count) else None
            values = chosen()
        yield from batch.append(values, time.perf_counter() - started)
        count += 1
        yield from batch.check(f"{count} tokens")
        if not batch.active:
            return
        with _computing():
            following = batch.compact(tokens if ahead is None else ahead)
            logits = rows.step(following) if ahead is None else following


class _Batch:
    """The answers that are not complete, and the rows of the cache that they have."""

    def __init__(self, rows: Rows, prompts: Sequence[Prompt], device: torch.device) -> None:
        self._rows, self._prompts = rows, prompts
        self._in_cache = list(range(len(prompts)))  # the prompt of each row
        self.active = list(self._in_cache)
        self._choosers = [_chooser(prompt, device) for prompt in prompts]
        self._all_greedy = all(prompt.is_greedy for prompt in prompts)

    def check(self, progress: str) -> Iterator[Progress]:
        """End the answers whose limits are reached."""
        for index in list(self.active):
            options = self._prompts[index].options
            try:
                options.check(progress)
            except (QueryTimeout, QueryCanceled) as error:
                # Its traceback would keep the cache as long as somebody keeps the exception.
                yield self._end(index, error.with_traceback(None))
                continue
            if len(self._prompts[index].generated.token_ids) >= options.max_new_tokens:
                yield self._end(index)

    def compact(self, values: torch.Tensor) -> torch.Tensor:
        """Remove the rows of ended answers from the cache, and from a tensor of its rows."""
        if len(self._in_cache) == len(self.active):
            return values
        kept = [row for row, index in enumerate(self._in_cache) if index in self.active]
        self._rows.keep(kept)
        self._in_cache = list(self.active)
        return values[torch.tensor(kept, device=values.device)]

    def choose(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The next token of each row, and its probability, on the device."""
        if self._all_greedy:
            tokens = logits.argmax(-1)
        else:
            allowed = [self._restricted(i, row) for i, row in zip(self.active, logits, strict=True)]
            logits = torch.stack(allowed)
            pairs = zip(self.active, logits, strict=True)
            tokens = torch.stack([self._choosers[index](row) for index, row in pairs])
        return tokens, logits.softmax(-1).gather(-1, tokens[:, None])[:, 0]

    def _restricted(self, index: int, logits: torch.Tensor) -> torch.Tensor:
        prompt = self._prompts[index]
        if prompt.form is None:
            return logits
        generated = prompt.generated
        ids = constrained.allowed_tokens(generated.text, prompt.form, generated.tokenizer)
        return _restricted(logits, ids)

    def goes_on(self, count: int) -> bool:
        """Whether the token after the next one may be wanted."""
        return self._all_greedy and any(
            self._prompts[index].options.max_new_tokens > count + 1 for index in self.active
        )

    def append(
        self, values: tuple[Sequence[int], Sequence[float]], elapsed_s: float
    ) -> Iterator[Progress]:
        """Append the chosen tokens, and end the answers that are complete."""
        for index, token, probability in zip(list(self.active), *values, strict=True):
            generated = self._prompts[index].generated
            # One NaN among the logits makes every probability NaN.
            if not math.isfinite(probability):
                yield self._end(index, _not_finite(len(generated.token_ids)))
                continue
            if not generated.prefill_s:
                generated.prefill_s = elapsed_s
            generated.decode_s = elapsed_s - generated.prefill_s
            if token in self._prompts[index].ends:
                yield self._end(index)
                continue
            generated.append(token, probability)
            if generated.is_stopped:
                yield self._end(index)
            else:
                yield Progress(index)

    def _end(self, index: int, error: Exception | None = None) -> Progress:
        self.active.remove(index)
        return Progress(index, True, error)


def _to_host(
    tokens: torch.Tensor, probabilities: torch.Tensor
) -> Callable[[], tuple[list[int], list[float]]]:
    """Start to copy the chosen tokens to the host; the function waits for them."""
    if tokens.device.type != "cuda":
        return lambda: (tokens.tolist(), probabilities.tolist())
    # Into pinned memory: the host would wait for a copy into any other.
    copies = [
        torch.empty(one.shape, dtype=one.dtype, pin_memory=True).copy_(one, non_blocking=True)
        for one in (tokens, probabilities)
    ]
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()

    def wait() -> tuple[list[int], list[float]]:
        copied.synchronize()
        return copies[0].tolist(), copies[1].tolist()

    return wait


def _chooser(prompt: Prompt, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function that chooses a token from logits (vocabulary,) on this device."""
    sampling: Sampling | None = prompt.options.sampling
    if sampling is None:
        return lambda logits: logits.argmax()
    generator = torch.Generator(device).manual_seed(sampling.seed)

    def sample(logits: torch.Tensor) -> torch.Tensor:
        scaled = logits / sampling.temperature
        if 0 < sampling.top_k < len(scaled):
            scaled[scaled < scaled.topk(sampling.top_k).values[-1]] = -math.inf
        # NaN would stop a GPU with an assertion that no later call survives. The token is refused
        # later, whichever is drawn.
        weights = scaled.softmax(-1).nan_to_num_(nan=1.0)
        return torch.multinomial(weights, 1, generator=generator)[0]

    return sample


def _restricted(logits: torch.Tensor, ids: list[int]) -> torch.Tensor:
    """The logits (vocabulary,) with -inf for all other ids.

    Raises:
        ModelOutputError: there are none.
    """
    if not ids:
        raise ModelOutputError("the tokenizer cannot spell the JSON form; set constrained to false")
    chosen = torch.tensor(ids, device=logits.device)
    restricted = torch.full_like(logits, -math.inf)
    restricted[chosen] = logits[chosen]
    return restricted


def _not_finite(count: int) -> ModelOutputError:
    return ModelOutputError(
        f"the model's output is not finite at token {count} of the answer; if its dtype is "
        "float16, load it with bfloat16 or float32, else its weights are damaged"
    )


@contextmanager
def _computing() -> Iterator[None]:
    with memory_guard("answering"), torch.inference_mode():
        yield


@contextmanager
def memory_guard(activity: str) -> Iterator[None]:
    """Raise ModelMemoryError, which names the activity, if memory runs out in the block."""
    try:
        yield
    except (RuntimeError, MemoryError, cv2.error) as error:
        # The allocators of torch (CPU) and OpenCV have no separate exception types.
        if not (
            isinstance(error, (torch.OutOfMemoryError, MemoryError))
            or "allocate memory" in str(error)
            or "Insufficient memory" in str(error)
        ):
            raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise ModelMemoryError(f"out of memory while {activity}: {error}") from error
