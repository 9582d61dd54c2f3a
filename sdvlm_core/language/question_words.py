"""Words -> typed questions, by whole-sentence patterns.

A question is understood only if one pattern covers all of it, after politeness, the unit asked for
and a stated fact are taken off. Every other question is FREE: there is no guess from key words.
Reads English. Does not know answers (`reading`) or how a model is asked (`question.phrase`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from sdvlm_core.answer import Asked, Quantity
from sdvlm_core.language.amounts import amounts
from sdvlm_core.language.relations import RELATION_WORDS
from sdvlm_core.language.units import UNITS

#: Characters; a longer text is FREE. The patterns below take linear time within this bound.
MAX_PARSED = 1000
_CAMERA = (
    r"(?:(?:the|this|your|my|our) )?(?:camera(?: lens)?|viewer|observer|viewpoint|photographer|"
    r"lens|robot)|me|you|us|here|where (?:i am|we are|you are)(?: standing)?"
)
_LOOK = r"(?:the|this|that|your|my) (?:given |provided |attached )?(?:image|picture|photo|photograph|scene|view|frame)"
_SPACES = re.compile(r"\s+")
_POLITE = re.compile(
    r"(?:(?:please|kindly|hello|hi|hey|now|ok|okay|so)\b[,!]?"
    r"|(?:can|could|would|will) you(?: please)?"
    r"(?= (?:please|kindly|tell|give|measure|estimate|determine|find|say|compute|calculate|count"
    r"|state|report|provide|point|locate|show))"
    r"|(?:tell|show) (?:me|us)|let (?:me|us) know|(?:do|would) you know|i(?:'d| would) like to know"
    r"|i (?:want|need|wish) to know|i wonder|what do you think"
    r"|(?:looking|based) (?:at|on) " + _LOOK + r",?|(?:in|from) " + _LOOK + r",?"
    r"|from (?:the|your|my) (?:viewer's |camera's )?(?:perspective|point of view|viewpoint)(?: of the (?:viewer|camera))?,?"
    r"|from the (?:viewer|camera)'s (?:perspective|point of view|viewpoint),?) ",
    re.I,
)
_TAIL = re.compile(
    r",? (?:please|approximately|roughly|exactly|do you think|would you say|in total"
    r"|(?:in|from|of|within|on) "
    + _LOOK
    + r"|(?:as seen )?from (?:the|your|my) (?:viewer's |camera's )?(?:perspective|point of view|viewpoint)"
    r"|from the (?:viewer|camera)'s (?:perspective|point of view|viewpoint))[?.! ]*$",
    re.I,
)
_INSTRUCTION = re.compile(
    r"(?<=[?.!]) (?:answer|give|reply|respond|use|state|write|return|output|only|just)\b[^?]*$",
    re.I,
)
_UNIT_WORDS = "|".join(
    sorted((re.escape(word) for word in UNITS if word.isascii() and word.isalpha()), key=len)[::-1]
)
_UNIT = re.compile(
    rf"(?:,? (?:measured |expressed |stated )?(?:in|using) (?:units of )?({_UNIT_WORDS})"
    rf"| [(\[](?:in )?({_UNIT_WORDS})[)\]])(?=[?.!, ]*$|,)",
    re.I,
)
_HOW_MANY_UNITS = re.compile(
    rf"^how many ({_UNIT_WORDS}) (?=(?:tall|high|wide|broad|long|far|apart|away|taller|shorter|wider"
    r"|narrower|longer|closer|farther|further|is|are|from)\b)",
    re.I,
)
_GIVEN = re.compile(
    r"^(?:(?:given|knowing|assuming|considering|since|if|provided)(?: that)?,? )?(.+)$", re.I
)
_FACT_AFTER = re.compile(
    r",? (?:given|knowing|assuming|considering|if|provided)(?: that)? (.+?)[?.! ]*$", re.I
)
_SIDES = {
    "height": Quantity.HEIGHT,
    "width": Quantity.WIDTH,
    "breadth": Quantity.WIDTH,
    "length": Quantity.LENGTH,
    "size": Quantity.SIZE,
    "dimensions": Quantity.SIZE,
    "tall": Quantity.HEIGHT,
    "high": Quantity.HEIGHT,
    "wide": Quantity.WIDTH,
    "broad": Quantity.WIDTH,
    "long": Quantity.LENGTH,
    "big": Quantity.SIZE,
    "large": Quantity.SIZE,
}
_NOUN = r"(height|width|breadth|length|size|dimensions)"
_ADJECTIVE = r"(tall|high|wide|broad|long|big|large)"
_WHAT = (
    r"(?:what(?:'s| is| are| would be| might be)|(?:measure|estimate|determine|find|say|compute"
    r"|calculate|state|report|provide|give)(?: me| us)?|(?:to )?know)? ?"
)
_ABOUT = r"(?:(?:the|an?|its) )?(?:(?:approximate|estimated|exact|total|actual|real|overall|full|physical|rough|likely) )*"
_IS = r"(?:is|are|was|were|would be)"
_ARTICLE = re.compile(r"(?:the|an?|this|that|these|those|any|some|your|my|its) ", re.I)
_NOT_A_NAME = re.compile(
    r"[,;:?!(){}\[\]<>=|]|\d\s*(?:m|cm|mm|ft|in)\b"
    r"|\b(?:and|or|than|is|are|was|were|be|been|how|what|which|who|whose|where|why|when|if|do|does"
    r"|did|between|not|versus|vs|compared|respectively|there|it|them|they|he|she|this|that|these"
    r"|those|each|other|both|its|their|image|picture|photo|camera|viewer|sum|ratio|difference"
    r"|centers|centres|surfaces|edges|distance|height|width|length|size|taller|shorter|wider|closer|farther)\b",
    re.I,
)
_MAX_NAME_WORDS = 10


def parse(words: str) -> Asked:
    """The typed question of words; FREE where it is not sure. Never raises."""
    asked = parse_each(words)
    if len(asked) == 1:
        return asked[0]
    names = dict.fromkeys(name for one in asked for name in one.objects)
    reference = asked[0].reference if asked else ""
    return Asked(Quantity.FREE, tuple(names), reference=reference)


def parse_each(words: str) -> tuple[Asked, ...]:
    """The typed questions of words: several where they ask one side of several objects.

    "What is the height of the table and the chair?" asks HEIGHT of each, in this order; so does a
    question for two sides of one object. () = not understood.
    """
    text = _SPACES.sub(" ", words[: MAX_PARSED + 1].translate(_PLAIN)).strip(' *"')
    if not text or len(text) > MAX_PARSED:
        return ()
    if text.isupper():
        text = text.lower()
    text, reference = _without_fact(_INSTRUCTION.sub("", text))
    reference = _THE.sub(lambda match: match[0].lower(), reference)
    text, unit = _without_unit(text)
    text = _bare(text)
    text, unit = _without_unit(text) if not unit else (text, unit)
    text = _direct(text)
    if any(amount.dimension == "length" for amount in amounts(text)):
        return ()  # "closer than 2 m?" compares with a number
    for form, make in _FORMS:
        match = form.fullmatch(text)
        if match is not None and (asked := make(match)):
            return tuple(replace(one, unit=unit, reference=reference) for one in asked)
    return ()


_THE = re.compile(r"^(?:The|An?) ")
_INDIRECT = re.compile(
    r"(how (?:far|much|tall|high|wide|broad|long|big|large)\b(?: \w+er)?) (.+?) (is|are)\b(.*)"
)


_NO_SUBJECT = frozenset(("is", "are", "apart", "away", *RELATION_WORDS))


def _direct(text: str) -> str:
    """ "how tall the mug is" of an indirect question as "how tall is the mug"."""
    match = _INDIRECT.fullmatch(text)
    if match is None or match[2].split()[0] in _NO_SUBJECT:
        return text
    return f"{match[1]} {match[3]} {match[2]}{match[4]}"


_PLAIN = str.maketrans({"\u2019": "'", "\u2018": "'", "\u201c": '"', "\u201d": '"'})


def _without_fact(text: str) -> tuple[str, str]:
    """The question without the fact that it states ("The bed is 0.81 m high, what ...")."""
    stated = [amount for amount in amounts(text) if amount.dimension == "length"]
    if not stated:
        return text, ""
    after = _FACT_AFTER.search(text)
    if after is not None and after.start(1) <= stated[0].span[0]:
        return text[: after.start()] + "?", after[1].strip()
    cut = re.compile(r"(?:[,;.:]|,? then|,? so) ?(?=\S)").search(text, stated[-1].span[1])
    if cut is None or cut.end() >= len(text):
        return text, ""
    fact = _GIVEN.match(text[: cut.start()].strip(" ,.;"))
    return text[cut.end() :], fact[1] if fact else ""


def _without_unit(text: str) -> tuple[str, str]:
    """The question without the unit that it asks for, and the unit's usual sign."""
    match = _UNIT.search(text)
    if match is not None:
        return text[: match.start()] + text[match.end() :], _sign(match[1] or match[2])
    match = _HOW_MANY_UNITS.search(_bare(text))
    if match is None:
        return text, ""
    rest = _bare(text)[match.end() :]
    comparative = rest.split(" ", 1)[0].lower() in RELATION_WORDS
    if rest.startswith(("apart", "away", "from", "is", "are")):
        rest = "far " + rest
    return ("how much " if comparative else "how ") + rest, _sign(match[1])


