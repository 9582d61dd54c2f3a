"""The tokens and the text of one answer while it is generated.

Does not know models or when an answer ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sdvlm_core.model.prompt import Tokenizer

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
        decode_s: seconds after that; 0 until the answer is complete.
    """

    tokenizer: Tokenizer
    stop: str = ""
    token_ids: list[int] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    prefill_s: float = 0.0
    decode_s: float = 0.0
    _decoded: str = ""
    _taken: int = 0

    def append(self, token: int, probability: float) -> None:
        """Add the next token."""
        self.token_ids.append(token)
        self.probabilities.append(probability)
        self._decoded = self.tokenizer.decode(self.token_ids, skip_special_tokens=True)

    @property
    def text(self) -> str:
        """The text up to the stop string."""
        return truncated(self._decoded, self.stop)

    @property
    def token_texts(self) -> list[str]:
        """The text of each token, decoded alone."""
        return [self.tokenizer.decode([token]) for token in self.token_ids]

    @property
    def is_stopped(self) -> bool:
        """Whether the stop string was generated."""
        return bool(self.stop) and self.stop in self._decoded

    def take(self, complete: bool = False) -> str:
        """The text since the last call; the joined parts equal `text`.

        Args:
            complete: no token follows. Otherwise a text that ends in an incomplete character, or in
                the start of a stop string, waits: a later token may change it.
        """
        text = self.text
        partial = (self.stop[:length] for length in range(1, len(self.stop)))
        if not complete and text.endswith((_REPLACEMENT, *partial)):
            return ""
        part, self._taken = text[self._taken :], max(self._taken, len(text))
        return part


def truncated(text: str, stop: str) -> str:
    """The text before the stop string; all of it where the string is empty or missing."""
    return text.split(stop, 1)[0] if stop else text
