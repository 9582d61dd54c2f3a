"""Existence and counts, derived again: what a scene graph proves absent, and what it can count.

Knows `check_labels`, the checker's own reading of labels. Does not know the builder's map of labels
or its rule of absence.
"""

from __future__ import annotations

import re

from sdvlm_core.answer import Asked, Quantity, Verdict
from sdvlm_core.language.question import parse
from sdvlm_core.language.reading import read
from training.build.check_graph import Graph, Mismatch
from training.build.check_labels import is_one, may_be, named, things, words_of

_VISIBLE = re.compile(r"(?:is there|can you see) an? ([a-z ]+?)(?: in the image)?\?")
_DENIED = re.compile(r"(?:no|not find) ([a-z ]+?)(?: in the (?:scene|image))?\.")
#: Of what is absent any colour is.
_COLOURS = re.compile(
    r"\b(?:black|white|gr[ae]y|beige|pink|brown|red|orange|yellow|green|blue|purple) "
)


def existence(question: str, answer: str, graph: Graph) -> None:
    """A yes names a visible object; what is denied, or is a false premise, cannot be in view.

    Raises:
        Mismatch: the scene graph does not prove the answer.
    """
    seen = _VISIBLE.fullmatch(question.lower())
    if seen is not None:
        name = seen.group(1)
        says = read(answer, parse(question)).verdict is Verdict.HOLDS
        if says and not _shown(name, graph):
            raise Mismatch(f"{name} is not visible")
        if not says:
            _check_absent(name, graph)
        return
    asked = parse(question).objects
    if not asked:  # "the picture" may be the image: the question is not understood
        denied = _DENIED.search(answer.lower())
        if denied is None or not read(answer, Asked()).absent:
            raise Mismatch("the answer does not state that an object is absent")
        _check_absent(denied.group(1), graph)
        return
    absent = [name for name in asked if not _shown(name, graph)]
    denied_names = [n for n in asked if read(answer, Asked(Quantity.EXISTS, (n,))).absent]
    if not absent:
        raise Mismatch(f"all of {asked} are visible")
    if not set(absent) <= set(denied_names):
        raise Mismatch(f"the answer denies {denied_names}, expected {absent}")
    for name in absent:
        _check_absent(name, graph)


def _shown(name: str, graph: Graph) -> bool:
    return name in graph.named or any(
        name == entry["label"] or is_one(entry["label"], name) for entry in graph.entries
    )


def _check_absent(name: str, graph: Graph) -> None:
    """Raises Mismatch where something in view may be what is denied, whatever its colour."""
    thing, _ = named(_COLOURS.sub("", name))
    if not thing:
        raise Mismatch(f"{name} is denied, but no known thing")
    contrary = sorted({e["label"] for e in graph.entries if may_be(e, thing)})
    if contrary:
        shown = ", ".join(label or "an unlabelled surface" for label in contrary)
        raise Mismatch(f"{name} is denied, but may be in view: {shown}")


def count(question: str, answer: str, graph: Graph) -> None:
    """The number is that of the objects that are one such thing, and nothing else may be one.

    Raises:
        Mismatch: another number, or one that the scene graph does not prove.
    """
    words = re.sub(r"[^a-z ]", " ", question.lower()).split()
    asked = [thing for thing in things() if _in_plural(words_of(thing), words)]
    if not asked:
        raise Mismatch("no known thing is asked about")
    thing = max(asked, key=len)
    stated = int(re.findall(r"\d+", answer)[0])
    expected = sum(is_one(entry["label"], thing) for entry in graph.entries)
    if stated != expected:
        raise Mismatch(f"the text states {stated}, expected {expected} x {thing}")
    others = sorted(
        {e["label"] for e in graph.entries if may_be(e, thing) and not is_one(e["label"], thing)}
    )
    if others:
        shown = ", ".join(label or "an unlabelled surface" for label in others)
        raise Mismatch(f"{thing}: more of them may be in view: {shown}")


def _in_plural(phrase: tuple[str, ...], words: list[str]) -> bool:
    """Whether the plural of a phrase is among the words: "this picture" is not what is counted."""
    size = len(phrase)
    return any(
        words_of(" ".join(words[at : at + size])) == phrase and words[at + size - 1] != phrase[-1]
        for at in range(len(words) - size + 1)
    )