def _sign(word: str) -> str:
    unit = UNITS[word.lower()]
    return next(
        sign
        for sign in ("m", "cm", "mm", "km", "dm", "in", "ft", "yd", "mile", word)
        if UNITS.get(sign) == unit
    )


def _bare(text: str) -> str:
    """The question without politeness, places such as "in the image" and closing marks."""
    text = text.strip(" ?.!,")
    for _ in range(6):  # "Hello, could you please tell me ..."
        shorter = _TAIL.sub("", _POLITE.sub("", text) if _POLITE.match(text) else text)
        shorter = shorter.strip(" ?.!,:")
        if shorter == text:
            break
        text = shorter
    return text


def name_of(text: str) -> str:
    """An object's name without its article; "" where the text is not clearly one name."""
    name = text.strip(' .,?!"*')
    article = _ARTICLE.match(name)
    name = name[article.end() :] if article else name
    known = not name or _NOT_A_NAME.search(name) or len(name.split()) > _MAX_NAME_WORDS
    return "" if known else name


def _names(text: str) -> tuple[str, ...]:
    """The names in "the A, the B and the C"; () where one is not clear."""
    parts = re.split(
        r",? (?:and|or|versus|vs\.?) (?:(?:also )?(?:of|for) )?|, ?(?:(?:of|for) )?", text
    )
    names = tuple(map(name_of, parts))
    return names if all(names) else ()


