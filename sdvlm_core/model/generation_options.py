"""How an answer is generated: when the token loop ends, and how it chooses a token.

Plain data that a request can hold before a model is loaded. Does not import torch.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field

from sdvlm_core.answer import Asked
from sdvlm_core.errors import QueryCanceled, QueryError, QueryTimeout

MAX_NEW_TOKENS = 256


@dataclass(frozen=True)
class Sampling:
    """Sample tokens instead of taking the most likely one; the defaults are SD-VLM's.

    Attributes:
        temperature: logits are divided by it; positive.
        top_k: sample from the k most likely tokens only; 0 = from all.
        seed: seed of the random generator; the same seed gives the same answer on the same machine.

    Raises:
        QueryError: a value is out of range.
    """

    temperature: float = 0.2
    top_k: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0 and self.top_k >= 0):
            raise QueryError(f"temperature must be positive and top_k not negative: {self}")


@dataclass(frozen=True)
class Limits:
    """When work on a request must end.

    Attributes:
        deadline: `time.monotonic()` seconds after which QueryTimeout is raised; None = none.
        cancel: an event that another thread sets to raise QueryCanceled.
    """

    deadline: float | None = None
    cancel: threading.Event | None = None

    def check(self, progress: str) -> None:
        """Raise QueryCanceled or QueryTimeout if the work must end; `progress`: what is done."""
        if self.cancel is not None and self.cancel.is_set():
            raise QueryCanceled(f"canceled after {progress}")
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise QueryTimeout(f"the deadline passed after {progress}")


#: No deadline, no cancellation.
UNLIMITED = Limits()


@dataclass(frozen=True)
class GenerationOptions(Limits):
    """How tokens are chosen and when the loop ends.

    Attributes:
        max_new_tokens: the answer is cut after this many tokens, or at the end of the model's
            context.
        sampling: None = greedy.
        constrained: whether a question for one number is answered in a JSON form
            (`model.constrained`); None = by chat models, as SD-VLM and nano know their own form.
    """

    max_new_tokens: int = MAX_NEW_TOKENS
    sampling: Sampling | None = None
    constrained: bool | None = None


@dataclass(frozen=True)
class Query:
    """A question, typed or in words, and how it is answered."""

    question: str | Asked
    options: GenerationOptions = field(default_factory=GenerationOptions)
