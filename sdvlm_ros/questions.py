"""The questions of a request or goal, in words or typed -> what a session is asked.

Exactly one of the two forms must be given, so that no field is silently ignored. Checks all that is
known without a model; does not know frames, tickets or how a question is answered.
"""

from __future__ import annotations

from collections.abc import Sequence

from sdvlm.msg import Asked as AskedMsg
from sdvlm_core.answer import Asked, Quantity
from sdvlm_core.camera.messages import asked_from_message
from sdvlm_core.errors import QueryError, shown
from sdvlm_core.language.question import check_labels, parse, phrase
from sdvlm_core.model.prompt import check_question

#: Largest number of questions in a request. Each may take seconds, and the request occupies the
#: model for all.
MAX_QUESTIONS = 64


def stated(message: AskedMsg) -> list[AskedMsg]:
    """The typed question of a request as a list; empty if the request states none."""
    return [message] if message.quantity or message.objects else []


def read_questions(
    words: Sequence[str], typed: Sequence[AskedMsg], labels: Sequence[str]
) -> tuple[str | Asked, ...]:
    """The questions of a request, checked.

    Args:
        words, typed: the two forms; one of them is empty.
        labels: labels of the request's regions.

    Raises:
        QueryError: both forms are given or none, there are too many questions, one of them is
            empty or incomplete, or a region belongs to no asked object.
    """
    if typed and any(words):
        given = next(filter(None, words))
        raise QueryError(
            f"the request has a question in words ({shown(given, 60)!r}) and a typed one "
            f"({_name(typed[0].quantity)}): give one of the two, and leave the other empty"
        )
    count = len(typed) or len(words)
    if not 0 < count <= MAX_QUESTIONS:
        raise QueryError(f"{count} questions; 1 to {MAX_QUESTIONS} are allowed, in words or typed")
    if typed:
        questions = tuple(_typed(message, number, count) for number, message in enumerate(typed))
        check_labels(labels, *questions)
        return questions
    if not all(text.strip() for text in words):
        raise QueryError(
            "the question is empty, and no typed question is given: ask in words, as 'How tall is "
            "the red mug?', or set asked, as quantity HEIGHT with objects ['red mug']"
        )
    checked = tuple(check_question(text) for text in words)
    check_labels(labels, *(parse(text) for text in checked) if labels else ())
    return checked


def _typed(message: AskedMsg, number: int, count: int) -> Asked:
    try:
        asked = asked_from_message(message)
        check_question(phrase(asked))
    except QueryError as error:
        raise QueryError(f"asked[{number}]: {error}" if count > 1 else str(error)) from error
    return asked


def _name(quantity: int) -> str:
    return Quantity(quantity).name if quantity in list(Quantity) else f"quantity {quantity}"