def _several(quantities: tuple[Quantity, ...], text: str) -> tuple[Asked, ...]:
    """The same quantities of every name in `text`."""
    # "the salt and pepper shaker" may be one object: each name of several has an article
    parts = re.split(r",? and (?:of |for )?|, ", text)
    bare = [part for part in parts[1:] if not _ARTICLE.match(part)]
    names = _names(text) if len(parts) == 1 or not bare else ()
    return tuple(Asked(quantity, (name,)) for name in names for quantity in quantities)


def _one(quantity: Quantity) -> Callable[[re.Match[str]], tuple[Asked, ...]]:
    def make(match: re.Match[str]) -> tuple[Asked, ...]:
        name = name_of(match["x"])
        return (Asked(quantity, (name,)),) if name else ()

    return make


def _pair(quantity: Quantity) -> Callable[[re.Match[str]], tuple[Asked, ...]]:
    def make(match: re.Match[str]) -> tuple[Asked, ...]:
        first, second = name_of(match["x"]), name_of(match["y"])
        return (Asked(quantity, (first, second)),) if first and second else ()

    return make


def _sides_of(match: re.Match[str]) -> tuple[Asked, ...]:
    return _several((_SIDES[match[1].lower()],), match["x"])


def _two_sides_of(match: re.Match[str]) -> tuple[Asked, ...]:
    quantities = (_SIDES[match[1].lower()], _SIDES[match[2].lower()])
    name = name_of(match["x"])
    if not name or Quantity.SIZE in quantities or quantities[0] is quantities[1]:
        return ()
    return tuple(Asked(quantity, (name,)) for quantity in quantities)


