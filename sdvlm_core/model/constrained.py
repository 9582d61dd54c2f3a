"""Constrained decoding: after a prefix of an answer, the tokens that keep it in a JSON form.

The form is {"value": 0.25, "unit": "m"}; a count has no unit, and {"value": null} is the answer of
a model that cannot tell. Such an answer needs no grammar to be read, and cannot mention another
object's number. Does not know models, logits or the token loop (`generation`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from weakref import WeakKeyDictionary

from sdvlm_core.answer import Quantity
from sdvlm_core.model.prompt import Tokenizer

#: The quantities whose answer is one number.
QUANTITIES = frozenset(
    {
        Quantity.HEIGHT,
        Quantity.WIDTH,
        Quantity.LENGTH,
        Quantity.DISTANCE,
        Quantity.GAP,
        Quantity.CAMERA_DISTANCE,
        Quantity.DIFFERENCE,
        Quantity.COUNT,
    }
)
_UNITS = ("m", "cm", "mm", "in", "ft")
_OPENING = '{"value": '
_NULL = "null}"
#: A number as far as it is written: at most four digits before the point and four after it.
_NUMBER = re.compile(r"(?:0|[1-9]\d{0,3})(?:\.\d{0,4})?")
_COUNT = re.compile(r"0|[1-9]\d{0,3}")
#: A known text in front of a token: a tokenizer decodes a lone token without its leading space.
_ANCHOR = "."


def instruction(quantity: Quantity) -> str:
    """The sentence that tells a model the form; follows the question."""
    unit = "" if quantity is Quantity.COUNT else ', "unit": "m"'
    return (
        f'Answer in JSON: {{"value": number{unit}}}. If you cannot tell, answer {{"value": null}}.'
    )


def is_prefix(text: str, quantity: Quantity) -> bool:
    """Whether an answer of the form may start with this text."""
    if len(text) <= len(_OPENING):
        return _OPENING.startswith(text)
    if not text.startswith(_OPENING):
        return False
    rest = text[len(_OPENING) :]
    if _NULL.startswith(rest):
        return True
    number = (_COUNT if quantity is Quantity.COUNT else _NUMBER).match(rest)
    if number is None:
        return False
    after = rest[number.end() :]
    if number[0].endswith("."):
        return not after
    return any(ending.startswith(after) for ending in _endings(quantity))


def is_complete(text: str, quantity: Quantity) -> bool:
    """Whether the text is a whole answer of the form."""
    return text.endswith("}") and is_prefix(text, quantity)


def pattern(quantity: Quantity) -> str:
    """The form as a regular expression, for an engine that is constrained by one."""
    opening = re.escape(_OPENING)
    if quantity is Quantity.COUNT:
        return rf"{opening}(null|{_COUNT.pattern})\}}"
    units = "|".join(_UNITS)
    return rf'{opening}(null|(0|[1-9]\d{{0,3}})(\.\d{{1,4}})?, "unit": "({units})")\}}'


def _endings(quantity: Quantity) -> tuple[str, ...]:
    if quantity is Quantity.COUNT:
        return ("}",)
    return tuple(f', "unit": "{unit}"}}' for unit in _UNITS)


@dataclass(frozen=True, eq=False)
class _Vocabulary:
    """The text that each token appends, and the tokens by the first character of it."""

    texts: Sequence[str]
    by_start: dict[str, list[int]]


_VOCABULARIES: WeakKeyDictionary[Tokenizer, _Vocabulary] = WeakKeyDictionary()


def allowed_tokens(text: str, quantity: Quantity, tokenizer: Tokenizer) -> list[int]:
    """The ids of the tokens that may follow a text of the form; the end token after all of it.

    Empty if the tokenizer cannot spell the form.
    """
    text = text.lstrip()
    if is_complete(text, quantity):
        return [tokenizer.eos_token_id]
    vocabulary = _vocabulary(tokenizer)
    return [
        token
        for start in _next_characters(text, quantity)
        for token in vocabulary.by_start.get(start, ())
        if is_prefix(text + vocabulary.texts[token], quantity)
    ]


@lru_cache(maxsize=1024)
def _next_characters(text: str, quantity: Quantity) -> tuple[str, ...]:
    characters = sorted(set(_OPENING + _NULL + "0123456789." + "".join(_endings(quantity))))
    return tuple(one for one in characters if is_prefix(text + one, quantity))


def _vocabulary(tokenizer: Tokenizer) -> _Vocabulary:
    """Built once for each tokenizer: every token is decoded behind an anchor."""
    found = _VOCABULARIES.get(tokenizer)
    if found is not None:
        return found
    (*_, anchor) = tokenizer.encode(_ANCHOR, add_special_tokens=False)
    before = tokenizer.decode([anchor], skip_special_tokens=True)
    special = set(tokenizer.all_special_ids)
    texts: list[str] = []
    by_start: dict[str, list[int]] = defaultdict(list)
    for token in range(len(tokenizer)):
        both = "" if token in special else tokenizer.decode([anchor, token])
        text = both[len(before) :] if both.startswith(before) else ""
        texts.append(text)
        if text:
            by_start[text[0]].append(token)
    vocabulary = _Vocabulary(texts, dict(by_start))
    _VOCABULARIES[tokenizer] = vocabulary
    return vocabulary
