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
}

#: The relation that holds between two objects where another one holds in the reverse order.
OPPOSITES: dict[str, str] = {
    "taller": "shorter",
    "wider": "narrower",
    "larger": "smaller",
    "closer": "farther",
    "left": "right",
    "above": "below",
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
#: Every word that names a relation, in lower case -> the relation.
RELATION_WORDS: dict[str, str] = {
    word: relation for relation, words in _SYNONYMS.items() for word in (relation, *words.split())
}
