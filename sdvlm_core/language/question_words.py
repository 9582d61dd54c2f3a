"""Words -> typed questions, by whole-sentence patterns.

A question is understood only if one pattern covers all of it, after politeness, the unit asked for
and a stated fact are taken off. Every other question is FREE: there is no guess from key words.
Reads English. Does not know answers (`reading`) or how a model is asked (`question.phrase`).
"""

from __future__ import annotations

import re
from dataclasses import replace

from sdvlm_core.answer import Asked, Quantity
from sdvlm_core.language.amounts import amounts
from sdvlm_core.language.question_forms import VOCABULARY, understood
from sdvlm_core.language.relations import RELATION_WORDS
from sdvlm_core.language.units import UNITS

#: Characters; a longer text is FREE. The patterns below take linear time within this bound.
MAX_PARSED = 1000
_LOOK = VOCABULARY["look"]
_VIEW = (
    r"from (?:the|your|my) (?:(?:viewer|camera)'s )?(?:perspective|point of view|viewpoint)"
    r"(?: of the (?:viewer|camera))?"
)
_SPACES = re.compile(r"\s+")
_POLITE = re.compile(
    r"(?:(?:please|kindly|hello|hi|hey|now|ok|okay|so)(?: robot| there)?\b[,!]?"
    r"|(?:about|roughly|approximately)(?=,? (?:how|what)\b),?"
    r"|look at " + _LOOK + r"(?:[.,]| and)?|(?:check|confirm|verify)(?= (?:if|whether|that)\b)"
    r"|is it (?:true|correct|right)(?= that\b)"
    r"|i need(?= the\b)|(?:check|report|find out|say)(?= the\b)|work out(?= (?:the|how)\b)"
    r"|(?:can|could|would|will) you(?: please)?"
    r"(?= (?:please|kindly|tell|give|measure|estimate|determine|find|say|compute|calculate|count"
    r"|state|report|provide|point|locate|show|check|confirm|verify|work out))"
    r"|(?:tell|show) (?:me|us),?|let (?:me|us) (?:know|have|see)|what about(?= the\b)"
    r"|use (?:" + _LOOK + r"|(?:your|the) camera) (?:to|and)|given " + _LOOK + r",?"
    r"|i(?:'d| would) like(?: you to)?"
    r"(?= (?:the|estimate|measure|find|determine|give|report|compute|calculate)\b)"
    r"|say(?= (?:which|what|how)\b)"
    r"|(?:do|would) you know|i(?:'d| would) like to know"
    r"|i (?:want|need|wish) to know|i wonder|what do you think"
    r"|(?:looking|based) (?:at|on) " + _LOOK + r",?|(?:in|from) " + _LOOK + r",?"
    rf"|{_VIEW},?) ",
    re.I,
)
#: A question for an opinion: "How long would you say it is?", "Do you think the mug is ...?"
_OPINION = r"(?:would|do) you (?:say|think|guess|reckon)(?: that)?(?= )"
_INSERTED = re.compile(rf"(?<=\S) {_OPINION}", re.I)
_OPENING = re.compile(rf"^{_OPINION}(?= (?:the|there|an?) )", re.I)
_TAIL = re.compile(
    r",? (?:please|about|approximately|roughly|exactly|if you can|do you think|would you say"
    r"|in total|for me|in real(?:ity| life)|(?:anywhere )?in (?:view|sight)|anywhere"
    r"|(?:in|from|of|within|on) " + _LOOK + rf"|(?:as seen )?{_VIEW})[?.! ]*$",
    re.I,
)
_INSTRUCTION = re.compile(
    r"(?<=[?.!]) (?:please |kindly )?"
    r"(?:answer|give|reply|respond|use|state|write|return|output|only|just)\b[^?]*$",
    re.I,
)
#: A second sentence: it may change what is asked, and no name goes on after it.
_SENTENCE_END = re.compile(r"[?.!] ")
_UNIT_WORDS = "|".join(
    sorted((re.escape(word) for word in UNITS if word.isascii() and word.isalpha()), key=len)[::-1]
)
_UNIT = re.compile(
    rf"(?:,? (?:measured |expressed |stated )?(?:in|using) (?:units of )?({_UNIT_WORDS})"
    rf"| [(\[](?:in )?({_UNIT_WORDS})[)\]])(?=[?.!, ]*$|,)",
    re.I,
)
_UNIT_OF_ANSWER = re.compile(rf"\b(?:in|using|use|or|and) (?:units of )?({_UNIT_WORDS})\b", re.I)
_HOW_MANY_UNITS = re.compile(
    rf"^how many ({_UNIT_WORDS}) (?=(?:tall|high|wide|broad|long|far|apart|away|taller|shorter"
    r"|wider|narrower|longer|closer|farther|further|is|are|from)\b)",
    re.I,
)
_GIVEN = re.compile(
    r"^(?:(?:given|knowing|assuming|considering|since|if|provided)(?: that)?,? )?(.+)$", re.I
)
_FACT_AFTER = re.compile(
    r",? (?:given|knowing|assuming|considering|if|provided)(?: that)? (.+?)[?.! ]*$", re.I
)


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
    text, told = _without_instruction(text)
    text, reference = _without_fact(text)
    reference = _THE.sub(lambda match: match[0].lower(), reference)
    text, unit = _without_unit(text)
    text = _bare(text)
    text, unit = _without_unit(text) if not unit else (text, unit)
    units = {unit, told} - {""}
    unit = units.pop() if len(units) == 1 else ""  # "in feet? Answer in inches." is in neither
    text = _bare(_direct(_AWAY.sub("farther", text)))
    if any(amount.dimension == "length" for amount in amounts(text)):
        return ()  # "closer than 2 m?" compares with a number
    if _SENTENCE_END.search(text):
        return ()
    asked = understood(text)
    return tuple(replace(one, unit=unit, reference=reference) for one in asked)


