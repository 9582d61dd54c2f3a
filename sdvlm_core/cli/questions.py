"""Typed questions on the command line: --height-of LABEL, --distance-between A B, ... -> `Asked`.

Each quantity has one option, which may be given any number of times. Does not know answers, frames
or models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from sdvlm_core.answer import Asked, Quantity
from sdvlm_core.language.question import phrase
from sdvlm_core.model.prompt import check_question

_PAIR_OPTIONS = ("--distance-between", "--gap-between")
# Between the two values of a pair option; no printable name has it.
_BETWEEN = "\x1f"


def _option(name: str, metavar: str, text: str) -> typer.models.OptionInfo:
    return typer.Option(name, metavar=metavar, help=text, rich_help_panel="Typed questions")


Words = Annotated[list[str] | None, typer.Argument(help="In words, in English.")]
HeightOf = Annotated[list[str] | None, _option("--height-of", "LABEL", "From its foot to its top.")]
WidthOf = Annotated[
    list[str] | None, _option("--width-of", "LABEL", "The shorter horizontal side.")
]
LengthOf = Annotated[
    list[str] | None, _option("--length-of", "LABEL", "The longer horizontal side.")
]
SizeOf = Annotated[list[str] | None, _option("--size-of", "LABEL", "Length, width and height.")]
DistanceBetween = Annotated[
    list[str] | None, _option("--distance-between", "A B", "Between the centres of two objects.")
]
GapBetween = Annotated[
    list[str] | None, _option("--gap-between", "A B", "Between the nearest parts of two surfaces.")
]
DistanceTo = Annotated[
    list[str] | None, _option("--distance-to", "LABEL", "From the camera to the object's centre.")
]


class PairCommand(TyperCommand):
    """A command whose pair options take two values each, any number of times.

    Typer has options with two values and options given several times, but not both in one.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join the two values of each pair option, then parse; `ctx` is click's context."""
        joined: list[str] = []
        rest = iter(args)
        for word in rest:
            joined.append(word)
            if word == "--":  # what follows are no options
                joined += rest
            elif word in _PAIR_OPTIONS:
                joined.append(_BETWEEN.join(islice(rest, 2)))
        return super().parse_args(ctx, joined)


def all_questions(
    words: Sequence[str] | None, typed: Mapping[Quantity, Sequence[str] | None]
) -> list[str | Asked]:
    """The questions of a command: those in words, then the typed ones by quantity.

    Args:
        typed: the values of each quantity's option.

    Raises:
        typer.BadParameter: there is none, or a pair option has not two values.
        QueryError: a question is empty, incomplete or too long.
    """
    questions: list[str | Asked] = [check_question(text) for text in words or ()]
    for quantity, values in typed.items():
        questions += [_typed(quantity, value) for value in values or ()]
    if not questions:
        raise typer.BadParameter(
            "give a QUESTION in words, or a typed one such as --height-of 'red mug'"
        )
    return questions


def _typed(quantity: Quantity, value: str) -> Asked:
    objects: tuple[str, ...] = (value,)
    if quantity in (Quantity.DISTANCE, Quantity.GAP):
        objects = tuple(value.split(_BETWEEN))
        if len(objects) != 2 or any(name.startswith("--") for name in objects):
            option = f"--{quantity.name.lower()}-between"
            raise typer.BadParameter(f"{option} needs the names of two objects: {option} A B")
    asked = Asked(quantity, objects)
    check_question(phrase(asked))
    return asked
