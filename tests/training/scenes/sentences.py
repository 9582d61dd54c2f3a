"""Reads questions and answers back into claims, without the generator's tables.

Written from the rows themselves. A turn that is not understood raises `Unread`: a check that skips
what it cannot read would prove nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

UNITS = {"m": 1.0, "meter": 1.0, "meters": 1.0, "metre": 1.0, "metres": 1.0}
UNITS |= {"cm": 0.01, "centimeter": 0.01, "centimeters": 0.01, "mm": 0.001}
LENGTH = r"(-?\d+(?:\.\d+)?) ?(" + "|".join(sorted(UNITS, key=len, reverse=True)) + r")\b"
#: One length, or three of a size; without groups.
_ONE = LENGTH.replace("(-?", "(?:-?").replace(" ?(", " ?(?:")
VALUE = rf"{_ONE}(?: x {_ONE} x {_ONE})?"
SIDES = "height|width|length|size"
#: How an adjective is read: the quantity, and whether more of it is meant.
WORDS = {
    "tall": ("height", True), "high": ("height", True), "short": ("height", False),
    "low": ("height", False), "wide": ("width", True), "narrow": ("width", False),
    "long": ("length", True), "big": ("volume", True), "large": ("volume", True),
    "small": ("volume", False), "close": ("camera", False), "near": ("camera", False),
    "far": ("camera", True),
}  # fmt: skip
FORMS = {
    "closer": "close", "closest": "close", "nearer": "near", "nearest": "near",
    "farther": "far", "further": "far", "farthest": "far", "furthest": "far",
    "larger": "large", "largest": "large", "bigger": "big", "biggest": "big",
    "wider": "wide", "widest": "wide",
}  # fmt: skip
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}


class Unread(ValueError):
    """A turn that this reader does not understand."""


@dataclass(frozen=True)
class Claim:
    """`kind` says what is claimed of `names`; `value`: metres, a count, a truth value, (x, y)."""

    kind: str
    names: tuple[str, ...]
    value: object


def adjective(word: str) -> tuple[str, bool]:
    stem = FORMS.get(word, re.sub(r"(er|est)$", "", word))
    if stem not in WORDS:
        raise Unread(f"adjective {word}")
    return WORDS[stem]


def bare(name: str) -> str:
    return re.sub(r"^(the|a|an|any) ", "", name.strip(" .,?")).strip()


def listed(text: str) -> tuple[str, ...]:
    parts = re.split(r",? (?:and|or) |, ", text)
    return tuple(bare(part) for part in parts if part.strip())


def lengths(text: str) -> list[tuple[float, float]]:
    """Every length in metres, and by how much its rounding may move it."""
    found = []
    for number, unit in re.findall(LENGTH, text):
        decimals = len(number.partition(".")[2])
        # Trailing zeros may have been dropped: two decimals are assumed at least for metres.
        step = UNITS[unit] * 10.0 ** -(max(decimals, 2) if UNITS[unit] == 1.0 else decimals)
        found.append((float(number) * UNITS[unit], step / 2))
    return found


def _facts(text: str) -> list[Claim]:
    """Statements with lengths: "the height of A is V and B is V", "the distance between ..."."""
    claims = []
    one = rf"the distance between (.+?) and (.+?) is ({VALUE})"
    for match in re.finditer(one, text):
        claims.append(Claim("distance", (bare(match[1]), bare(match[2])), lengths(match[3])[0]))
    text = re.sub(one, "", text)
    many = rf"the ({SIDES}) of (the .+?) are (.+?), so"
    for match in re.finditer(many, text):
        names, values = listed(match[2]), lengths(match[3])
        each = 3 if match[1] == "size" else 1
        if len(values) != each * len(names):
            raise Unread(text)
        for i, name in enumerate(names):
            part = values[each * i : each * (i + 1)]
            claims.append(Claim(match[1], (name,), part if each == 3 else part[0]))
    text = re.sub(many, "", text)
    one = rf"the ({SIDES}) of (.+?) is ({VALUE})(?: and (?!the (?:{SIDES}) )(.+?) is ({VALUE}))?"
    for match in re.finditer(one, text):
        for name, said in ((match[2], match[3]), (match[4], match[5])):
            if name is None:
                continue
            values = lengths(said)
            if (match[1] == "size") != (len(values) == 3):
                raise Unread(text)
            claims.append(
                Claim(match[1], (bare(name),), values if match[1] == "size" else values[0])
            )
    return claims


def _denied(answer: str) -> str | None:
    for form in (
        r"^(?:sorry, )?there (?:is|are) no (.+?)(?: (?:in|visible|here)\b.*)?\.?$",
        r"^no (.+?) in the (?:scene|image)\.?$",
        r"^can ?not find (?:an? |any |the )?(.+?)(?: in the (?:scene|image))?\.?$",
        r"^i (?:can ?not|do not|don't) (?:see|find) (?:an? |any |the )?(.+?)(?: in the .*)?\.?$",
    ):
        if match := re.match(form, answer):
            return bare(match[1])
    return None


def _truth(answer: str) -> bool:
    if re.match(r"(yes|indeed|correct|right|that is right)\b", answer):
        return True
    if re.match(r"(no|in fact|not|wrong|actually)\b", answer):
        return False
    raise Unread(answer)


RELATIONS = (
    (r"to the left of", "left"),
    (r"on the left (?:side )?of", "left"),
    (r"left of", "left"),
    (r"to the right of", "right"),
    (r"on the right (?:side )?of", "right"),
    (r"right of", "right"),
    (r"above", "above"),
    (r"below", "below"),
    (r"under", "below"),
)


def _relation(text: str) -> Claim | None:
    """ "A is to the left of B", "A is higher than B", as a claim that it holds."""
    for words, kind in RELATIONS:
        if match := re.match(rf"(.+?)(?: is| are)?(?: positioned| located)? {words} (.+)", text):
            return Claim(kind, (bare(match[1]), bare(match[2])), True)
    if match := re.match(r"(.+?)(?: is)? (?:more )?(\w+er) (?:to .+? )?than (.+)", text):
        names = (bare(match[1]), bare(match[3]))
        return Claim(f"more {match[2]}", names, True)
    return None


def _yes_no(question: str, answer: str) -> list[Claim] | None:
    asked = re.sub(r"^from the viewer's perspective, ", "", question)
    asked = re.sub(r",? from the viewer's perspective", "", asked).strip(" ?")
    if match := re.match(
        r"(?:is there|can you see|do you see|are there)(?: an?| any)? (.+)", asked
    ):
        name = re.sub(r" (in|on) (the|this) (image|scene|picture|photo)$", "", bare(match[1]))
        if (said := _denied(answer)) is not None:
            return [Claim("exists", (name,), False), Claim("exists", (said,), False)]
        return [Claim("exists", (name,), _truth(answer))]
    if not re.match(r"(is|are) ", asked):
        return None
    claim = _relation(re.sub(r"^(is|are) ", "", asked))
    if claim is None:
        return None
    claims = [Claim(claim.kind, claim.names, _truth(answer))]
    tail = re.sub(r"^[^,]*, ?", "", answer) if "," in answer else ""
    if tail:
        more = _relation(tail.strip(" ."))
        if more is None:
            raise Unread(answer)
        claims.append(more)
    return claims


def _chosen(answer: str) -> str:
    text = re.split(r", so ", answer)[-1].strip(" .")
    text = re.sub(r"^(?:the (?:\w+est) (?:one )?is|it is|that is) ", "", text)
    text = re.sub(r" (?:is|stands|looks)(?: the| more)? \w+(?:er|est)$", "", text)
    if " is " in text:
        raise Unread(answer)
    return bare(text)


def _which(question: str, answer: str) -> list[Claim] | None:
    asked = question.strip(" ?")
    forms = (
        r"which (?:one )?(?:is|stands) (?:the )?(?P<w>\w+er)(?: to the \w+)?[,:] (?P<n>.+)",
        r"between (?P<n>.+), which (?:one )?(?:is|stands) (?:the )?(?P<w>\w+er)(?: to the .+)?",
        r"which (?:one )?is (?:the )?(?P<w>\w+est)[,:]? (?:among |of |between )?(?P<n>.+)",
        r"what is (?:the )?(?P<w>\w+est) (?:among|of|between) (?P<n>.+)",
        r"(?:among|of) (?P<n>.+), (?:which|what)(?: one)? is (?:the )?(?P<w>\w+est)",
    )
    for form in forms:
        if match := re.fullmatch(form, asked):
            names = listed(match["n"])
            chosen = _chosen(answer)
            if chosen not in names:
                raise Unread(f"{chosen} is not one of {names}")
            others = tuple(name for name in names if name != chosen)
            claims = [Claim(f"most {match['w']}", (chosen, *others), True)]
            return claims + _facts(answer)
    return None


def _place(question: str, answer: str) -> list[Claim] | None:
    point = r"\( ?(-?\d*\.?\d+) ?, ?(-?\d*\.?\d+) ?\)"
    if match := re.search(point, question):
        name = re.sub(r"^(it is|that is|it's|you can find) ", "", answer)
        return [Claim("found", (bare(name),), (float(match[1]), float(match[2])))]
    asked = re.search(
        r"(?:coordinates? of|where is|(?:which|what) position of the image is|locate) (.+?)"
        r"(?: in the image)?\?", question,
    )  # fmt: skip
    if asked and (match := re.search(point, answer)):
        return [Claim("place", (bare(asked[1]),), (float(match[1]), float(match[2])))]
    return None


def _count(question: str, answer: str) -> list[Claim] | None:
    match = re.search(
        r"(?:how many|number of|count the) (.+?)(?: (?:are|is) there)?(?: (?:can|do) you see)?"
        r"(?: in (?:the|this) (?:image|picture|scene))?[ ]?[?.]?$", question,
    )  # fmt: skip
    if not match:
        return None
    if (said := _denied(answer)) is not None:
        return [Claim("exists", (said,), False)]
    number = re.search(r"\b(\d+|" + "|".join(NUMBERS) + r")\b", answer)
    if not number:
        raise Unread(answer)
    value = NUMBERS.get(number[1]) or int(number[1])
    return [Claim("count", (re.sub(r" are there$", "", match[1]),), value)]


def _asked_measures(asked: str) -> tuple[str, tuple[str, ...]] | None:
    """The quantity and the names that a measuring question asks for."""
    for form in (
        r"distance (?:between|from) (.+?) (?:and|to) (.+)",
        r"how far apart are (.+?) and (.+)",
        r"how far (?:away )?is (.+?) from (.+)",
    ):
        if match := re.search(form, asked):
            names = (bare(match[1]), bare(match[2]))
            return ("camera", names[:1]) if names[1] in ("camera", "viewer", "me") else (
                "distance", names)  # fmt: skip
    if match := re.search(r"length, width,? and height of (.+)", asked):
        return "size", listed(match[1])
    if match := re.search(rf"({SIDES}|dimensions) of (.+)", asked):
        return match[1].replace("dimensions", "size"), listed(match[2])
    if match := re.search(r"how (tall|high|wide|long|big|large) (?:is|are) (.+)", asked):
        quantity = adjective(match[1])[0].replace("volume", "size")
        return quantity, listed(match[2])
    return None


def _measures(asked: str, answer: str) -> list[Claim] | None:
    found = _asked_measures(asked.strip(" ?."))
    if found is None:
        return None
    quantity, names = found
    if (said := _denied(answer)) is not None:
        return [Claim("exists", (said,), False)]
    values = lengths(re.sub(r"^since .+?,? ?i think", "", answer))
    if quantity in ("distance", "camera"):
        groups: list = [values[0]] if len(values) == 1 else []
        return [Claim(quantity, names, groups[0])] if groups else None
    if quantity == "size":
        if len(names) != 1 or len(values) != 3:
            raise Unread(answer)
        return [Claim("size", names, values)]
    if len(values) != len(names):
        raise Unread(answer)
    return [Claim(quantity, (n,), v) for n, v in zip(names, values, strict=True)]


def _complete(claims: list[Claim], text: str) -> None:
    """Every length in the text is part of a claim."""
    one = ("height", "width", "length", "distance", "camera")
    count = sum(3 * (claim.kind == "size") + (claim.kind in one) for claim in claims)
    if count != len(lengths(text)):
        raise Unread(f"{count} lengths were read of: {text}")


def read(question: str, answer: str) -> list[Claim]:
    """The claims of one turn.

    Raises:
        Unread: if the turn is not understood.
    """
    question = re.sub(r"\s+", " ", question.replace("<image>", "")).strip().lower()
    answer = re.sub(r"\s+", " ", answer).strip().lower()
    claims: list[Claim] = []
    premise = re.match(rf"(the (?:{SIDES}|distance) .+? is .*?), (.+)", question)
    if premise:
        claims += _facts(premise[1])
        question = premise[2]
        said = re.match(r"since (.+?), ?i think", answer)
        claims += _facts(said[1]) if said else []
    for reader in (_yes_no, _which, _place, _count, _measures):
        found = reader(question, answer)
        if found is not None:
            _complete(claims + found, (premise[1] if premise else "") + " " + answer)
            return claims + found
    raise Unread(f"{question} | {answer}")
