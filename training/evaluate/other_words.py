"""Answers in other words than their question's, put into words that `sdvlm_core.language` reads.

"The stool is in front of the bed" answers which one is closer, "it has the greater height" which
one is taller. The node does not read these, because a robot may mean another thing by them; a judge
knows what was asked. Every change is one of words, and none of what is stated. Does not know
references.
"""

from __future__ import annotations

import re

_STANDS = r"\b(?:is|are|stands?|hangs?)"
#: Asked relations, what an answer says instead, and the words of the question.
_PLACES = [
    (("closer", "farther"), re.compile(r"\bin front of\b", re.I), "closer than"),
    (("closer", "farther"), re.compile(r"\bbehind\b", re.I), "farther than"),
    (("higher", "lower"), re.compile(rf"{_STANDS} above\b", re.I), "is higher than"),
    (("higher", "lower"), re.compile(rf"{_STANDS} below\b", re.I), "is lower than"),
]
_LESS = re.compile(r"\bnot (?:quite |nearly )?(?:as|so) (\w{3,6}) as\b", re.I)
_LESS_THAN = {
    **dict.fromkeys(("tall", "high"), "shorter than"),
    "wide": "narrower than",
    "long": "shorter than",
    **dict.fromkeys(("large", "big"), "smaller than"),
    "small": "larger than",
    **dict.fromkeys(("close", "near"), "farther than"),
    "far": "closer than",
}
_MORE_WORDS = ("greater", "larger", "bigger")
_MORE = re.compile(
    rf"\b(?:has|have) (?:a|the) ({'|'.join(_MORE_WORDS)}|smaller|lower|lesser) (\w{{4,8}})\b", re.I
)
_MORE_THAN = {
    "height": ("is taller", "is shorter"),
    "width": ("is wider", "is narrower"),
    "length": ("is longer", "is shorter"),
    "size": ("is larger", "is smaller"),
    "distance": ("is farther", "is closer"),
}
_SINGLE = re.compile(r"\ba single\b", re.I)
#: "0.6 m (length), and 0.4 m (height)"
_LABELLED_LIST = re.compile(r"\),? and (?=\d)")
_AWAY = re.compile(r"\b(is|are|was|were) (?:missing|absent) from\b", re.I)
_IT_IS_NOT = re.compile(
    r"^(?:it|that|this object|the object) (?:is not|isn't|cannot be|can't be|does not|doesn't) "
    r"(?:visible|present|there|shown|seen|found|exist|appear)\b"
    r"(?! (?:clearly|fully|entirely|enough))",
    re.I,
)


def of_comparisons(text: str, relation: str) -> str:
    """A text that answers which object is `relation`, or whether it is."""
    text = _LESS.sub(lambda match: _LESS_THAN.get(match[1].lower(), match[0]), text)
    text = _MORE.sub(_more_than, text)
    for relations, pattern, words in _PLACES:
        if relation in relations:
            text = pattern.sub(words, text)
    return text


def _more_than(match: re.Match[str]) -> str:
    """ "has a greater height" -> "is taller"."""
    words = _MORE_THAN.get(match[2].lower())
    if words is None:
        return match[0]
    return words[match[1].lower() not in _MORE_WORDS]


def of_counts(text: str) -> str:
    """A text that answers how many: a single one is one."""
    return _SINGLE.sub("one", text)


def of_sizes(text: str) -> str:
    """A text that answers a size: a list with its sides in parentheses."""
    return _LABELLED_LIST.sub("), ", text)


def of_denials(text: str) -> str:
    """A text that may deny an object: what is missing is not visible."""
    return _AWAY.sub(r"\1 not visible in", text)


def denies_it(text: str) -> bool:
    """Whether a text denies "it", of the one object that was asked about."""
    return _IT_IS_NOT.search(text.strip()) is not None