def _count(match: re.Match[str]) -> tuple[Asked, ...]:
    name = name_of(" ".join(part for part in (match["x"], match.groupdict().get("place")) if part))
    return (Asked(Quantity.COUNT, (name,)),) if name else ()


def _holds(match: re.Match[str]) -> tuple[Asked, ...]:
    relation = RELATION_WORDS.get(match["r"].lower(), "")
    first, second = name_of(match["x"]), name_of(match["y"])
    known = relation and first and second
    return (Asked(Quantity.COMPARISON, (first, second), relation),) if known else ()


def _which(match: re.Match[str]) -> tuple[Asked, ...]:
    relation = RELATION_WORDS.get(match["r"].lower(), "")
    names = _names(match["x"])
    if not relation or not 2 <= len(names) <= 10:
        return ()
    return (Asked(Quantity.COMPARISON, names, relation, which=True),)


def _difference(match: re.Match[str]) -> tuple[Asked, ...]:
    return tuple(replace(one, quantity=Quantity.DIFFERENCE) for one in _holds(match))


_X, _Y = "(?P<x>.+?)", "(?P<y>.+?)"
_PAIRED = rf"(?:between|separating) {_X} and {_Y}"
_LATERAL = "left|right"
_RELATION = rf"(?:(?:more|further|farther) )?(?P<r>{'|'.join(RELATION_WORDS)})"
_TO_CAMERA = rf"(?: (?:away )?(?:to|from) (?:{_CAMERA}))?"
_SURFACE = (
    r"(?:(?:nearest|closest|facing|outer|inner) )?(?:surfaces|edges|sides|boundaries|borders)"
)
_SURFACE_TO = r"(?:surface[- ]to[- ]surface|edge[- ]to[- ]edge|(?:smallest|shortest|minimum|minimal|closest) )"
_LOCATED = r"(?: (?:located|placed|positioned|situated|found|visible))?"
_THERE = r"(?: (?:are|is) (?:there|visible|shown|present)| (?:do|can|could) (?:you|i|we) (?:see|find|count|spot))?"


def _form(
    pattern: str, make: Callable[[re.Match[str]], tuple[Asked, ...]]
) -> tuple[re.Pattern[str], Callable[[re.Match[str]], tuple[Asked, ...]]]:
    return re.compile(pattern, re.I), make


