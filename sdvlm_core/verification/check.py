"""Check, the comparison of one claim of an answer with geometry.

Plain data. Does not know how a claim is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sdvlm_core.answer import (
    Asked,
    Measurement,
    Quantity,
    SpatialAnswer,
    Verdict,
    answer_document,
)
from sdvlm_core.cautions import Caution
from sdvlm_core.geometry.measured import Measured


@dataclass(frozen=True)
class StatedVerdict:
    """What an answer claims in words instead of a number.

    Attributes:
        asked: the question.
        verdict: of a yes/no question.
        chosen: the object that the answer to a `which` comparison names; "" = none.
    """

    asked: Asked
    verdict: Verdict = Verdict.UNDECIDED
    chosen: str = ""

    @property
    def kind(self) -> Quantity:
        """The asked quantity."""
        return self.asked.quantity

    @property
    def objects(self) -> tuple[str, ...]:
        """The asked objects."""
        return self.asked.objects

    @property
    def name(self) -> str:
        """The objects as one name, for people and logs."""
        return " and ".join(self.objects)


@dataclass(frozen=True)
class Check:
    """The comparison of one claim with geometry.

    Attributes:
        claim: a number, or a verdict. Length and width that the answer exchanged are exchanged
            back, so that length >= width.
        measurement: the measurement from depth of the same kind and objects; None if nothing was
            measured, or if the claim is a verdict.
        agrees: None if it cannot be decided.
        reason: the reason for `agrees`, as text for logs and people.
        warnings: what makes the measurement doubtful.
        objects: the measured objects.
    """

    claim: Measurement | StatedVerdict
    measurement: Measurement | None
    agrees: bool | None
    reason: str
    warnings: tuple[Caution, ...] = ()
    objects: tuple[Measured, ...] = ()


def undecided(claim: Measurement | StatedVerdict, reason: str) -> Check:
    """A claim for which nothing was measured."""
    return Check(claim, None, None, reason)


def checked_document(answer: SpatialAnswer, checks: Sequence[Check] | None) -> dict[str, Any]:
    """The JSON document of an answer, with its checks under "checks"; None = it was not checked."""
    document = answer_document(answer)
    if checks is not None:
        document["checks"] = [
            {
                "kind": check.claim.kind.name,
                "objects": [*check.claim.objects],
                "agree": check.agrees,
                "why": check.reason,
                "warnings": [code.value for code in check.warnings],
            }
            for check in checks
        ]
    return document
