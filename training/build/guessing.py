"""What words alone tell about an answer: a guesser that never sees an image.

Multinomial logistic regression on the words of a question, one model per group of questions whose
answers have classes. Besides each word it sees which name of the question the word belongs to, and
together with it the word that compares ("taller", "left"): more than a bag of words. It is scored
on scenes that it was not fitted to. Does not know objects; types answered by lengths: `priors`.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import logsumexp

_FOLDS = 5
_PENALTY = 1.0  # of the squared weights
_MAX_STEPS = 60
_MIN_TURNS = 50
_MIN_USES = 3  # of a word
_ARTICLES = frozenset(("the", "a", "an"))
_COMPARES = re.compile(r"(?:tall|low|wid|long|larg|small|clos|high)(?:er|est|r|st)|left|right")
_MEASURES = ("scale_estimation", "absolute_distance")


@dataclass(frozen=True)
class Turn:
    """One question of a built data set.

    Attributes:
        scene: what a question may not share with the questions that a guesser is fitted to.
        mentions: the names in the question, in order.
        named: the names in the answer, in order.
    """

    scene: str
    type: str
    question: str
    answer: str
    mentions: tuple[str, ...]
    named: tuple[str, ...]


@dataclass(frozen=True)
class Guess:
    """Shares of right guesses, in [0, 1]: of the most frequent class, and from words."""

    turns: int
    majority: float
    words: float


def guesses(turns: Iterable[Turn]) -> dict[str, Guess]:
    """Group of questions -> how often its answers are guessed; small groups are left out."""
    groups: dict[str, list[tuple[Turn, str]]] = defaultdict(list)
    for turn in turns:
        found = _class_of(turn)
        if found:
            groups[found[0]].append((turn, found[1]))
    measured = [pair for pair in groups[_PREMISE] if pair[1] == "there"]
    absent = [pair for pair in groups[_PREMISE] if pair[1] != "there"]
    # As many of both, so that the majority is a half: a question about an absent object is rare.
    groups[_PREMISE] = absent + sorted(measured, key=_order)[: len(absent)]
    return {
        name: _guess(pairs) for name, pairs in sorted(groups.items()) if len(pairs) >= _MIN_TURNS
    }


_PREMISE = "existence: a measure of what is absent"


def _order(pair: tuple[Turn, str]) -> int:
    """A fixed order that is as good as random."""
    turn = pair[0]
    return zlib.crc32(f"{turn.scene} {turn.question}".encode())


def _class_of(turn: Turn) -> tuple[str, str] | None:
    """(group, class of the answer) of a question; None = its answer is a length."""
    first = re.match(r"[a-z]+", turn.answer.lower())
    says = {"indeed": "yes", "in": "no"}.get(first[0], first[0]) if first else ""
    if turn.type in _MEASURES:
        return _PREMISE, "there"
    if turn.type == "existence":
        asked = re.match(r"(is|can you see)\b", turn.question.lower())
        return ("existence: is there", says) if asked else (_PREMISE, "absent")
    if turn.type == "count":
        number = re.search(r"\d+", turn.answer)
        return ("count", number[0]) if number else None
    if turn.type == "grounding":
        place = re.search(r"\((\d\.?\d*),(\d\.?\d*)\)", turn.answer)
        if place is None:
            return "grounding: which object", turn.named[0] if turn.named else ""
        return "grounding: where", f"{float(place[1]) >= 0.5} {float(place[2]) >= 0.5}"
    if turn.type in ("relative_position", "scale_compare"):
        if says in ("yes", "no"):
            return f"{turn.type}: yes or no", says
        if turn.named and turn.named[-1] in turn.mentions:
            at = turn.mentions.index(turn.named[-1])
            return f"{turn.type}: which of {len(turn.mentions)}", str(at)
    return None


def _features(question: str) -> set[str]:
    """Words, words by the number of articles before them, and those with the comparing word."""
    words = re.findall(r"[a-z]+", question.lower())
    compares = next((word for word in words if _COMPARES.fullmatch(word)), "")
    found, name = set(words), 0
    for word in words:
        name += word in _ARTICLES
        found |= {f"{name}:{word}", f"{compares}|{name}:{word}"}
    return found


def _guess(pairs: Sequence[tuple[Turn, str]]) -> Guess:
    classes = sorted({label for _, label in pairs})
    labels = np.array([classes.index(label) for _, label in pairs])
    majority = Counter(labels.tolist()).most_common(1)[0][1] / len(labels)
    matrix = _matrix([_features(turn.question) for turn, _ in pairs])
    fold = np.array([zlib.crc32(turn.scene.encode()) % _FOLDS for turn, _ in pairs])
    right = 0
    for number in range(_FOLDS):
        test, rest = fold == number, fold != number
        if test.any() and rest.any():
            weights = _fit(matrix[rest], labels[rest], len(classes))
            right += int(((matrix[test] @ weights).argmax(axis=1) == labels[test]).sum())
    return Guess(len(pairs), round(majority, 4), round(right / len(pairs), 4))


def _matrix(found: Sequence[set[str]]) -> Any:
    """(questions, words), sparse; the last column is 1."""
    uses = Counter(feature for one in found for feature in one)
    columns = {word: at for at, word in enumerate(sorted(w for w in uses if uses[w] >= _MIN_USES))}
    rows, cols = [], []
    for row, one in enumerate(found):
        here = [columns[feature] for feature in sorted(one) if feature in columns]
        here.append(len(columns))
        rows += [row] * len(here)
        cols += here
    shape = (len(found), len(columns) + 1)
    return sparse.csr_matrix((np.ones(len(rows)), (rows, cols)), shape=shape)


def _fit(matrix: Any, labels: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.float64]:
    """Weights (words, classes) that maximize the penalized likelihood."""
    truth = np.eye(classes)[labels]

    def loss(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        weights = flat.reshape(-1, classes)
        scores = matrix @ weights
        log_shares = scores - logsumexp(scores, axis=1, keepdims=True)
        penalized = weights.copy()
        penalized[-1] = 0  # the frequency of a class is no word
        value = -(truth * log_shares).sum() + _PENALTY / 2 * (penalized**2).sum()
        slope = matrix.T @ (np.exp(log_shares) - truth) + _PENALTY * penalized
        return float(value), slope.ravel()

    start = np.zeros(matrix.shape[1] * classes)
    done = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _MAX_STEPS})
    found: npt.NDArray[np.float64] = done.x.reshape(-1, classes)
    return found
