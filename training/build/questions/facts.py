"""What the turns of a conversation state, as typed facts, and what follows from them.

A turn whose answer follows from an earlier turn teaches a model to copy, not to look. `facts_of`
gives the facts of a typed question about a view; `Known` collects those of the turns so far, given
ones and answered ones alike, and says whether a fact follows from them. Does not know words.

What follows: a side from the size; a size only as its three sides; an order from two values, from
the opposite order ("A closer than B" and "B farther than A" are the same fact), or through other
objects; the larger of two boxes if all its sides are longer; an absent "red chair" from an absent
"chair"; a present object from every turn that names it; the count of a category from an object that
is named by the category alone ("the lamp" is the only lamp). What does not: distances from other
distances, counts from several names.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from sdvlm_core.answer import Asked, Quantity
from training.build.questions.question import Question
from training.build.questions.view import (
    QUANTITIES,
    View,
    camera_distance_m,
    distance_m,
    sides_m,
)
from training.build.scene import Entry


@dataclass(frozen=True)
class Value:
    """The number of a quantity; SI.

    Attributes:
        quantity: "height", "distance", ..., a category's "count", "x" or "y" in the image.
        objects: the names, in order of the alphabet, because a distance has no direction.
        number: the value.
    """

    quantity: str
    objects: tuple[str, ...]
    number: float


@dataclass(frozen=True)
class Order:
    """One object exceeds another in a quantity: that of `Value`, or "volume" or "altitude"."""

    quantity: str
    greater: str
    lesser: str


@dataclass(frozen=True)
class Presence:
    """Whether an object of a name is in the image."""

    name: str
    present: bool


Fact = Value | Order | Presence

_SIDES = ("length", "width", "height")
_NAMES_OF_QUANTITIES = {quantity: name for name, quantity in QUANTITIES.items()}
#: Relation of `Asked` -> the quantity that it compares, and whether the first object exceeds.
_COMPARED = {
    "taller": ("height", True),
    "shorter": ("height", False),
    "wider": ("width", True),
    "narrower": ("width", False),
    "longer": ("length", True),
    "larger": ("volume", True),
    "smaller": ("volume", False),
    "closer": ("camera distance", False),
    "farther": ("camera distance", True),
    "left": ("x", False),
    "right": ("x", True),
    "above": ("altitude", True),
    "below": ("altitude", False),
}
#: "lower" and "higher" compare heights in a comparison of scale, and places in a position.
_OF_PLACES = {"higher": ("altitude", True), "lower": ("altitude", False)}
_OF_SCALE = {"higher": ("height", True), "lower": ("height", False)}


def given_facts(question: Question, view: View) -> list[Fact]:
    """The facts that a question states: its reference, and the objects that it names as present."""
    named = dict(view.named)
    found = [fact for asked in question.given for fact in _facts(asked, question, named)]
    if question.reference not in ("yes", "no") or question.type != "existence":
        for name, instance in zip(question.names, question.instances, strict=True):
            if instance:
                found += _mentioned(name, view)
    return found


def answer_facts(question: Question, view: View) -> list[Fact]:
    """The facts that the answer states, those that nobody asked for included."""
    if question.type == "existence":
        present = question.reference == "yes"
        at = 0 if present else question.instances.index(0)
        return [Presence(question.names[at], present)]
    if question.type == "count":
        assert isinstance(question.reference, float)
        return [Value("count", question.names, question.reference)]
    typed, named = (*question.asked, *question.stated), dict(view.named)
    return [fact for asked in typed for fact in _facts(asked, question, named)]


def _mentioned(name: str, view: View) -> Iterator[Fact]:
    """What the words "the {name}" state."""
    yield Presence(name, True)
    if view.counts.get(name) == 1:
        yield Value("count", (name,), 1.0)


def _facts(asked: Asked, question: Question, named: dict[str, Entry]) -> Iterator[Fact]:
    """What the answer to a typed question states."""
    names = asked.objects
    items = [named[name] for name in names]
    quantity = asked.quantity
    if quantity is Quantity.COMPARISON:
        yield from _orders(asked, question, named)
    elif quantity is Quantity.SIZE:
        for side, metres in zip(_SIDES, sides_m(items[0]), strict=True):
            yield Value(side, names, metres)
    elif quantity is Quantity.POSITION:
        for axis, part in zip("xy", items[0]["centre_uv"], strict=True):
            yield Value(axis, names, part)
    elif quantity is Quantity.DISTANCE:
        yield Value("distance", tuple(sorted(names)), distance_m(*items))
    elif quantity is Quantity.CAMERA_DISTANCE:
        yield Value("camera distance", names, camera_distance_m(items[0]))
    else:
        side = _NAMES_OF_QUANTITIES[quantity]
        yield Value(side, names, float(items[0][f"{side}_m"]))


def _orders(asked: Asked, question: Question, named: dict[str, Entry]) -> Iterator[Order]:
    """What a comparison states: of three objects, that one exceeds both others."""
    table = _COMPARED | (_OF_PLACES if question.type == "relative_position" else _OF_SCALE)
    quantity, exceeds = table[asked.relation]
    if question.reference in ("yes", "no"):
        one, other = asked.objects
        if exceeds != (question.reference == "yes"):
            one, other = other, one
        yield Order(quantity, one, other)
        return
    winner = str(question.reference)
    for other in asked.objects:
        if other != winner:
            yield Order(quantity, winner, other) if exceeds else Order(quantity, other, winner)


@dataclass(eq=False)
class Known:
    """The facts of a conversation so far."""

    _values: dict[tuple[str, tuple[str, ...]], float] = field(default_factory=dict)
    _orders: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    _presence: dict[str, bool] = field(default_factory=dict)

    def add(self, fact: Fact) -> None:
        """Add a fact; it may be known."""
        if isinstance(fact, Presence):
            self._presence[fact.name] = fact.present
        elif isinstance(fact, Order):
            self._orders.setdefault((fact.quantity, fact.greater), set()).add(fact.lesser)
        else:
            self._values[fact.quantity, fact.objects] = fact.number
            if fact.quantity == "count":
                self._presence[fact.objects[0]] = True
            elif fact.quantity in _SIDES:
                self._add_volume(fact.objects)

    def _add_volume(self, objects: tuple[str, ...]) -> None:
        sides = [self._values.get((side, objects)) for side in _SIDES]
        known = [side for side in sides if side is not None]
        if len(known) == len(_SIDES):
            self._values["volume", objects] = math.prod(known)

    def implies(self, fact: Fact) -> bool:
        """Whether a true fact follows from the known ones."""
        if isinstance(fact, Value):
            return (fact.quantity, fact.objects) in self._values
        if isinstance(fact, Presence):
            if fact.present:
                return any(
                    present and f" {name}".endswith(f" {fact.name}")
                    for name, present in self._presence.items()
                )
            return any(
                not present and f" {fact.name}".endswith(f" {name}")
                for name, present in self._presence.items()
            )
        if self._exceeds(fact):
            return True
        sides = (Order(side, fact.greater, fact.lesser) for side in _SIDES)
        return fact.quantity == "volume" and all(map(self._exceeds, sides))

    def _exceeds(self, fact: Order) -> bool:
        """Whether a chain of orders and values leads from the greater object to the lesser one."""
        reached, open_ends = {fact.greater}, [fact.greater]
        while open_ends:
            for name in self._below(fact.quantity, open_ends.pop()) - reached:
                reached.add(name)
                open_ends.append(name)
        return fact.lesser in reached

    def _below(self, quantity: str, name: str) -> set[str]:
        found = set(self._orders.get((quantity, name), ()))
        own = self._values.get((quantity, (name,)))
        if own is not None:
            found |= {
                objects[0]
                for (other, objects), number in self._values.items()
                if other == quantity and number < own
            }
        return found
