"""Whether a name in an answer means an asked object.

"the can" is "pink can", "the person" is "man"; "average mug", "mugs" and "lid of the mug" are not
"mug". Does not know grammar.
"""

from __future__ import annotations

from sdvlm_core.language import words as w
from sdvlm_core.language.object_names import matched_name
from sdvlm_core.language.relations import RELATION_WORDS

_SAME = (
    frozenset(("tv", "television", "tv set")),
    frozenset(("sofa", "couch")),
    frozenset(("fridge", "refrigerator")),
    frozenset(("person", "man", "individual")),
    frozenset(("person", "woman", "individual")),
    frozenset(("bike", "bicycle")),
    frozenset(("phone", "smartphone", "cell phone", "mobile phone")),
)
_MOST = {word for word in RELATION_WORDS if word.endswith("est")}
_OTHERS = (
    w.GENERIC
    | _MOST
    | {
        "every",
        "any",
        "other",
        "another",
        "second",
        "next",
        "neighbouring",
        "neighboring",
    }
)


def means(name: str, wanted: str, plural: bool = False) -> bool:
    """Whether `name` means the object `wanted`.

    Args:
        plural: a plural means the same object as its singular, as in a count.
    """
    name, wanted = name.lower(), wanted.lower()
    if name == wanted:
        return True
    if _OTHERS & set(name.split()) - set(wanted.split()):
        return False
    if matched_name(name, (wanted,)) is not None:
        return True
    if plural and matched_name(_singular(name), (_singular(wanted),)) is not None:
        return True
    return any(name in words and wanted in words for words in _SAME)


_IRREGULAR = {
    **{"people": "person", "men": "man", "women": "woman", "children": "child", "mice": "mouse"},
    **{"shelves": "shelf", "knives": "knife", "leaves": "leaf", "loaves": "loaf"},
    **{"scarves": "scarf", "halves": "half", "shoes": "shoe", "toes": "toe", "canoes": "canoe"},
}


def _singular(name: str) -> str:
    words = name.split()

    def one(word: str) -> str:
        if word in _IRREGULAR:
            return _IRREGULAR[word]
        if word.endswith(("xes", "ches", "shes", "sses", "oes")):
            return word[:-2]
        if word.endswith("ies") and len(word) > 4:
            return word[:-3] + "y"
        return word[:-1] if word.endswith("s") and not word.endswith("ss") else word

    return " ".join(map(one, words))
