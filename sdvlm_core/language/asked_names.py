"""A part of a question -> the name of the object that it asks about, or none.

Knows what cannot be a name: other words of a question, a part of an object, the image itself. Does
not know the forms of questions (`question_forms`), nor which region has the object's label.
"""

from __future__ import annotations

import re

from sdvlm_core.language.object_names import PREPOSITIONS

ARTICLE = re.compile(r"(?:the|an?|this|that|these|those|any|some|your|my|its) ", re.I)
_NOT_A_NAME = re.compile(
    r"[,;:?!(){}\[\]<>=|]|\d\s*(?:m|cm|mm|ft|in)\b"
    r"|\b(?:and|or|than|is|are|was|were|be|been|how|what|which|who|whose|where|why|when|if|do|does"
    r"|did|would|could|should|will|say|think|you|between|not|versus|vs|compared|respectively|there"
    r"|it|them|they|he|she|this|that|these|those|each|other|both|its|their|sum|ratio|difference"
    r"|centers|centres|surfaces|edges|distance|height|width|length|size|taller|shorter|wider"
    r"|closer|farther|fit|fits)\b|\bfrom .+ to\b"
    r"|\b(?:above|over|off) the (?:floor|ground)\b"
    r"|^(?:to|from|of|on|in|at|with|for|by|above|below|under|near)\b",
    re.I,
)
#: A part of an object has a place of its own: "the top of the box", "its right side".
_PART = r"(?:left|right|top|bottom|upper|lower|front|back|rear|near|far|other|one)?(?: |-)?"
_IS_PART = re.compile(
    rf"^{_PART}(?:sides?|ends?|edges?|tops?|bottoms?|corners?|front|back|cent(?:er|re)|middle)"
    r"(?: of\b|$)",
    re.I,
)
_CENTRE_OF = re.compile(
    r"^(?:the |its )?(?:cent(?:er|re)|middle)s? of (?=(?:the|an?|this|that) )", re.I
)
_MAX_NAME_WORDS = 10
#: "check the lamp", "whether the lamp": an article inside of a name follows a preposition only.
_INNER_ARTICLE = re.compile(r"(\S+) (?:the|an?) ", re.I)
#: "the picture frame" is an object; these alone are the image, the camera or a number.
_NO_OBJECTS = frozenset(
    ("image", "picture", "photo", "scene", "camera", "viewer", "you", "me", "us", "two", "three")
)


def name_of(text: str) -> str:
    """An object's name without its article; "" where the text is not clearly one name."""
    name = text.strip(' .,?!"*')
    article = ARTICLE.match(name)
    name = name[article.end() :] if article else name
    known = (
        not name
        or name.lower() in _NO_OBJECTS
        or _NOT_A_NAME.search(name)
        or _IS_PART.match(name)
        or any(one[1].lower() not in PREPOSITIONS for one in _INNER_ARTICLE.finditer(name))
        or len(name.split()) > _MAX_NAME_WORDS
    )
    return "" if known else name


def without_centre(text: str) -> str:
    """ "the centre of the mug" as "the mug": a distance is that of the centres, said or not."""
    return _CENTRE_OF.sub("", text)
