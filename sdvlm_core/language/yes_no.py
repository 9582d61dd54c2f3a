"""Text -> the yes or no that opens a sentence, words of doubt, refusals.

"Not sure" and "no idea" are no "no". Does not know objects or clauses.
"""

from __future__ import annotations

import re

from sdvlm_core.answer import Verdict
from sdvlm_core.language.tokens import vocabulary

_YES = r"yes|yeah|yep|yup|indeed|correct|true|certainly|absolutely|affirmative|sure|right|of course"
_NO = r"no|nope|not|incorrect|false|wrong|negative"
_STARTS = (
    r"(?:^|, so |, then |[.!?\n:;]\s{0,4}|\banswer is:?\s{1,3}|\bboxed\s{1,6}|[\"'(]\s?)"
    r"(?:well, |actually, |so, |that is |that's |it is )?"
)
_OPENING = re.compile(rf"{_STARTS}(?P<word>{_YES}|{_NO})\b(?P<after>[^.!?\n]{{0,200}})", re.I)
_UNSURE = re.compile(
    r"\b(?:not (?:sure|certain|clear|possible|enough|able|easy|visible enough)|no (?:idea|clue|way"
    r" (?:to|of))|(?:can'?t|cannot|can not|could not|couldn't) (?:tell|say|determine|judge|answer"
    r"|be (?:determined|sure|certain))|unclear|uncertain|unsure|hard to (?:say|tell)|difficult to"
    r"|impossible to|unable to|too \w{1,20} to (?:say|tell|judge|see|determine)"
    r"|(?:don't|do not) know|depends|insufficient|not determinable|maybe"
    r"|perhaps|might be|may be|possibly)\b",
    re.I,
)
_REFUSAL = re.compile(
    r"\b(?:(?:can'?t|cannot|can not|could not|couldn't|unable to|not able to) (?:answer|help|assist"
    r"|determine|tell|measure|provide|estimate|give|say)|no (?:idea|clue)|(?:don't|do not) know"
    r"|not sure)\b",
    re.I,
)
# "It's not true that the crate isn't taller", "it wouldn't be correct to say there is no dog"
_NEGATED = r"(?:\bnot\b|n't\b|\b(?:no|false|wrong|incorrect|untrue)\b)"
_DENIED_DENIAL = re.compile(
    r"(?:\bnot|n't|\bfalse|\bwrong|\bincorrect|\buntrue)\b[^.!?\n]{0,30}"
    rf"\b(?:that|to (?:say|claim))\b[^.!?;\n]{{0,150}}{_NEGATED}",
    re.I,
)
#: Words after "no" that name no object: "no it is not", "no idea".
NOT_OBJECTS = vocabulary(
    "it the they that this these those there he she a an i we you its one idea clue doubt "
    "question need way problem gap space difference distance more less longer other further "
    "reference scale information depth exact precise reliable clear wait sorry"
)


def is_refusal(text: str) -> bool:
    """Whether a text says that it gives no answer."""
    return _REFUSAL.search(text) is not None


def is_unsure(text: str) -> bool:
    """Whether a text has words of doubt."""
    return _UNSURE.search(text) is not None


def denies_denial(text: str) -> bool:
    """Whether a text denies a statement that is negated itself."""
    return _DENIED_DENIAL.search(text) is not None


def yes_or_no(text: str) -> Verdict:
    """The yes or no that opens a sentence; UNDECIDED for none, both, or words of doubt."""
    said = set()
    for match in _OPENING.finditer(text):
        word, after = match["word"].lower(), match["after"].lower()
        if _UNSURE.search(word + after):
            return Verdict.UNDECIDED
        no = re.fullmatch(_NO, word) is not None
        following = re.match(r"\W{0,3}(\w{0,30})", after)
        next_word = following[1] if following else ""
        if after.startswith((" and no", " or no")):
            return Verdict.UNDECIDED
        if word == "no" and next_word in ("doubt", "question", "problem"):
            continue  # "No doubt, the chair is closer"
        if word == "no" and after[:1] == " " and next_word and next_word not in NOT_OBJECTS:
            continue  # "No sofa in the scene"
        if word in ("right", "sure", "correct", "true") and next_word and after[:1] not in ",.!":
            continue
        if word == "not" and next_word in ("only", "just"):
            continue
        said.add(Verdict.DOES_NOT_HOLD if no else Verdict.HOLDS)
    return said.pop() if len(said) == 1 else Verdict.UNDECIDED
