"""Text -> whether an object is denied: "I see no sofa", "the mug is not visible".

"I cannot see the height of the mug" denies none. Does not know verdicts or numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sdvlm_core.language import words as w
from sdvlm_core.language.mentions import means
from sdvlm_core.language.tokens import vocabulary
from sdvlm_core.language.yes_no import NOT_OBJECTS

_NO_OBJECT = f"(?:{'|'.join(sorted(NOT_OBJECTS))})"
_STOP = (
    r"(?=\s(?:in|on|at|next|near|under|behind|beside|is|are|visible|present|here|there|that|which"
    r"|shown|to|and|or)\b|[.,;!?\n]|$)"
)
_THING = rf"(?P<name>[\w' -]{{1,60}}?){_STOP}"
_SEEING = r"(?:see|find|locate|identify|detect|spot)"
_DENIED = [
    re.compile(pattern, re.I)
    for pattern in (
        rf"\bthere(?:'s| is| are| was| were) (?:clearly |actually )?no {_THING}",
        rf"\bthere (?:isn't|aren't|is not|are not|wasn't) (?:an? |any |the )?{_THING}",
        r"\bthere (?:doesn't|does not|don't|do not) (?:appear|seem) to be (?:an? |any |the )?"
        rf"{_THING}",
        rf"(?:^|[.!\n,]\s{{0,3}}|yes,? |no,? )no (?!{_NO_OBJECT}\b){_THING}",
        rf"\b(?:can'?t|cannot|can not|could not|couldn't|don't|do not|didn't|unable to|not able to)"
        rf" (?:actually |clearly )?{_SEEING} (?:an? |any |the )?{_THING}",
        rf"\b(?:but|and) no {_THING}",
        rf"\b(?:see|find|contains?|shows?|has|have) no {_THING}",
        r"(?:^|[.!?\n,] ?)(?:the |an? |any )?(?P<name>[\w' -]{1,60}?) (?:is not|isn't|are not"
        r"|aren't|does not|doesn't|do not|don't|cannot be|can't be|could not be)"
        r" (?:actually |clearly )?(?:visible|present|shown|exist|appear|seen|found"
        r"|detected"
        r"|in (?:the|this) (?:image|picture|scene|photo|view|frame))"
        r"(?! (?:clearly|fully|entirely|enough|to be"
        r"|as|taller|wider))",
        rf"\bdoes(?:n't| not) (?:contain|show|include|have|depict) (?:an? |any |the )?{_THING}",
        r"(?:^|[.!?\n,] ?)(?:the |an? |any )?(?P<name>[\w' -]{1,60}?) (?:(?:is|are|was) )?"
        r"(?:no longer (?:in|on|at|there|here|visible|present)|not (?:there|here|present|visible)"
        r"(?=[.!,\n]|$))",
        r"\bneither (?:an? |the )?(?P<name>[\w' -]{1,60}?)(?= nor\b)",
        rf"\bneither [\w' -]{{1,60}}? nor (?:an? |the )?{_THING}",
        rf"\bnothing (?:like|resembling|that (?:looks like|resembles)) (?:an? |any |the )?{_THING}",
        r"\b(?P<name>none)\b(?: are| is)?[^.]{0,40}(?=[.]|$)",
    )
]
_ANY = vocabulary("it they them that this such one any object thing none objects visible")


def denies(text: str, objects: Sequence[str]) -> bool:
    """Whether a text denies that an asked object exists; of no objects, that any does."""
    for form in _DENIED:
        for match in form.finditer(text):
            name = match["name"].lower().strip()
            words = name.split()
            if not words or words[0] in NOT_OBJECTS | {"enough", "fewer"} - _ANY:
                continue
            if words[-1] in w.NOUNS or "enough" in words:
                continue  # "I cannot see the height of the mug"
            if not objects or _ANY & set(words) or words[-1] in w.NAMELESS:
                return True
            if any(means(name, one, plural=True) for one in objects):
                return True
            named = [one for one in objects if f" {one.lower()} " in f" {name} "]
            if named:
                return True
    return False
