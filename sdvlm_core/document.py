"""SpatialAnswer -> plain JSON values, one form for every command that prints or writes answers.

Does not know files, or how an answer came about.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from sdvlm_core.answer import SpatialAnswer
from sdvlm_core.language.reading import Kind

UNITS = {Kind.COUNT: "", Kind.ANGLE: "rad"}  # all others are metres


def answer_document(answer: SpatialAnswer) -> dict[str, Any]:
    """A SpatialAnswer as plain JSON values: enumerations by name, NaN as null, SI throughout."""
    document: dict[str, Any] = without_nan(asdict(answer))
    document["status"] = answer.status.name
    document["verdict"] = answer.verdict.name
    for written, measurement in zip(document["measurements"], answer.measurements, strict=True):
        written["kind"] = measurement.kind.name
        written["source"] = measurement.source.name
        written["unit"] = UNITS.get(measurement.kind, "m")
    return document


def without_nan(value: Any) -> Any:
    """The same JSON value with null for what JSON has no number for."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return value
