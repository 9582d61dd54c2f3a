"""nano's tokenizer: byte-level BPE with whole words of the questions and single digits.

It encodes any text, without an unknown token: words outside of the questions become several tokens,
in the end their bytes. Does not know models.
"""

from __future__ import annotations

import json
from collections import Counter
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
#: A word that occurs this often becomes one token of an extended tokenizer.
_FREQUENT = 60
#: A merge of one word may change the pieces of another: repeated until all words are whole.
_ROUNDS = 5


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
    return _wrapped(tokenizer)


def _wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
        extra_special_tokens=["<image>"],
    )


def extended(
    tokenizer: PreTrainedTokenizerFast, lines: Iterable[str]
) -> tuple[PreTrainedTokenizerFast, list[list[int]]]:
    """A tokenizer that has frequent words of `lines` as one token, and what the new tokens were.

    Tokens keep their ids, and words that were one token remain one. The new tokens follow: for
    each, the ids of its text before.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary, merges = state["model"]["vocab"], state["model"]["merges"]
    known, split = dict(vocabulary), tokenizer.backend_tokenizer.pre_tokenizer
    counts = Counter(word for line in lines for word, _ in split.pre_tokenize_str(line))
    frequent = [word for word, count in counts.items() if count >= _FREQUENT and len(word) > 1]
    larger = tokenizer.backend_tokenizer
    for _ in range(_ROUNDS):
        whole = True
        for word in sorted(frequent, key=lambda word: (-counts[word], word)):
            pieces = [piece.value for piece in larger.model.tokenize(word)]
            whole = whole and len(pieces) == 1
            for at in range(1, len(pieces)):
                pair = ["".join(pieces[:at]), pieces[at]]
                vocabulary.setdefault("".join(pair), len(vocabulary))
                if pair not in merges:
                    merges.append(pair)
        if whole:
            break
        larger = Tokenizer.from_str(json.dumps(state))
    pieces_of = tokenizer.backend_tokenizer.model.tokenize
    new = sorted(vocabulary.keys() - known.keys(), key=vocabulary.__getitem__)
    return _wrapped(larger), [[piece.id for piece in pieces_of(word)] for word in new]


def word_id(tokenizer: PreTrainedTokenizerFast, word: str) -> int:
    """The id of a word inside a sentence; raises ValueError if it is not one token."""
    ids = tokenizer.encode(" " + word, add_special_tokens=False)
    if len(ids) != 1:
        raise ValueError(f"{word!r} is {len(ids)} tokens of the tokenizer, must be one")
    return int(ids[0])
