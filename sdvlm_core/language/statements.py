"""Quantities -> statements: assigns to each number its measure ("width") and its object.

Reads a text sentence by sentence. The words between two quantities define measure and label:

    "the width of the lamp is 0.3 m"     measure before the number, label after "of"
    "the lamp is 0.3 m wide"             label before the verb, measure after the number
    "... and the chair is 0.4 m"         measure inherited from the previous number
    "the height of A, B and C are a, b and c"   labels assigned in order

Numbers after "since ..." are marked as references, numbers after "so ..." as conclusions. Does not
know the question. Never adds a measure or label that is not in the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sdvlm_core.language.amounts import Amount
from sdvlm_core.language.tokens import Token, tokenize, vocabulary
from sdvlm_core.language.units import UNITS

# "other" is a measure that must not be read as a width, height or length.
NOUNS = {
    **dict.fromkeys(("distance", "gap", "separation"), "distance"),
    **dict.fromkeys(("width", "breadth"), "width"),
    **dict.fromkeys(("size", "dimension", "dimensions"), "size"),
    **dict.fromkeys(("thickness", "diameter", "radius", "area", "volume"), "other"),
    "height": "height",
    "length": "length",
    "depth": "depth",
    "angle": "angle",
}
ADJECTIVES = {
    **dict.fromkeys(("apart", "away", "far"), "distance"),
    **dict.fromkeys(("tall", "high"), "height"),
    "wide": "width",
    "long": "length",
    "deep": "depth",
    "thick": "other",
}
_VERBS = vocabulary(
    "is are was were be has have had measures measure measured stands spans reaches "
    "reach equals equal seems seem appears appear would do does exists exist = : ~"
)
_CLAUSES = vocabulary(", ; think believe estimate estimated say then so thus therefore hence that")
_JOINS = vocabulary(", and or while whereas but")
_EMPTY = vocabulary(
    "a an the it its i this that these those they there which one my answer result value both "
    "approximate total overall actual real of with"
)
_SINCE = vocabulary("since as given because if knowing considering")
_HENCE = vocabulary("thus therefore hence so finally conclusion")
_PLACES = vocabulary("image picture scene photo view frame room")
SENTENCE_ENDS = frozenset((".", "!", "?", "\n"))


class Statement(NamedTuple):
    """A number, or the factors of one product, with the measure and label that the text states."""

    quantities: tuple[Amount, ...]
    measure: str | None  # a value of NOUNS; None = not stated
    label: str  # "" = not stated
    sentence: int  # index of the sentence in the text
    reference: bool  # after "since ...", or a repetition in brackets: "(4.9 ft)"
    concluded: bool  # after "so ..."
    following: tuple[str, ...]  # up to four words after the number, lower case


def find_statements(text: str, quantities: Sequence[Amount]) -> Iterator[Statement]:
    """Yield the statement of each quantity in `text`, in order. Never raises; linear time."""
    sentence = 0
    numbers: list[tuple[Amount, ...]] = []
    gaps: list[list[Token]] = [[]]  # gaps[k]: tokens before numbers[k]; the last: after all numbers
    for piece in _pieces(text, quantities):
        if not isinstance(piece, Token):
            numbers.append(piece)
            gaps.append([])
        elif piece.text in SENTENCE_ENDS:
            yield from _sentence(numbers, gaps, sentence, text)
            numbers, gaps, sentence = [], [[]], sentence + 1
        else:
            gaps[-1].append(piece)
    yield from _sentence(numbers, gaps, sentence, text)


def _pieces(text: str, quantities: Sequence[Amount]) -> Iterator[Token | tuple[Amount, ...]]:
    """Yield the tokens of `text`; a quantity or product replaces the tokens that it spans."""
    groups: list[list[Amount]] = []
    for quantity in quantities:
        if groups and quantity.product >= 0 and groups[-1][-1].product == quantity.product:
            groups[-1].append(quantity)
        else:
            groups.append([quantity])
    at = 0
    for token in tokenize(text):
        if at < len(groups) and token.start >= groups[at][0].span[0]:
            if token.end >= groups[at][-1].span[1]:  # yield the group at its last token
                yield tuple(groups[at])
                at += 1
        else:
            yield token


def _sentence(
    numbers: Sequence[tuple[Amount, ...]],
    gaps: Sequence[Sequence[Token]],
    sentence: int,
    text: str,
) -> Iterator[Statement]:
    measure: str | None = None
    label, concluded = "", False
    reference = bool(gaps[0]) and gaps[0][0].text in _SINCE
    pending: list[str] = []  # labels of a list whose numbers follow
    used = 0  # number of words in this gap that belong to the previous number
    for at, number in enumerate(numbers):
        gap, following = gaps[at][used:], gaps[at + 1]
        words = [token.text for token in gap]
        listed = at > 0 and set(words) <= {",", "and"}
        if at > 0 and not listed and ("," in words or not _CLAUSES.isdisjoint(words)):
            reference = False  # end of the "since" clause
        concluded = concluded or not _HENCE.isdisjoint(words)
        noun = max((i for i, word in enumerate(words) if word in NOUNS), default=None)
        stated, used = _measure_after([token.text for token in following[:2]])
        if stated is None and noun is not None:
            stated = NOUNS[words[noun]]
        measure = stated or measure
        if listed and pending:
            label = pending.pop(0)
        else:
            label = _label(gap, noun, following, measure, text) or label
            parts = _list_of(gap, noun, text)
            pending = parts[1:] if len(parts) > 1 and _lists(gaps, at, len(parts)) else []
            label = parts[0] if pending else label
        after = tuple(token.text for token in following[:4])
        known = reference or (at > 0 and words[:1] == ["("] and stated is None)
        yield Statement(number, measure, label, sentence, known, concluded, after)


def _lists(gaps: Sequence[Sequence[Token]], at: int, count: int) -> bool:
    """Whether number `at` is the first of exactly `count` numbers in a list "a, b and c"."""
    inner = gaps[at + 1 : at + count + 1]  # the last one follows the list
    joined = [{token.text for token in gap} <= {",", "and"} for gap in inner]
    return (
        len(inner) == count and all(joined[:-1]) and (at + count + 1 == len(gaps) or not joined[-1])
    )


def _measure_after(words: Sequence[str]) -> tuple[str | None, int]:
    """The measure after a number ("tall", "in width"), and how many words it has."""
    if words and words[0] in ADJECTIVES:
        return ADJECTIVES[words[0]], 1
    if len(words) > 1 and words[0] == "in" and words[1] in NOUNS:
        return NOUNS[words[1]], 2
    return None, 0


def _label(
    gap: Sequence[Token],
    noun: int | None,
    following: Sequence[Token],
    measure: str | None,
    text: str,
) -> str:
    """The object that the number describes; "" if it is not stated."""
    if measure == "distance":
        pair = pair_of(gap, text) or pair_of(following, text)
        if pair:
            return pair
    if noun is not None and gap[noun + 1 : noun + 2] and gap[noun + 1].text in ("of", "for"):
        owner = phrase(gap[noun + 2 :], text)
        if owner:
            return owner
    return _subject(gap, text)


def _list_of(gap: Sequence[Token], noun: int | None, text: str) -> list[str]:
    """The names in "height of the A, the B and the C are"."""
    if noun is None or not gap[noun + 1 :] or gap[noun + 1].text != "of":
        return []
    parts = _split(gap[noun + 2 :], (",", "and"))
    return [name for part in parts if (name := phrase(part, text))]


def _subject(gap: Sequence[Token], text: str) -> str:
    """The noun phrase before the first verb of a clause, without its measure ("A's width")."""
    verb = next((i for i, token in enumerate(gap) if token.text in _VERBS), None)
    if verb is None:
        return ""
    start = max((i + 1 for i in range(verb) if gap[i].text in _CLAUSES), default=0)
    words = [token for token in gap[start:verb] if token.text not in NOUNS]
    name = phrase(words, text)
    return name[:-2] if name.endswith("'s") else name


def pair_of(tokens: Sequence[Token], text: str) -> str:
    """The two objects of "between A and B" or "from A to B", as "A and B"; "" if there are none."""
    start = next((i for i, t in enumerate(tokens) if t.text in ("between", "from")), None)
    pair = "" if start is None else join_names(tokens[start + 1 :], text)
    return pair if " and " in pair else ""  # "apart from each other" names no pair


def join_names(tokens: Sequence[Token], text: str) -> str:
    """ "the A and the B", "A to the B" -> "A and B"."""
    end = next((i for i, t in enumerate(tokens) if t.text in _VERBS), len(tokens))
    names = (phrase(part, text) for part in _split(tokens[:end], ("and", "to", "from")))
    return " and ".join(name for name in names if name)


def phrase(tokens: Sequence[Token], text: str) -> str:
    """The words before a verb or a place ("in the image"), without articles at either end."""
    end = len(tokens)
    for at, token in enumerate(tokens):
        following = {t.text for t in tokens[at + 1 : at + 3]}
        place = token.text == "in" and not following.isdisjoint(_PLACES | UNITS.keys())
        asks = token.text == "can" and not following.isdisjoint(("you", "we", "i"))  # no tin can
        if token.text in _VERBS or place or asks or token.text in ("?", ".", ";"):
            end = at
            break
    start = 0
    while start < end and (tokens[start].text in _EMPTY or tokens[start].text in _JOINS):
        start += 1
    while end > start and (tokens[end - 1].text in _EMPTY or tokens[end - 1].text in _JOINS):
        end -= 1
    return " ".join(text[tokens[start].start : tokens[end - 1].end].split()) if end > start else ""


def name_list(label: str) -> list[str]:
    """ "the A, the B and the C" -> A, B, C."""
    parts = _split(tokenize(label), (",", "and"))
    return [name for part in parts if (name := phrase(part, label))]


def _split(tokens: Sequence[Token], marks: tuple[str, ...]) -> list[list[Token]]:
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if token.text in marks:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts
