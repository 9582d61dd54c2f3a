"""Questions: words -> `Asked`, and `Asked` -> the words that a model is asked with.

`parse` is sure or says FREE. `phrase` writes MSMU's templates for models that were trained on them,
and plain English for chat models. Does not know answers (`reading`), frames or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from sdvlm_core.answer import Asked, Quantity
from sdvlm_core.errors import QueryError, shown
from sdvlm_core.language.object_names import listed, matched_labels
from sdvlm_core.language.question_words import parse, parse_each
from sdvlm_core.language.relations import RELATIONS

__all__ = [
    "MAX_NAME_CHARS",
    "OBJECTS",
    "RELATIONS",
    "Dialect",
    "check",
    "check_labels",
    "parse",
    "parse_each",
    "phrase",
]

#: Largest length of each text of a typed question, characters; as of a region's label.
MAX_NAME_CHARS = 200

#: Number of objects by quantity: (at least, at most).
OBJECTS: dict[Quantity, tuple[int, int]] = {
    Quantity.HEIGHT: (1, 1),
    Quantity.WIDTH: (1, 1),
    Quantity.LENGTH: (1, 1),
    Quantity.SIZE: (1, 1),
    Quantity.DISTANCE: (2, 2),
    Quantity.GAP: (2, 2),
    Quantity.CAMERA_DISTANCE: (1, 1),
    Quantity.POSITION: (1, 1),
    Quantity.COUNT: (1, 1),
    Quantity.EXISTS: (1, 1),
    Quantity.COMPARISON: (2, 10),
    Quantity.DIFFERENCE: (2, 2),
}


class Dialect(str, Enum):
    """How a model wants to be asked, and writes its answers."""

    MSMU = "msmu"  # a typed question in the templates of the data set: SD-VLM
    TEMPLATES = "templates"  # so is a question in words that `parse` understands: nano
    CHAT = "chat"  # plain English


def check(asked: Asked) -> None:
    """A typed question must be complete, and have nothing that would be ignored.

    Raises:
        QueryError: it is FREE, or has a wrong number of objects, a name that is empty, repeated or
            too long, or an unknown relation; says what is needed.
    """
    name = asked.quantity.name
    if asked.quantity is Quantity.FREE:
        raise QueryError("a typed question needs a quantity; FREE is for questions in words")
    least, most = OBJECTS[asked.quantity]
    if asked.quantity is Quantity.COMPARISON and not asked.which:
        most = 2  # whether a relation holds between two; `which` chooses among several
    if not least <= len(asked.objects) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        objects = "object" if most == 1 else "objects"
        raise QueryError(f"{name} needs {wanted} {objects}, got {len(asked.objects)}")
    _check_texts(asked)
    needs_relation = asked.quantity in (Quantity.COMPARISON, Quantity.DIFFERENCE)
    if needs_relation and asked.relation not in RELATIONS:
        known = ", ".join(RELATIONS)
        raise QueryError(f"{name} has the relation {shown(asked.relation)!r}; known are {known}")
    if asked.quantity is Quantity.DIFFERENCE and RELATIONS[asked.relation] is Quantity.POSITION:
        raise QueryError(
            f"a {name} has no relation of place ({asked.relation}): ask for a COMPARISON"
        )
    if not needs_relation and asked.relation:
        raise QueryError(f"{name} has no relation, got {shown(asked.relation)!r}")
    if asked.which and asked.quantity is not Quantity.COMPARISON:
        raise QueryError(f"`which` is for a COMPARISON, not for {name}")


def _check_texts(asked: Asked) -> None:
    """Names are not empty and differ; every text is one line of limited length."""
    name = asked.quantity.name
    for text in (*asked.objects, asked.relation, asked.unit, asked.reference):
        if len(text) > MAX_NAME_CHARS:
            raise QueryError(
                f"{name}: {shown(text, 60)!r} has {len(text)} characters; at most "
                f"{MAX_NAME_CHARS} are accepted"
            )
        if not text.isprintable():
            raise QueryError(f"{name}: {shown(text)!r} is not one printable line")
    if not all(one.strip() for one in asked.objects):
        raise QueryError(f"{name}: the name of an object is empty")
    if len({one.strip().casefold() for one in asked.objects}) < len(asked.objects):
        raise QueryError(f"{name}: the names must differ, got {listed(asked.objects)}")


def check_labels(labels: Sequence[str], *questions: Asked) -> None:
    """Every region must be of an object that is asked about: none is silently unused.

    A single region of a single object needs no label. FREE questions state no objects, so that
    nothing is checked if there is one.

    Raises:
        QueryError: as `object_names.matched_labels`.
    """
    if not any(asked.quantity is Quantity.FREE for asked in questions):
        matched_labels(labels, [one for asked in questions for one in asked.objects])


_ONE = {
    Quantity.HEIGHT: "What is the height of the {}?",
    Quantity.WIDTH: "What is the width of the {}?",
    Quantity.LENGTH: "What is the length of the {}?",
    Quantity.SIZE: "What is the size of the {}?",
    Quantity.DISTANCE: "What is the distance between the {} and the {}?",
    Quantity.GAP: "What is the gap between the {} and the {}?",
    Quantity.CAMERA_DISTANCE: "How far is the {} from the camera?",
    Quantity.POSITION: "What is the coordinate of the {}?",
    Quantity.COUNT: "How many {} are there in the image?",
    Quantity.EXISTS: "Is there a {} in the image?",
}


#: Where plain English differs: it says between which parts, and in which form to answer.
_CHAT = {
    Quantity.HEIGHT: "How tall is the {}?",
    Quantity.WIDTH: "How wide is the {}?",
    Quantity.LENGTH: "How long is the {}?",
    Quantity.SIZE: "What are the length, width and height of the {}?",
    Quantity.DISTANCE: "What is the distance between the centers of the {} and the {}?",
    Quantity.GAP: "What is the distance between the nearest surfaces of the {} and the {}?",
    Quantity.POSITION: "Where is the {} in the image?",
}
_ONE_NUMBER = "Answer with one number and its unit."
_FORM = {
    Quantity.SIZE: "Answer with three numbers and their unit, as length x width x height.",
    Quantity.POSITION: "Answer with a point (x, y) in fractions of the width and the height.",
    Quantity.COUNT: "Answer with one number.",
    Quantity.EXISTS: "Answer with yes or no.",
}
_UNIT_WORDS = {"in": "inches", "ft": "feet"}


def phrase(asked: Asked, dialect: Dialect = Dialect.MSMU) -> str:
    """The question in words; `parse` makes the same question of them.

    Raises:
        QueryError: as `check`.
    """
    check(asked)
    body = _question(asked, dialect)
    if asked.unit:
        body = f"{body.removesuffix('?')} in {_UNIT_WORDS.get(asked.unit, asked.unit)}?"
    if asked.reference:
        fact = asked.reference[0].upper() + asked.reference[1:]
        body = f"{fact}, {body[0].lower()}{body[1:]}"
    if dialect is not Dialect.CHAT:
        return body
    if asked.quantity is Quantity.COMPARISON:
        form = "Answer with its name." if asked.which else _FORM[Quantity.EXISTS]
    else:
        form = _FORM.get(asked.quantity, _ONE_NUMBER)
    return f"{body} {form}"


def _question(asked: Asked, dialect: Dialect) -> str:
    """The question alone, without fact, unit and form of the answer."""
    if asked.quantity in _ONE:
        templates = _ONE | _CHAT if dialect is Dialect.CHAT else _ONE
        template = templates[asked.quantity]
        if asked.quantity is Quantity.EXISTS and asked.objects[0][0].lower() in "aeiou":
            template = template.replace(" a ", " an ")
        return template.format(*asked.objects)
    first, second = asked.objects[:2]
    if asked.quantity is Quantity.DIFFERENCE:
        return f"How much {asked.relation} is the {first} than the {second}?"
    if asked.which:
        *rest, last = asked.objects
        names = ", ".join(f"the {one}" for one in rest)
        return f"Which one is {asked.relation}, {names} or the {last}?"
    to = {"left": "to the left of", "right": "to the right of"}.get(asked.relation)
    relation = to or (
        asked.relation if asked.relation in ("above", "below") else f"{asked.relation} than"
    )
    return f"Is the {first} {relation} the {second}?"
