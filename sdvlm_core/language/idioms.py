"""Idioms -> the words that the grammar of answers knows: "nowhere near 2 m" is "not 2 m".

So are common misspellings: "heigth". Text in, text out; every rule is one pass of a regular
expression, linear in time. Does not know grammar or questions.
"""

from __future__ import annotations

import re

_NUMBER = r"(?:about |around |being |exactly |a )?(?:\d|(?:one|two|three|four|five|six|ten|half)\b)"
#: Words as small models write them.
_MISSPELT = {
    **dict.fromkeys(("heigth", "hieght", "heigt", "heighth", "hight"), "height"),
    **dict.fromkeys(("lenght", "lenth", "legnth"), "length"),
    **dict.fromkeys(("widht", "witdh", "widthh"), "width"),
    **dict.fromkeys(("distanse", "distence", "distane", "distnce"), "distance"),
    **dict.fromkeys(("arround", "aroud"), "around"),
    **dict.fromkeys(("betwen", "beetween", "beetwen"), "between"),
    **dict.fromkeys(
        ("aproximately", "approximatly", "aproximatly", "approximatley", "aprox"), "about"
    ),
}
_MISSPELLING = re.compile(rf"\b(?:{'|'.join(_MISSPELT)})\b", re.I)
_RULES = [
    (re.compile(rf"\b(?:{pattern})", re.I), new)
    for pattern, new in (
        (r"nowhere (?:near|close to)\b", "not"),
        (rf"far from (?={_NUMBER})", "not "),
        (r"anything but\b", "not"),
        (r"fail(?:s|ed)? to (?:reach|be|measure|have)\b", "is not"),
        (r"too \w{1,20} to (?:be|measure|reach|have) (?=\d|an?\b|one|two|three|four|five)", "not "),
        (r"no (?=\d)", "not "),
        (r"not (?:only|just) (?=an? |the )", ""),
        (r"(?:none|nothing) (?:other than|but) ", ""),
        (r"(?:scratch|strike) that\b|on second thoughts?\b", "correction"),
        (r"at first (?:glance|sight)\b", "first guess"),
        (r"closer to (?=\d[^.!?;\n]{0,60}\bthan\b)", "over "),  # "closer to 2 m than to 1 m"
        (r"closer to (?=\d)", "about "),
        (r"(?:a|the|its|maximum|working) reach of\b", "a radius of"),
        # and not "there is not a single mug"
        (r"(?:(?<![\w' ] )|(?<=\bis )|(?<=only )|(?<=just )|(?<=I see ))a single (?=[a-z])", "1 "),
        (r"tl;? ?dr\b", "answer"),
        (r"(?<=\w )which (?:makes|gives|adds up to|totals)\b", "making"),
        # what was
        (
            r"last (?:year|month|week|time)\b|yesterday\b|(?:years?|months?|weeks?|days?) ago\b"
            r"|used to (?:be|have|measure)\b",
            "formerly",
        ),
        # as small models write
        (r"more (?:tall|high)\b", "taller"),
        (r"more short\b", "shorter"),
        (r"more wide\b", "wider"),
        (r"more long\b", "longer"),
        (r"more big\b", "bigger"),
        (r"(?<=er )then (?=the |an? |\w{1,20}[.!]?$)", "than "),
        # what others think
        (
            r"(?:some|many|most|other|a few) (?:people|viewers) (?:(?:may|might|would|could) )?"
            r"(?:think|say|guess|assume|believe|expect|claim)\b",
            "if",
        ),
        (r"(?:one|you|someone|people) (?:may|might) (?:think|assume|believe|expect)\b", "if"),
    )
]


def in_plain_words(text: str) -> str:
    """The text with its idioms and misspellings replaced."""
    text = _MISSPELLING.sub(lambda found: _MISSPELT[found[0].lower()], text)
    for form, new in _RULES:
        text = form.sub(new, text)
    return text
