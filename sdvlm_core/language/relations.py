"""Relations: the closed table of the words that compare two objects, and their synonyms.

Does not know questions, answers or geometry.
"""

from __future__ import annotations

from sdvlm_core.answer import Quantity

#: The words of `Asked.relation`, and the quantity that each compares.
RELATIONS: dict[str, Quantity] = {
    "taller": Quantity.HEIGHT,
    "shorter": Quantity.HEIGHT,
    "wider": Quantity.WIDTH,
    "narrower": Quantity.WIDTH,
    "longer": Quantity.LENGTH,
    "larger": Quantity.SIZE,
    "smaller": Quantity.SIZE,
    "closer": Quantity.CAMERA_DISTANCE,
    "farther": Quantity.CAMERA_DISTANCE,
    "left": Quantity.POSITION,
    "right": Quantity.POSITION,
    "above": Quantity.POSITION,
    "below": Quantity.POSITION,
    # "Higher" is the taller of two things or the one further up: geometry does not judge it.
    "higher": Quantity.FREE,
    "lower": Quantity.FREE,
}

#: The relation that holds between two objects where another one holds in the reverse order.
OPPOSITES: dict[str, str] = {
    "taller": "shorter",
    "wider": "narrower",
    "larger": "smaller",
    "closer": "farther",
    "left": "right",
    "above": "below",
    "higher": "lower",
}
OPPOSITES |= {second: first for first, second in OPPOSITES.items()}

_SYNONYMS = {
    "taller": "tallest higher highest",
    "shorter": "shortest lower lowest",
    "wider": "widest broader broadest",
    "narrower": "narrowest",
    "longer": "longest",
    "larger": "largest bigger biggest greater greatest",
    "smaller": "smallest littler littlest",
    "closer": "closest nearer nearest",
    "farther": "farthest further furthest",
    "left": "leftmost",
    "right": "rightmost",
    "above": "",
    "below": "under beneath underneath",
}
#: Every word that names a relation in an answer, in lower case -> the relation. An answer says
#: "taller" and "higher" of the same thing.
RELATION_WORDS: dict[str, str] = {
    word: relation for relation, words in _SYNONYMS.items() for word in (relation, *words.split())
}
#: The same for the words of a question, where "higher" stays what it is.
ASKED_WORDS: dict[str, str] = RELATION_WORDS | {
    "higher": "higher",
    "highest": "higher",
    "lower": "lower",
    "lowest": "lower",
}
