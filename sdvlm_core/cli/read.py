"""`sdvlm read`: what the project understands of a question and an answer in words; no model.

Does not know how text is read (`language.reading`).
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from sdvlm_core.answer import UNITS, Asked, Quantity, Verdict, asked_document, without_nan
from sdvlm_core.cli.output import print_json
from sdvlm_core.language import reading as language
from sdvlm_core.language.question import parse, parse_each


def read(
    question: Annotated[str, typer.Argument(help="In words, in English.")],
    answer: Annotated[str, typer.Argument(help="What a model answered.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print the numbers, image points and verdict that an answer states for a question.

    No model is involved. A number that the answer does not clearly give to the asked object is left
    out; `why_none` has the reason.

    Example: sdvlm read "How tall is the mug?" "The mug is 10 cm tall, not 12 cm." --json
    """
    asked = parse(question)
    reading = language.read(answer, asked)
    found = reading.measurements or (
        language.read_each(answer, parse_each(question)) if asked.quantity is Quantity.FREE else ()
    )
    document: dict[str, Any] = {
        "asked": asked_document(asked),
        "measurements": [
            {
                "kind": one.kind.name,
                "value": one.value,
                "std_dev": one.std_dev,
                "unit": UNITS.get(one.kind, "m"),
                "objects": [*one.objects],
                "text": one.text,
            }
            for one in found
        ],
        "image_points": [[*point] for point in reading.image_points],
        "verdict": reading.verdict.name,
        "chosen": reading.chosen,
        "absent": reading.absent,
        "why_none": "" if found else reading.why_none,
    }
    if as_json:
        print_json(without_nan(document))
    else:
        _print(asked, document, reading)


def _print(asked: Asked, document: dict[str, Any], reading: language.Reading) -> None:
    console = Console(highlight=False)
    objects = ", ".join(asked.objects) or "nothing certain"
    console.print(f"asked: {asked.quantity.name} of {escape(objects)}")
    for one in document["measurements"]:
        name = " and ".join(one["objects"])
        console.print(escape(f"{one['kind']} of {name}: {one['value']:.4g} {one['unit']}".strip()))
    for u, v in reading.image_points:
        console.print(f"image point: ({u:.3f}, {v:.3f})")
    if reading.verdict is not Verdict.UNDECIDED:
        console.print(f"verdict: {reading.verdict.name}")
    if reading.chosen:
        console.print(escape(f"chosen: {reading.chosen}"))
    if reading.absent:
        console.print("absent: the answer denies that the object exists")
    if document["why_none"]:
        console.print(escape(f"no answer: {document['why_none']}"))
