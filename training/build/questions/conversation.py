"""A conversation about one view: no turn repeats what an earlier one states.

A model that is trained on packed conversations would else learn to copy. Types are asked in random
order; each turn is drawn until its answer follows from no earlier turn (`facts`), is not guessed
from words (`balance`), and reads the same for everybody. Does not know how a question is worded.
"""

from __future__ import annotations

from collections.abc import Mapping

from training.build.phrasing import Rng, Style
from training.build.questions.absent import existence
from training.build.questions.ask import draw
from training.build.questions.balance import Balance
from training.build.questions.facts import Known, answer_facts, given_facts
from training.build.questions.question import TYPES, Question
from training.build.questions.view import View

#: Draws of a turn; then its type is left out.
_TRIES = 12
#: Maximum ratio of a type's count to that of the rarest.
_MAX_SHARE_RATIO = 2.4


def converse(view: View, rng: Rng, per_type: int, style: Style, balance: Balance) -> list[Question]:
    """The turns of a conversation, in order; fewer than `per_type` of a type that is exhausted.

    Types that are rare so far are asked more. Only the eight types of MSMU are asked.
    """
    wanted = _wanted(per_type, balance)
    kinds = [kind for kind, number in wanted.items() for _ in range(number)]
    known, found = Known(), []
    for index in rng.permutation(len(kinds)):
        question = _turn(kinds[index], view, rng, style, balance, known)
        if question is not None:
            found.append(question)
            for fact in (*given_facts(question, view), *answer_facts(question, view)):
                known.add(fact)
    return found


def _wanted(per_type: int, balance: Balance) -> Mapping[str, int]:
    asked = {kind: balance.counts[kind].total() if kind in balance.counts else 0 for kind in TYPES}
    highest, lowest = max(asked.values()), min(asked.values())
    return {
        # At least one, so that a type that this scene does not allow does not stop the others.
        kind: 1
        if asked[kind] > _MAX_SHARE_RATIO * lowest + 4 * per_type
        else per_type + min(per_type, (highest - asked[kind]) // 4)
        for kind in TYPES
    }


def _turn(
    kind: str, view: View, rng: Rng, style: Style, balance: Balance, known: Known
) -> Question | None:
    """A question of a type whose answer is new; None = none was found."""
    for _ in range(_TRIES):
        if kind == "existence":
            question = existence(view, rng, style, balance)
        else:
            question = draw(kind, view, rng, style)
        if (
            question is not None
            and not _is_disputable(question, view)
            and not any(known.implies(fact) for fact in answer_facts(question, view))
            and balance.accepts(question, view)
        ):
            return question
    return None


def _is_disputable(question: Question, view: View) -> bool:
    """Whether "wider" depends on which horizontal side is called the width.

    The width is the shorter one (docs/definitions.md). Of a long shelf and a chair, the chair then
    is the wider one; nobody says so. Asked only where both sides agree.
    """
    if question.type != "scale_compare" or question.asked[0].relation not in ("wider", "narrower"):
        return False
    named = dict(view.named)
    winner = named[str(question.reference)]
    wider = question.asked[0].relation == "wider"
    others = [named[name] for name in question.names if name != question.reference]
    return any((winner["length_m"] > other["length_m"]) != wider for other in others)
