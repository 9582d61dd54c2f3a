"""The token loop: prompt ids and a forward step -> token ids, their probabilities and text.

Greedy or sampled, one answer at a time. The loop ends at the end-of-sequence token, the template's
stop text, the token limit, a deadline, or a cancellation. Does not know frames, the key/value
cache, or what the text means.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import cv2
import torch

from sdvlm_core.errors import ModelMemoryError, ModelOutputError
from sdvlm_core.model.generation_options import GenerationOptions, Limits, Sampling
from sdvlm_core.model.prompt import Tokenizer

# Tokens of one forward pass over a prompt; deadline and cancellation are checked between two
# passes. A GPU gets 2048: a pass of a 7B model takes as long to launch as its 739 tokens to compute
# (H200: a frame opens in 84 ms in one pass, in 153 ms in passes of 256).
_CPU_CHUNK, _GPU_CHUNK = 256, 2048
_REPLACEMENT = "\ufffd"  # a decoder's output for an incomplete UTF-8 character


@dataclass(eq=False)
class Generated:
    """The tokens generated so far.

    Attributes:
        tokenizer: turns ids into text.
        stop: the text ends before this string; "" = no such string.
        token_ids: without the end-of-sequence token.
        probabilities: the probability of each token when it was chosen.
        prefill_s: seconds until the first token was chosen.
        decode_s: seconds after that; 0 until the loop ends.
    """

    tokenizer: Tokenizer
    stop: str = ""
    token_ids: list[int] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    prefill_s: float = 0.0
    decode_s: float = 0.0

    @property
    def text(self) -> str:
        """The text up to the stop string."""
        return truncated(self._decoded(), self.stop)

    @property
    def token_texts(self) -> list[str]:
        """The text of each token, decoded alone."""
        return [self.tokenizer.decode([token]) for token in self.token_ids]

    def is_stopped(self) -> bool:
        """Whether the stop string was generated."""
        return bool(self.stop) and self.stop in self._decoded()

    def is_stable(self) -> bool:
        """Whether later tokens only append to `text`.

        Not while the text ends in an incomplete character or in the start of a stop string.
        """
        text = self.text
        partial = (self.stop[:length] for length in range(1, len(self.stop)))
        return not text.endswith((_REPLACEMENT, *partial))

    def _decoded(self) -> str:
        return self.tokenizer.decode(self.token_ids, skip_special_tokens=True)


def truncated(text: str, stop: str) -> str:
    """The text before the stop string; all of it where the string is empty or missing."""
    return text.split(stop, 1)[0] if stop else text


def mask_non_text(logits: torch.Tensor, image_token_id: int, vocabulary: int) -> torch.Tensor:
    """Set the logits (..., rows) of tokens that are not text to -inf, in place.

    These tokens are the image placeholder and the padding of the vocabulary.
    """
    logits[..., image_token_id] = -math.inf
    logits[..., vocabulary:] = -math.inf
    return logits


def generate(
    step: Callable[[list[int]], torch.Tensor],
    prompt_ids: list[int],
    generated: Generated,
    options: GenerationOptions,
    device: torch.device,
    allowed: Callable[[str], list[int]] | None = None,
) -> Generator[int, None, None]:
    """Generate tokens into `generated`, and yield each.

    Args:
        step: a forward pass over token ids that extends the cache; returns the logits
            (vocabulary,) of the next token.
        prompt_ids: ids of the question.
        generated: empty; filled in place.
        device: of the model.
        allowed: the ids that may follow a text; None = any. Probabilities are those among them.

    Raises:
        QueryTimeout, QueryCanceled: between two tokens, or two chunks of the prompt.
        ModelMemoryError: out of memory.
        ModelOutputError: the model computed a value that is not finite.
    """
    end, ids = generated.tokenizer.eos_token_id, prompt_ids
    choose: Callable[[torch.Tensor], int] | None = None
    started = time.perf_counter()
    for count in range(options.max_new_tokens):
        options.check(f"{count} tokens")
        with memory_guard("answering"), torch.inference_mode():
            logits = prefill(step, ids, options, device)
            if allowed is not None:
                logits = _restricted(logits, allowed(generated.text))
            choose = choose or _chooser(options.sampling, logits.device)
            token = choose(logits)
            probability = float(logits.softmax(-1)[token])
        # One NaN among the logits makes every probability NaN. This one is on the host already.
        if not math.isfinite(probability):
            raise ModelOutputError(
                f"the model's output is not finite at token {count} of the answer; if its dtype is "
                "float16, load it with bfloat16 or float32, else its weights are damaged"
            )
        generated.prefill_s = generated.prefill_s or time.perf_counter() - started
        if token == end:
            break
        generated.token_ids.append(token)
        generated.probabilities.append(probability)
        ids = [token]
        yield token
        if generated.is_stopped():
            break
    generated.decode_s = time.perf_counter() - started - generated.prefill_s


def prefill(
    step: Callable[[list[int]], torch.Tensor],
    ids: list[int],
    limits: Limits,
    device: torch.device,
) -> torch.Tensor:
    """`step` over all ids in chunks that suit the device; the logits (vocabulary,) of the last one.

    Raises:
        QueryTimeout, QueryCanceled: between two chunks.
    """
    chunk = _CPU_CHUNK if device.type == "cpu" else _GPU_CHUNK
    for end in range(chunk, len(ids), chunk):
        step(ids[end - chunk : end])
        limits.check(f"{end} of {len(ids)} tokens of the prompt")
    return step(ids[(len(ids) - 1) // chunk * chunk :])


def incremental_text(tokens: Iterable[int], generated: Generated) -> Iterator[str]:
    """Consume tokens of `generate` and yield the new part of the text as soon as it is stable.

    The joined parts equal `generated.text`.
    """
    emitted = 0
    for _ in tokens:
        text = generated.text
        if len(text) > emitted and generated.is_stable():
            yield text[emitted:]
            emitted = len(text)
    rest = generated.text[emitted:]
    if rest:
        yield rest


def _chooser(sampling: Sampling | None, device: torch.device) -> Callable[[torch.Tensor], int]:
    """The function that chooses a token id from logits (vocabulary,) on this device."""
    if sampling is None:
        return lambda logits: int(logits.argmax())
    generator = torch.Generator(device).manual_seed(sampling.seed)

    def sample(logits: torch.Tensor) -> int:
        scaled = logits / sampling.temperature
        if 0 < sampling.top_k < len(scaled):
            scaled[scaled < scaled.topk(sampling.top_k).values[-1]] = -math.inf
        # NaN would stop a GPU with an assertion that no later call survives. `generate` refuses
        # the token, whichever is drawn.
        weights = scaled.softmax(-1).nan_to_num_(nan=1.0)
        return int(torch.multinomial(weights, 1, generator=generator))

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