_THE = re.compile(r"^(?:The|An?) ")
_AWAY = re.compile(r"\b(?:further|farther) away\b", re.I)
_INDIRECT = re.compile(
    r"(how (?:far|tall|high|wide|broad|long|big|large|much \w+er)) (.+?) (is|are)\b(.*)",
    re.I,
)


_NO_SUBJECT = frozenset(("is", "are", "apart", "away", "and", "from", *RELATION_WORDS))


#: Indirect and tagged questions -> the direct question; each covers the whole text.
_DIRECT = [
    (re.compile(pattern, re.I), form)
    for pattern, form in (
        (r"(?:if|whether) there (is|are) (.+)", r"\1 there \2"),
        (r"(?:if|whether|that) (the .+?) (is|are) (.+)", r"\2 \1 \3"),
        (r"(the .+?) (is|are) (.+?),? (?:right|correct|isn't it)", r"\2 \1 \3"),
        (r"where (the .+?) (is|are)", r"where \2 \1"),
        (r"(?:about )?(?:what|how much) (?:is )?(the .+?)(?: is)?", r"what is \1"),
        (r"what would (the .+) be", r"what is \1"),
        (r"how far apart (.+?) are", r"how far apart are \1"),
        (
            r"(?:the )?(?:gap|space|room) between (.+?), and how (?:wide|big) is it",
            r"gap between \1",
        ),
        (r"compared (?:with|to) (.+?), (how much \w+er (?:is|are) .+)", r"\2 than \1"),
        (r"(how much \w+er (?:is|are) .+?),? compared (?:with|to) (.+)", r"\1 than \2"),
        (r"by how much (the .+?) (is|are) (\w+er) than (.+)", r"how much \3 \2 \1 than \4"),
        (r"(?:is there )(an? .+?) that (?:you|i|we) can see", r"is there \1"),
        (r"(is) (an? .+?) to be seen", r"\1 there \2"),
        (r"how many (.+?) are there to be seen", r"how many \1 are there"),
        (r"how many (.+?)(?: can| do| could)? (?:you|we|i) (?:can )?see", r"how many \1 are there"),
        (r"how many (.+?) there are", r"how many \1 are there"),
        (r"how far (?:it is|is it) from (.+?) to (.+)", r"how far is \1 from \2"),
        (r"how far (from .+?) (the .+?) (is|are)", r"how far \3 \2 \1"),
        (r"how far away (the .+?) (is|are)(.*)", r"how far away \2 \1\3"),
        (r"how much (\w+er) than (.+?) (is|are) (.+)", r"how much \1 \3 \4 than \2"),
        (r"where in " + _LOOK + r" (is|are) (.+)", r"where \1 \2"),
        (r"find (an? .+)", r"is there \1"),
        (r"(is|are) there (.+?) to be seen", r"\1 there \2"),
        (r"how many (.+?) does " + _LOOK + " (?:show|have)", r"how many \1 are there"),
        (
            r"(?:(?:what is|measure|estimate|give|find|determine) )?"
            r"the (?:clearance|free space|size of the gap) between (.+)",
            r"what is the gap between \1",
        ),
    )
]


def _direct(text: str) -> str:
    """ "how tall the mug is" of an indirect question as "how tall is the mug"."""
    for pattern, form in _DIRECT:
        if (match := pattern.fullmatch(text)) is not None:
            return match.expand(form)
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


def _without_instruction(text: str) -> tuple[str, str]:
    """The question without how to answer ("Answer in cm."), and the sign of the unit in it."""
    match = _INSTRUCTION.search(text)
    if match is None:
        return text, ""
    units = {_sign(unit) for unit in _UNIT_OF_ANSWER.findall(match[0])}
    return text[: match.start()], units.pop() if len(units) == 1 else ""


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
    text = _OPENING.sub("whether", text.strip(" ?.!,"))
    for _ in range(6):  # "Hello, could you please tell me ..."
        opening = _POLITE.match(text)
        shorter = _TAIL.sub("", text[opening.end() :] if opening else text)
        shorter = shorter.strip(" ?.!,:")
        if shorter == text:
            break
        text = shorter
    return _INSERTED.sub("", text)