def _forms() -> Iterator[tuple[re.Pattern[str], Callable[[re.Match[str]], tuple[Asked, ...]]]]:
    camera = _one(Quantity.CAMERA_DISTANCE)
    gap, distance = _pair(Quantity.GAP), _pair(Quantity.DISTANCE)
    size = _one(Quantity.SIZE)
    # the gap before the distance: "the distance between the surfaces of A and B" is a gap
    between = rf"(?:there |there is )?(?:(?:is|is there|exists) )?{_PAIRED}"
    nouns = r"(?:gap|clearance|(?:free |empty |open )?space|free room)"
    yield _form(rf"{_WHAT}{_ABOUT}{nouns} {between}", gap)
    yield _form(rf"how (?:wide|big|large|much) {_IS} the {nouns} {_PAIRED}", gap)
    yield _form(
        rf"how (?:much|wide a|big a|large a) (?:free |empty |open )?(?:space|room|clearance|gap) {between}",
        gap,
    )
    yield _form(rf"{_WHAT}{_ABOUT}{_SURFACE_TO} ?(?:distance|separation) {between}", gap)
    yield _form(
        rf"{_WHAT}{_ABOUT}(?:distance|separation|gap) between the {_SURFACE} of {_X} and (?:of )?{_Y}",
        gap,
    )
    yield _form(rf"how (?:close|far apart|near) {_IS} the {_SURFACE} of {_X} and (?:of )?{_Y}", gap)
    yield _form(
        rf"how (?:far|close) (?:away )?(?:is|are) (?:{_CAMERA}) (?:away )?(?:from|to) {_X}", camera
    )
    yield _form(
        rf"how (?:far|close) (?:am i|are you|are we|is the camera) (?:away )?(?:from|to) {_X}",
        camera,
    )
    yield _form(
        rf"how (?:far|close)(?: away)? {_IS} {_X} (?:located |placed )?(?:away )?(?:from|to) (?:{_CAMERA})",
        camera,
    )
    yield _form(
        rf"how far(?: away)?(?: from (?:{_CAMERA}))? {_IS} {_X}(?: away)?(?: (?:from|to) (?:{_CAMERA}))?",
        _camera_or_pair,
    )
    noun = r"(?:(?:camera[- ])?distance|range)"
    yield _form(
        rf"{_WHAT}{_ABOUT}{noun} (?:of|from|to|between) (?:{_CAMERA}) (?:to|from|and) {_X}", camera
    )
    yield _form(
        rf"{_WHAT}{_ABOUT}{noun} (?:of|from|to|between) {_X} (?:to|from|and) (?:{_CAMERA})", camera
    )
    yield _form(
        rf"{_WHAT}{_ABOUT}(?:(?:camera[- ])?distance to|camera[- ]distance of) {_X}", camera
    )
    centred = r"(?:cent(?:er|re)[- ]to[- ]cent(?:er|re) )?"
    yield _form(rf"{_WHAT}{_ABOUT}{centred}(?:distance|separation) {between}", distance)
    yield _form(
        rf"{_WHAT}{_ABOUT}{centred}(?:distance|separation) (?:of|from) {_X} (?:to|from) {_Y}",
        distance,
    )
    yield _form(
        rf"{_WHAT}{_ABOUT}(?:distance|separation) between the cent(?:er|re)s of {_X} and (?:of )?{_Y}",
        distance,
    )
    yield _form(
        rf"how far(?: apart| away)? {_IS} {_X} and {_Y}(?: apart| away)?(?: from (?:each other|one another))?",
        distance,
    )
    yield _form(rf"how far(?: away)? from {_X} {_IS} {_Y}", distance)
    yield _form(rf"{_WHAT}{_ABOUT}length, (?:the )?width,? and (?:the )?height of {_X}", size)
    yield _form(
        rf"{_WHAT}{_ABOUT}(?:height|width|length), (?:the )?(?:height|width|length|depth),? and (?:the )?(?:height|width|length|depth) of {_X}",
        size,
    )
    yield _form(rf"{_WHAT}{_ABOUT}{_NOUN} and (?:the )?{_NOUN} (?:of|for) {_X}", _two_sides_of)
    yield _form(rf"how {_ADJECTIVE} and (?:how )?{_ADJECTIVE} {_IS} {_X}", _two_sides_of)
    yield _form(rf"{_WHAT}{_ABOUT}{_NOUN} (?:of|for) {_X}", _sides_of)
    yield _form(rf"how {_ADJECTIVE} {_IS} {_X}", _sides_of)
    yield _form(
        rf"{_WHAT}(?P<x>.+?)'s {_NOUN}", lambda m: _several((_SIDES[m[2].lower()],), m["x"])
    )
    point = _one(Quantity.POSITION)
    places = r"(?:image |pixel |2-?d )?(?:coordinates?|position|location|point)"
    yield _form(rf"{_WHAT}{_ABOUT}{places} of {_X}", point)
    yield _form(
        rf"(?:at|in) (?:which|what) {places}(?: (?:of|in) {_LOOK})? (?:is|are) {_X}{_LOCATED}",
        point,
    )
    yield _form(rf"where(?:'s| is| are| exactly is) {_X}{_LOCATED}(?: in {_LOOK})?", point)
    yield _form(rf"where (?:can|could|do) (?:i|you|we) (?:find|see) {_X}", point)
    yield _form(rf"(?:point (?:to|at)|locate) {_X}", point)
    yield _form(
        rf"how many {_X}{_THERE}(?: are)?(?: (?P<place>(?:on|in|at|near|under|behind|beside|next to) .+))?",
        _count,
    )
    yield _form(rf"{_WHAT}{_ABOUT}number of {_X}{_THERE}", _count)
    yield _form(rf"(?:count|count up) {_X}", _count)
    exists = _one(Quantity.EXISTS)
    yield _form(
        rf"(?:is|are) there (?=(?:an?|any|some|the|one) ){_X}(?: (?:visible|present))?", exists
    )
    yield _form(
        rf"(?:can|do|could) (?:you|we|i) (?:see|find|spot) (?=(?:an?|any|some|the) ){_X}(?: anywhere)?",
        exists,
    )
    yield _form(
        rf"does {_LOOK} (?:contain|show|include|have) (?=(?:an?|any|some|the) ){_X}", exists
    )
    yield _form(
        rf"(?:is|are) (?=(?:an?|any|the) ){_X} (?:visible|present|shown|(?:in|visible in|present in) {_LOOK})",
        exists,
    )
    yield from _comparison_forms()


