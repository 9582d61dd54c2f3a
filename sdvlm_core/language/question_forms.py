"""The forms of typed questions: patterns that cover a whole question, and what each asks.

The tables are in order: the first pattern that fits decides ("the distance between the surfaces of
A and B" is a gap, before it can be a distance of "surfaces of A"). Does not know politeness, units
or stated facts: `question_words` takes them off first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from sdvlm_core.answer import Asked, Quantity
from sdvlm_core.language.asked_names import ARTICLE, name_of, without_centre
from sdvlm_core.language.relations import ASKED_WORDS, RELATION_WORDS

Maker = Callable[[re.Match[str]], tuple[Asked, ...]]

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
    bare = [part for part in parts[1:] if not ARTICLE.match(part)]
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


def _centres(match: re.Match[str]) -> tuple[Asked, ...]:
    """The distance of two objects is that of their centres, said or not."""
    first, second = (name_of(without_centre(match[key])) for key in ("x", "y"))
    return (Asked(Quantity.DISTANCE, (first, second)),) if first and second else ()


def _sides_of(match: re.Match[str]) -> tuple[Asked, ...]:
    return _several((_SIDES[match["side"].lower()],), match["x"])


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
    relation = ASKED_WORDS.get(match["r"].lower(), "")
    first, second = name_of(match["x"]), name_of(match["y"])
    known = relation and first and second
    return (Asked(Quantity.COMPARISON, (first, second), relation),) if known else ()


def _which(match: re.Match[str]) -> tuple[Asked, ...]:
    relation = ASKED_WORDS.get(match["r"].lower(), "")
    names = _names(match["x"])
    if not relation or not 2 <= len(names) <= 10:
        return ()
    return (Asked(Quantity.COMPARISON, names, relation, which=True),)


def _difference(match: re.Match[str]) -> tuple[Asked, ...]:
    return tuple(replace(one, quantity=Quantity.DIFFERENCE) for one in _holds(match))


def _either(match: re.Match[str]) -> tuple[Asked, ...]:
    """ "Is the A or the B taller?" """
    return _which(match) if " or " in match["x"] else ()


def _camera_or_pair(match: re.Match[str]) -> tuple[Asked, ...]:
    """ "How far is A?" asks for the camera; "How far is A from B?" for both."""
    first, found, second = match["x"].partition(" from ")
    if not found:
        return _one(Quantity.CAMERA_DISTANCE)(match)
    first = re.sub(r" (?:away|located)$", "", first)
    names = tuple(name_of(without_centre(one)) for one in (first, second))
    return (Asked(Quantity.DISTANCE, names),) if all(names) else ()


_NOT_LATERAL = "|".join(word for word, to in RELATION_WORDS.items() if to not in ("left", "right"))
#: The words of the patterns below, by name.
VOCABULARY = {
    "x": "(?P<x>.+?)",
    "y": "(?P<y>.+?)",
    "camera": (
        r"(?:(?:(?:the|this|your|my|our) )?(?:camera(?: lens)?|viewer|observer|viewpoint|lens|robot"
        r"|photographer)|me|you|us|here|where (?:i am|we are|you are)(?: standing)?)"
    ),
    "look": (
        r"(?:the|this|that|your|my) (?:given |provided |attached )?"
        r"(?:image|picture|photo|photograph|scene|view|frame)"
    ),
    "what": (
        r"(?:what(?:'s| is| are| would be| might be)|(?:measure|estimate|determine|find|say|compute"
        r"|calculate|state|report|provide|give)(?: me| us)?|(?:to )?know)? ?"
    ),
    "about": (
        r"(?:(?:the|an?|its) )?(?:(?:approximate|estimated|exact|total|actual|real|overall|full"
        r"|physical|rough|likely) )*"
    ),
    "is": "(?:is|are|was|were|would be)",
    "noun": "(height|width|breadth|length|size|dimensions)",
    "adjective": "(tall|high|wide|broad|long|big|large)",
    "side": "(?:the )?(?:height|width|length|depth)",
    "gap": "(?:gap|clearance|(?:free |empty |open )?space|free room)",
    "between": (
        "(?:(?:is there|there is|there|is|exists|is left|left|remains|do (?:i|we|you) have) )?"
        "(?:between|separating|separates)"
    ),
    "upwards": "from (?:(?:its|the) )?(?:bottom|base) to (?:(?:its|the) )?top",
    "surfaces": (
        r"(?:(?:nearest|closest|facing|outer|inner) )?"
        r"(?:surfaces|edges|sides|boundaries|borders)"
    ),
    "surface_to": (
        r"(?:surface[- ]to[- ]surface|edge[- ]to[- ]edge"
        r"|smallest|shortest|minimum|minimal|closest)"
    ),
    "centred": r"(?:cent(?:er|re)[- ]to[- ]cent(?:er|re) )?",
    "range": r"(?:(?:camera[- ])?distance|range)",
    "away": "(?: located| placed)?(?: away)?",
    "apart": "(?:distance|separation|spacing)",
    "each_other": "(?: apart| away)?(?: from (?:each other|one another))?",
    "place": r"(?:image |pixel |2-?d )?(?:coordinates?|position|location|point)",
    "located": "(?: (?:located|placed|positioned|situated|found|visible))?",
    "there": (
        r"(?: (?:are|is) (?:there|visible|shown|present)| appear"
        r"| (?:do|can|could) (?:you|i|we) (?:see|find|count|spot))?"
    ),
    "some": "(?=(?:an?|any|some|the|one) )",
    "be": "(?:is|are|does|do|was|were)",
    "looks": "(?:(?:appear|look|seem|stand|be|located|positioned|placed)(?: to be)? )?",
    "more": f"(?P<r>{_NOT_LATERAL})",
    "any_more": (
        f"(?:(?:more|further|farther) )?(?P<r>{'|'.join(RELATION_WORDS)})(?: (?:one|object|side))?"
    ),
    "which": (
        r"(?:which|what|who)(?: (?:one|object|item|thing))?"
        r"(?: of (?:them|these|the two|the three))?"
    ),
    "group": (
        r"(?:(?:the |these |those )?(?:both|two|three|four|five|these|those)?"
        r"(?: ?(?:objects|things|items))?[,:] )?"
    ),
    "stands": (
        r"(?:'s| is| are| stands?| appears?| looks?| seems?| comes? out)(?: to be)?(?: the)?"
        r"(?: (?:one|object))?(?: (?:located|positioned|placed))?"
        r"(?: (?:to|on|more to|further to) the)? ?"
    ),
}
VOCABULARY |= {
    "to_camera": f"(?: (?:away )?(?:to|from) {VOCABULARY['camera']})?",
    "pair": f"{VOCABULARY['between']} (?P<x>.+?) and (?P<y>.+?)",
    "ask": VOCABULARY["what"] + VOCABULARY["about"],
}
_TABLES: tuple[tuple[Maker, tuple[str, ...]], ...] = (
    (
        _pair(Quantity.GAP),
        (
            "(?:what |{ask}){gap} {pair}",
            "how (?:wide|big|large|much) {is} the {gap} {pair}",
            "how (?:much|wide a|big a|large a) (?:free |empty |open )?"
            "(?:space|room|clearance|gap) {pair}",
            "{ask}{surface_to} ?(?:distance|separation) {pair}",
            "{ask}(?:distance|separation|gap) between the {surfaces} of {x} and (?:of )?{y}",
            "how much (?:free |empty |open )?(?:space|room|clearance) {between} the {surfaces} of"
            " {x} and (?:of )?{y}",
            "how (?:close|far apart|near) {is} the {surfaces} of {x} and (?:of )?{y}",
        ),
    ),
    (
        _one(Quantity.CAMERA_DISTANCE),
        (
            "how (?:far|close) (?:away )?(?:is|are) {camera} (?:away )?(?:from|to) {x}",
            "how (?:far|close) (?:am i|are we) (?:away )?(?:from|to) {x}",
            "how (?:far|close)(?: away)? {is} {x}{away} (?:from|to) {camera}",
            "(?:at )?what distance from {camera} {is} {x}",
            "(?:at )?what distance {is} {x} from {camera}",
        ),
    ),
    (
        _camera_or_pair,
        (
            "how far(?: away)?(?: from {camera})? {is} {x}(?: away)?",
            "how far(?: away)?(?: from {camera})? do(?:es)? {x} (?:sit|stand|lie)",
        ),
    ),
    (
        _one(Quantity.CAMERA_DISTANCE),
        (
            "{ask}{range} (?:of|from|to|between) {camera} (?:to|from|and) {x}",
            "{ask}{range} (?:of|from|to|between) {x} (?:to|from|and) {camera}",
            "{ask}(?:(?:camera[- ])?distance to|camera[- ]distance of) {x}",
        ),
    ),
    (
        _centres,
        (
            "(?:what |{ask}){apart} {between} the cent(?:er|re)s of {x} and (?:of )?{y}",
            "(?:what |{ask}){centred}{apart} {pair}",
            "{ask}{centred}{apart} (?:of|from) {x} (?:to|from) {y}",
            "measured between (?:their|the) cent(?:er|re)s, how far apart {is} {x} and {y}",
            "how far(?: apart| away)? {is} {x} and {y}{each_other}",
            "how far(?: away)? from {x} {is} {y}",
        ),
    ),
    (
        _one(Quantity.HEIGHT),
        (
            "{ask}(?:vertical )?(?:height|extent) of {x} {upwards}",
            "{ask}vertical (?:height|extent) of {x}",
            "how (?:tall|high) (?:is|are) {x} {upwards}",
            "how (?:tall|high) do(?:es)? {x} (?:stand|measure) {upwards}",
            "how much do(?:es)? {x} measure {upwards}",
        ),
    ),
    (
        _one(Quantity.WIDTH),
        (
            "{ask}(?:horizontal|side[- ]to[- ]side) width of {x}",
            "how (?:much|wide) (?:is|are|does|do) {x}(?: measure)? from side to side",
        ),
    ),
    (
        _one(Quantity.LENGTH),
        (
            "{ask}end[- ]to[- ]end length of {x}",
            "how (?:much|long) (?:is|are|does|do) {x}(?: measure)? from end to end",
        ),
    ),
    (
        _one(Quantity.SIZE),
        ("{ask}{side}, {side},? and {side} of {x}",),
    ),
    (
        _two_sides_of,
        (
            "{ask}{noun} and (?:the )?{noun} (?:of|for) {x}",
            "how {adjective} and (?:how )?{adjective} {is} {x}",
        ),
    ),
    (
        _sides_of,
        (
            "{ask}(?P<side>height|width|breadth|length|size|dimensions) (?:of|for) {x}",
            "how (?P<side>tall|high|wide|broad|long|big|large) {is} {x}",
            "what (?P<side>height|width|breadth|length|size|dimensions) do(?:es)? {x} have",
            "what (?P<side>size) {is} {x}",
            "{what}{x}'s (?P<side>height|width|breadth|length|size|dimensions)",
        ),
    ),
    (
        _one(Quantity.POSITION),
        (
            "{ask}{place} of {x}",
            "(?:at|in) (?:which|what) {place}(?: (?:of|in) {look})? (?:is|are) {x}{located}",
            "(?:at|in) (?:which|what) {place}(?: (?:of|in) {look})? do(?:es)? {x} appear",
            "where(?:'s| is| are| exactly is) {x}{located}(?: in {look})?",
            "where (?:can|could|do) (?:i|you|we) (?:find|see) {x}",
            "(?:point (?:to|at)|locate) {x}",
        ),
    ),
    (
        _count,
        (
            "how many {x}{there}(?: are)?"
            "(?: (?P<place>(?:on|in|at|near|under|behind|beside|next to) .+))?",
            "{ask}(?:number|count) of {x}{there}",
            "(?:count|count up) {x}",
        ),
    ),
    (
        _one(Quantity.EXISTS),
        (
            "(?:is|are) there {some}{x}(?: (?:visible|present))?",
            "(?:can|do|could) (?:you|we|i) (?:see|find|spot) {some}{x}(?: anywhere)?",
            "does {look} (?:contain|show|include|have) {some}{x}",
            "(?:is|are) {some}{x} (?:visible|present|shown|(?:visible |present )?in {look})",
        ),
    ),
    (
        _difference,
        (
            "(?:by )?how much {more} {be} {x}(?: appear| look)? than {y}",
            "(?:by )?how much {more} than {y} {be} {x}",
            "by how much {be} {x} {looks}{more} than {y}",
        ),
    ),
    (
        _holds,
        (
            "{be} {x} {looks}{more}{to_camera} than {y}",
            "{be} {x} {looks}(?:to|on) the (?P<r>left|right)(?:[- ]hand)?(?: side)? of {y}",
            "{be} {x} {looks}(?P<r>left|right|above|below|under|beneath|underneath)(?: of)? {y}",
        ),
    ),
    (
        _which,
        (
            "{which}{stands}{any_more}{to_camera}(?: (?:of|among|between|out of))?[,:]?"
            " (?:is it )?{x}",
            "(?:between|of|among|out of|comparing|looking at|(?:if you )?compare) {group}{x}[,:]? "
            "{which}{stands}{any_more}{to_camera}",
            "(?:pick|choose|name) the {any_more}{to_camera} (?:of|among|from) {group}{x}",
            "which(?: one| object)? of {x}{stands}{any_more}{to_camera}",
        ),
    ),
    (_either, ("{be} {x} {looks}{more}{to_camera}",)),
)
_FORMS = tuple(
    (re.compile(pattern.format(**VOCABULARY), re.I), make)
    for make, patterns in _TABLES
    for pattern in patterns
)


def understood(text: str) -> tuple[Asked, ...]:
    """The typed questions that a bare question is; () = it has no known form."""
    for form, make in _FORMS:
        match = form.fullmatch(text)
        if match is not None and (asked := make(match)):
            return asked
    return ()
