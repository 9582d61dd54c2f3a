"""nano's tokenizer: byte-level BPE with whole words of the questions and single digits.

It encodes any text, without an unknown token: words outside of the questions become several tokens,
in the end their bytes. Does not know models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from sdvlm_core.model.prompt import TEMPLATES
from training.build.questions import ask_all, make_view
from training.build.wordings import TRAINED
from training.nano.architecture import PROMPT
from training.nano.batches import KINDS
from training.simulate.catalogue import CATEGORIES, COLOURS

SPECIAL = ("<pad>", "<s>", "</s>", "<image>")
_SIZE = 1024


def corpus(graphs: Iterable[tuple[list[dict[str, Any]], int]], seed: int = 0) -> Iterator[str]:
    """Questions and answers about the given (objects, image pixels), and every name once."""
    rng = np.random.default_rng(seed)
    for objects, pixels in graphs:
        view = make_view(objects, pixels, list(COLOURS), CATEGORIES)
        for item in ask_all(view, rng, dict.fromkeys(KINDS, 2), style=TRAINED):
            yield TEMPLATES[PROMPT].around(item.question)
            yield item.answer
    for colour in COLOURS:
        for category in CATEGORIES:
            yield f"\nthe {colour} {category}"


def train_tokenizer(lines: Iterable[str]) -> PreTrainedTokenizerFast:
    """Train byte-pair encoding on `lines`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_SIZE,
        min_frequency=2,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
        extra_special_tokens=["<image>"],
    )


def word_id(tokenizer: PreTrainedTokenizerFast, word: str) -> int:
    """The id of a word inside a sentence; raises ValueError if it is not one token."""
    ids = tokenizer.encode(" " + word, add_special_tokens=False)
    if len(ids) != 1:
        raise ValueError(f"{word!r} is {len(ids)} tokens of the tokenizer, must be one")
    return int(ids[0])
