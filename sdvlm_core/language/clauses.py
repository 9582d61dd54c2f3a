"""Plain text -> clauses: sentences cut into parts whose role in the clause is known.

    sentence = clause {("," | "and" | "but" | "so" | "which" ...) clause}
    clause   = {name | measure | verb | number | preposition | place | hedge | ...}

A name is a determiner and the words after it that no table knows ("the tea table"), an asked
object, or the words after "of" and before a verb. What stands in brackets is a clause of its own.
Does not know which number answers a question (`statements`, `reading`). Linear time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from sdvlm_core.language import words as w
from sdvlm_core.language.amounts import Amount, find_amounts
from sdvlm_core.language.tokens import Token, glued, text_at, tokenize
from sdvlm_core.language.units import UNITS

Role = Literal[
    "number", "name", "camera", "surface", "nameless", "verb", "measure", "relation", "preposition",
    "place", "pronoun", "relative", "hedge", "word", "mark", "comma", "join", "break", "sides",
    "open", "close", "determiner",
]  # fmt: skip

_KNOWN = (
    frozenset(w.NOUNS) | frozenset(w.ADJECTIVES) | w.VERBS | w.NEGATIONS | w.PARTS | w.BOUNDS
    | w.NEAR_BOUNDS | w.IFS | w.GENERIC | w.COMPONENTS | w.HEDGES | w.PREPOSITIONS | w.PLACES
    | w.DETERMINERS | w.PRONOUNS | w.RELATIVES | w.BREAKS | w.RELATIVE_WORDS | w.CONCLUSIONS
    | frozenset(("and", "or", "up", "additional", "extra", "minus")) | w.JOINTLY
) - w.NAMELESS  # fmt: skip
_MODIFIERS = (
    frozenset(w.ADJECTIVES) | w.GENERIC | w.RELATIVE_WORDS | w.COMPONENTS | {"top", "bottom"}
)
#: A place alone, a part of an object after its name: "the table top is".
_PARTS_OF = frozenset(("top", "bottom", "front", "back", "left", "right", "inside", "outside"))
_ENDS = frozenset((".", "!", "?", "\n", ";"))
_LETTERS = re.compile(r"[lwhd](?:[x*][lwhd]){1,2}")


class Part(NamedTuple):
    """A part of a clause: its role, its text in lower case, and the amounts of a number."""

    role: Role
    text: str
    amounts: tuple[Amount, ...] = ()
    sides: tuple[str, ...] = ()


@dataclass
class Clause:
    """A clause of a text.

    Attributes:
        parts: the parts, without the word or mark that opens it.
        opener: that word or mark: ",", "and", "but", "which", "(", ...; "" at the start.
        host: the part before a bracket, or before "which"; None elsewhere.
        sentence: index of its sentence. question: the sentence ends with "?".
        heading: it is a line "Mug:" without a number.
    """

    parts: list[Part]
    opener: str
    host: Part | None
    sentence: int
    question: bool = False
    heading: bool = False


def find_clauses(text: str, names: Sequence[str]) -> list[Clause]:
    """The clauses of a text, in order.

    Args:
        text: without markup (`markup.plain_lines`).
        names: the asked objects; their words are never read as grammar.
    """
    tokens = tokenize(text)
    groups = _groups(find_amounts(tokens, text))
    covered = _covered(tokens, names)
    clauses: list[Clause] = []
    start = sentence = 0
    for at, token in enumerate(tokens):
        if token.kind == "mark" and token.text in _ENDS:
            parts = _parts(tokens, start, at, groups, covered)
            found = list(_split(parts, sentence))
            heading = token.text == "\n" and parts[-1:] == [Part("verb", ":")]
            for clause in found:
                clause.question = token.text == "?"
                clause.heading = heading and not any(p.amounts for p in parts)
            clauses += found
            start, sentence = at + 1, sentence + 1
    clauses += _split(_parts(tokens, start, len(tokens), groups, covered), sentence)
    return clauses


def _groups(amounts: Sequence[Amount]) -> dict[int, tuple[Amount, ...]]:
    """The amounts, or the factors of one product, by the place where they start."""
    groups: list[list[Amount]] = []
    for amount in amounts:
        if groups and amount.product >= 0 and groups[-1][-1].product == amount.product:
            groups[-1].append(amount)
        else:
            groups.append([amount])
    return {group[0].span[0]: tuple(group) for group in groups}


def _covered(tokens: Sequence[Token], names: Sequence[str]) -> set[int]:
    """The tokens of the asked names, in full or only by their last word after a determiner."""
    covered: set[int] = set()
    wanted = [[token.text for token in tokenize(name)] for name in names[:10]]
    for at in range(len(tokens)):
        for words in wanted:
            if not words:
                continue
            span = [token.text for token in tokens[at : at + len(words)]]
            last = span[-1].removesuffix("'s") if span else ""
            if len(span) == len(words) and [*span[:-1], last] == words:
                alone = len(words) == 1 and words[0] in _KNOWN and not _is_noun(tokens, at, covered)
                if not alone:
                    covered.update(range(at, at + len(words)))
            head = words[-1]
            text = tokens[at].text.removesuffix("'s")
            if text == head and _is_noun(tokens, at, covered):
                covered.add(at)
    return covered


def _is_noun(tokens: Sequence[Token], at: int, covered: set[int]) -> bool:
    before = text_at(tokens, at - 1)
    opens = before in ("", "\n", ".") and text_at(tokens, at + 1) in w.VERBS
    unknown = before.isalpha() and before not in _KNOWN
    return before in w.DETERMINERS or at - 1 in covered or unknown or opens


def _parts(
    tokens: Sequence[Token],
    start: int,
    end: int,
    groups: dict[int, tuple[Amount, ...]],
    covered: set[int],
) -> list[Part]:
    parts: list[Part] = []
    at = start
    while at < end:
        group = groups.get(tokens[at].start)
        if group is not None and at not in covered:
            parts.append(Part("number", " ".join(a.text for a in group), group))
            while at < end and tokens[at].start < group[-1].span[1]:
                at += 1
            continue
        found = _sides(tokens, at, end) or _name(tokens, at, end, covered, groups, parts)
        if found is None:
            found = _word(tokens, at, parts)
        part, at = found
        parts.append(part)
    return parts


def _sides(tokens: Sequence[Token], at: int, end: int) -> tuple[Part, int] | None:
    """ "W x H x D", "length x width x height", "LxWxH"."""
    if _LETTERS.fullmatch(tokens[at].text):
        letters = [letter for letter in tokens[at].text if letter in w.SIDES]
        return Part("sides", tokens[at].text, sides=tuple(w.SIDES[x] for x in letters)), at + 1
    sides: list[str] = []
    last = at
    while last < end and tokens[last].text in w.SIDES:
        sides.append(w.SIDES[tokens[last].text])
        last += 1
        if text_at(tokens, last) not in ("x", "*", "by", "/"):
            break
        last += 1
    single = len(sides) == 1 and len(tokens[at].text) == 1
    followed = text_at(tokens, last) in (":", "=", ")") if last < end else False
    if single and (followed or last == end):
        if tokens[at].text == "d" and text_at(tokens, last) == "=":
            return Part("hedge", "d"), last  # the usual variable of a distance, too
        return Part("measure", sides[0]), last
    if len(sides) < 2 or tokens[last - 1].text not in w.SIDES:
        return None
    return Part("sides", "sides", sides=tuple(sides)), last


def _name(
    tokens: Sequence[Token],
    at: int,
    end: int,
    covered: set[int],
    groups: dict[int, tuple[Amount, ...]],
    parts: Sequence[Part],
) -> tuple[Part, int] | None:
    """A noun phrase from token `at`, without its article; None if there is none."""
    first = at
    determined = tokens[at].text in w.DETERMINERS and at not in covered
    first += determined
    last = _name_end(tokens, first, end, determined, covered, groups)
    if last == first:
        return None
    names = [token.text for token in tokens[first:last]]
    text = " ".join(names).removesuffix("'s").replace(" - ", "-")
    if not determined and not any(i in covered for i in range(first, last)):
        before = parts[-1] if parts else None
        opens = before is None or before.role in ("comma", "break", "open", "mark")
        headed = text_at(tokens, last) in w.VERBS or text_at(tokens, last) in w.NOUNS
        named = opens and (headed or names[-1].endswith("'s"))
        placed = before is not None and before.role in ("preposition", "place", "join")
        if not (named or placed or (before is None and last == end)):
            nameless = names[-1] in w.NAMELESS
            return Part("nameless" if nameless else "word", text), last
    if determined and tokens[at].text in ("every", "any", "another"):
        text = f"{tokens[at].text} {text}"
    head = text.replace("-", " ").split()[-1]
    role: Role = "name"
    if not any(i in covered for i in range(first, last)):
        if any(name.removesuffix("'s") in w.CAMERA for name in names):
            role = "camera"
        elif head in w.NAMELESS:
            role = "nameless"
        elif head in w.SURFACES:
            role = "surface"
    return Part(role, text), last


def _name_end(
    tokens: Sequence[Token],
    first: int,
    end: int,
    determined: bool,
    covered: set[int],
    groups: dict[int, tuple[Amount, ...]],
) -> int:
    """The end of the noun phrase whose first word, after an article, is token `first`."""
    last = first
    while last < end and tokens[last].start not in groups:
        token = tokens[last]
        hyphen = token.text == "-" and last > first and glued(tokens, last)
        possessive = tokens[last - 1].text.endswith("'s")  # "the bottle's reflection in"
        after_name = last > first and last - 1 in covered and not possessive
        if after_name and _is_verb(tokens, last, end, covered, groups):
            break
        can = token.text == "can" and determined and last == first  # "the can", not "can be"
        part_of = last > first and token.text in _PARTS_OF and text_at(tokens, last + 1) in w.VERBS
        if last in covered or _is_content(token) or (hyphen and glued(tokens, last + 1)):
            last += 1
            continue
        whole = determined and last == first and text_at(tokens, last + 1) == "of"
        if can or part_of or (whole and token.text in _PARTS_OF - {"left", "right"}):
            last += 1
            continue
        modifies = (determined or last > first) and token.text in _MODIFIERS
        if not modifies or last + 1 >= end:
            break
        following = tokens[last + 1]
        if not (last + 1 in covered or _is_content(following)) or following.start in groups:
            break
        last += 1
    return last


def _is_verb(
    tokens: Sequence[Token],
    at: int,
    end: int,
    covered: set[int],
    groups: dict[int, tuple[Amount, ...]],
) -> bool:
    """Whether an unknown word after a name is a verb: "the bottle holds 0.7 l"."""
    if at in covered or at + 1 >= end or not _is_content(tokens[at]):
        return False
    following = tokens[at + 1]
    return (
        following.start in groups
        or (following.text in w.DETERMINERS and following.text not in w.NAMELESS)
        or following.text in w.PREPOSITIONS - {"of"}
    )


def _is_content(token: Token) -> bool:
    """Whether a word may be part of a name."""
    text = token.text.removesuffix("'s")
    if text in UNITS:  # of a number that was left out
        return False
    adverb = text.endswith("ly") and len(text) > 4
    return token.kind == "word" and text not in _KNOWN and not adverb and len(text) > 1


_ROLES: tuple[tuple[frozenset[str], Role], ...] = (
    (frozenset((",",)), "comma"),
    (frozenset(("and", "or", "&")), "join"),
    (frozenset("(["), "open"),
    (frozenset(")]"), "close"),
    (frozenset(w.NOUNS) | frozenset(w.ADJECTIVES), "measure"),
    (w.RELATIVE_WORDS - w.PLACES, "relation"),
    (frozenset(("which", "who", "whose")), "break"),
    (w.BREAKS, "break"),
    (w.VERBS, "verb"),
    (w.PREPOSITIONS, "preposition"),
    (w.PLACES, "place"),
)


def _word(tokens: Sequence[Token], at: int, parts: Sequence[Part]) -> tuple[Part, int]:
    """The part of one token that is no name and no number."""
    text = tokens[at].text
    if text in ("me", "you", "us") and parts and parts[-1].text in ("from", "to", "and", "between"):
        return Part("camera", text), at + 1
    if text == "that" and parts and parts[-1].role in ("name", "nameless", "word"):
        return Part("relative", text), at + 1
    if text in w.PRONOUNS and text not in w.VERBS:
        return Part("pronoun", text), at + 1
    if text in w.PRONOUNS:
        return Part("verb", text), at + 1
    if text in w.NOUNS or text in w.ADJECTIVES:
        return Part("measure", w.NOUNS.get(text) or w.ADJECTIVES[text]), at + 1
    for known, role in _ROLES:
        if text in known:
            return Part(role, text), at + 1
    if tokens[at].kind != "word":  # the digits of a number that was left out, too
        return Part("mark", text), at + 1
    known_word = (
        text in _KNOWN
        or text in UNITS
        or len(text) == 1
        or text.endswith("ly")
        or text in w.DETERMINERS
    )
    return Part("hedge" if known_word else "word", text), at + 1


def _split(parts: Sequence[Part], sentence: int) -> Iterator[Clause]:
    """The clauses of one sentence; what is in brackets comes after the clause around it."""
    outer, brackets = _without_brackets(parts)
    numbers_after = 0
    for part in outer:
        numbers_after += part.role == "number"
    current = Clause([], "", None, sentence)
    found: list[Clause] = []
    host: Part | None = None  # the latest name
    for at, part in enumerate(outer):
        following = outer[at + 1].role if at + 1 < len(outer) else ""
        numbered = any(p.role == "number" for p in current.parts[-12:])
        joins = part.role == "join" and (
            (numbered and numbers_after > 0) or following in ("verb", "break", "pronoun")
        )
        numbers_after -= part.role == "number"
        next_two = [other.role for other in outer[at + 1 : at + 3]]
        adds = part.text == "with" and numbered and "measure" in next_two  # "with a width of"
        if part.role in ("comma", "break") or joins or adds:
            host = next((p for p in reversed(current.parts) if p.role == "name"), host)
            found.append(current)
            current = Clause([], part.text, host, sentence)
        else:
            current.parts.append(part)
    for clause in (*found, current):
        if clause.parts or clause.opener not in ("", ","):
            yield clause
    for host, inner in brackets:
        yield Clause(inner, "(", host, sentence)


def _without_brackets(
    parts: Sequence[Part],
) -> tuple[list[Part], list[tuple[Part | None, list[Part]]]]:
    outer: list[Part] = []
    brackets: list[tuple[Part | None, list[Part]]] = []
    inside = False
    for part in parts:
        if part.role == "open" and not inside:
            inside = True
            brackets.append((outer[-1] if outer else None, []))
        elif part.role == "close":
            inside = False
        elif inside:
            brackets[-1][1].append(part)
        else:
            outer.append(part)
    return outer, brackets