def _comparison_forms() -> Iterator[
    tuple[re.Pattern[str], Callable[[re.Match[str]], tuple[Asked, ...]]]
]:
    be = r"(?:is|are|does|do|was|were)"
    looks = r"(?:(?:appear|look|seem|stand|be|located|positioned|placed)(?: to be)? )?"
    plain = (
        r"(?P<r>"
        + "|".join(w for w, r in RELATION_WORDS.items() if r not in ("left", "right"))
        + ")"
    )
    amount = rf"(?:by )?how much {plain}"
    yield _form(rf"{amount} {be} {_X}(?: appear| look)? than {_Y}", _difference)
    yield _form(rf"{amount} than (?P<y>.+?) {be} (?P<x>.+?)", _difference)
    yield _form(rf"by how much {be} {_X} {looks}{plain} than {_Y}", _difference)
    yield _form(rf"{be} {_X} {looks}{plain}{_TO_CAMERA} than {_Y}", _holds)
    yield _form(
        rf"{be} {_X} {looks}(?:to|on) the (?P<r>{_LATERAL})(?:[- ]hand)?(?: side)? of {_Y}", _holds
    )
    yield _form(
        rf"{be} {_X} {looks}(?P<r>left|right|above|below|under|beneath|underneath)(?: of)? {_Y}",
        _holds,
    )
    which = r"(?:which|what|who)(?: (?:one|object|item|thing|of (?:them|these|the two|the three)))?(?: of (?:them|these|the two|the three))?"
    isit = r"(?:'s| is| are| stands?| appears?| looks?| seems?)(?: to be)?(?: the)?(?: (?:one|object))?"
    said = rf"(?: (?:located|positioned|placed))?(?: (?:to|on|more to|further to) the)? ?{_RELATION}(?: (?:one|object|side))?"
    end = rf"{_TO_CAMERA}(?: (?:of|among|between|out of))?"
    yield _form(rf"{which}{isit} ?{said}{end}[,:]? (?:is it )?{_X}", _which)
    yield _form(
        rf"(?:between|of|among|out of|comparing) {_X},? {which}{isit} ?{said}{_TO_CAMERA}", _which
    )
    yield _form(rf"which of {_X}{isit} ?{said}{_TO_CAMERA}", _which)
    yield _form(rf"{be} {_X} {looks}{plain}{_TO_CAMERA}", _either)


def _either(match: re.Match[str]) -> tuple[Asked, ...]:
    """ "Is the A or the B taller?" """
    return _which(match) if " or " in match["x"] else ()


def _camera_or_pair(match: re.Match[str]) -> tuple[Asked, ...]:
    """ "How far is A?" asks for the camera; "How far is A from B?" for both."""
    first, found, second = match["x"].partition(" from ")
    if not found:
        return _one(Quantity.CAMERA_DISTANCE)(match)
    names = name_of(re.sub(r" (?:away|located)$", "", first)), name_of(second)
    return (Asked(Quantity.DISTANCE, names),) if all(names) else ()


_FORMS = tuple(_forms())
