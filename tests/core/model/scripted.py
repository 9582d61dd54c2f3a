"""A model that continues every prompt with a given text, for the token loop without weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from sdvlm_core.model.generated import Generated
from sdvlm_core.model.generation import Prompt, chunks, generate
from sdvlm_core.model.generation_options import GenerationOptions

END, VOCABULARY = 0, 256
CPU = torch.device("cpu")


class ByteTokenizer:
    """Token id = byte of UTF-8 text; 0 ends the sequence."""

    bos_token_id = None
    eos_token_id = END
    unk_token_id = None
    all_special_ids = (END,)

    def __len__(self) -> int:
        return VOCABULARY

    def encode(
        self, text: str, *, add_special_tokens: bool, split_special_tokens: bool = False
    ) -> list[int]:
        return list(text.encode())

    def decode(self, ids: list[int], *, skip_special_tokens: bool = False) -> str:
        return bytes(ids).decode(errors="replace")


class ScriptedRows:
    """`generation.Rows`: row n continues with text n, as if its cache held it.

    Attributes:
        passes: the number of rows of each forward pass after the prompts.
        parts: what was read of the prompts, tokens, after each part.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._scripts = [[*text.encode(), END] for text in texts]
        self._at = [0] * len(texts)
        self.passes: list[int] = []
        self.parts: list[int] = []

    def prefill(self, prompts: Sequence[list[int]]) -> Iterator[tuple[int, torch.Tensor]]:
        for _, end in chunks(max(map(len, prompts)), CPU):
            self.parts.append(end)
            yield end, self._logits()

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        self.passes.append(len(tokens))
        for row, token in enumerate(tokens.tolist()):
            assert token == self._scripts[row][self._at[row]]  # the token of this row
            self._at[row] += 1
        return self._logits()

    def keep(self, rows: list[int]) -> None:
        self._scripts = [self._scripts[row] for row in rows]
        self._at = [self._at[row] for row in rows]

    def _logits(self) -> torch.Tensor:
        pairs = zip(self._scripts, self._at, strict=True)
        ids = torch.tensor([script[min(at, len(script) - 1)] for script, at in pairs])
        return torch.nn.functional.one_hot(ids, VOCABULARY) * 9.0


class ConstantRows:
    """`generation.Rows` whose logits are those of a function, whatever was chosen."""

    def __init__(self, logits: Callable[[], torch.Tensor]) -> None:
        self._one, self._count = logits, 0

    def prefill(self, prompts: Sequence[list[int]]) -> Iterator[tuple[int, torch.Tensor]]:
        self._count = len(prompts)
        yield max(map(len, prompts)), self._logits()

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        return self._logits()

    def keep(self, rows: list[int]) -> None:
        self._count = len(rows)

    def _logits(self) -> torch.Tensor:
        return torch.stack([self._one() for _ in range(self._count)])


def prompt(stop: str = "", length: int = 2, **options: object) -> Prompt:
    tokenizer = ByteTokenizer()
    ends = frozenset((tokenizer.eos_token_id,))
    return Prompt([1] * length, "", Generated(tokenizer, stop), GenerationOptions(**options), ends)


def answers(texts: Sequence[str], prompts: Sequence[Prompt]) -> list[Exception | None]:
    """Generate; the exception of each prompt."""
    ended = {}
    for index, end, error in generate(ScriptedRows(texts), prompts, CPU):
        assert index not in ended
        if end:
            ended[index] = error
    return [ended[index] for index in range(len(prompts))]
