"""What the program made of a situation, and what it must make of it.

An outcome is the same for the command line and for the node: lengths with cautions, or a refusal
with its code and text. Does not know how it was obtained (`offline`, `online`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sdvlm_core.cautions import UNFIT

Lengths = Mapping[str, tuple[float, float, float]]
_UNFIT = {code.value for code in UNFIT}
#: No message of at most 1 MB may cost more.
MOST_GROWTH_BYTES = 300_000_000
#: A refusal is a sentence or two for a person.
LONGEST_TEXT = 1200


@dataclass(frozen=True)
class Outcome:
    """The result of one request.

    Attributes:
        lengths: label -> (length, width, height), metres; NaN = unknown. Empty if refused.
        cautions: codes of the frame.
        warnings: label -> codes of the region.
        code: name of the error code, e.g. BAD_DEPTH; "" = not refused.
        text: the error's text.
        colour: median R, G, B of the first region in the drawn image; None = not drawn.
        grown_bytes: growth of the program's peak memory; None = not measured.
    """

    lengths: Lengths = field(default_factory=dict)
    cautions: frozenset[str] = frozenset()
    warnings: Mapping[str, frozenset[str]] = field(default_factory=dict)
    code: str = ""
    text: str = ""
    colour: tuple[float, float, float] | None = None
    grown_bytes: int | None = None

    @property
    def codes(self) -> tuple[str, frozenset[str], dict[str, frozenset[str]]]:
        """What must be the same by every way of measuring: error code, cautions, warnings."""
        return self.code, self.cautions, dict(self.warnings)

    def summary(self, truth: Lengths) -> str:
        """One line for a table."""
        if self.code:
            return f"{self.code}: {self.text[:160]}"
        notes = sorted(self.cautions.union(*self.warnings.values()))
        if not self.lengths:
            return "answered" + (f", {', '.join(notes)}" if notes else "")
        off = max(_errors(self, truth).values(), default=float("nan"))
        return f"lengths off by at most {100 * off:.1f} %{'; ' if notes else ''}{', '.join(notes)}"


class Must:
    """One outcome that is accepted; `why_not` gives the reason against an outcome, "" = none."""

    def why_not(self, outcome: Outcome, truth: Lengths) -> str:
        raise NotImplementedError


@dataclass(frozen=True)
class Right(Must):
    """Every length within `tolerance` of the truth, with no code that makes it unfit to act on.

    Attributes:
        only: the dimensions that the camera can see; () = all three.
        red: the first region must also be drawn in red.
    """

    tolerance: float = 0.03
    only: tuple[str, ...] = ()
    red: bool = False

    def __str__(self) -> str:
        return f"right to {100 * self.tolerance:g} %" + (", red stays red" if self.red else "")

    def why_not(self, outcome: Outcome, truth: Lengths) -> str:
        if outcome.code:
            return f"refused: {outcome.code}: {outcome.text}"
        unfit = outcome.cautions.union(*outcome.warnings.values()) & _UNFIT
        if unfit:
            return f"unfit to act on: {', '.join(sorted(unfit))}"
        if self.red and outcome.colour is not None and outcome.colour[0] < 2 * outcome.colour[2]:
            return f"the red box has the colour {outcome.colour}"
        # An answer in words has no lengths to compare.
        wrong = [
            f"{name} {100 * error:.1f} %"
            for name, error in _errors(outcome, truth).items()
            if not error <= self.tolerance and (not self.only or name.endswith(self.only))
        ]
        return f"off by more than {100 * self.tolerance:g} %: {', '.join(wrong)}" if wrong else ""


@dataclass(frozen=True)
class Cautioned(Must):
    """An answer whose cautions, and every region's warnings, have the code."""

    code: str

    def __str__(self) -> str:
        return f"caution {self.code}"

    def why_not(self, outcome: Outcome, truth: Lengths) -> str:
        if outcome.code:
            return f"refused: {outcome.code}: {outcome.text}"
        if self.code not in outcome.cautions:
            return f"without {self.code}: cautions are {sorted(outcome.cautions) or 'none'}"
        silent = [label for label, codes in outcome.warnings.items() if self.code not in codes]
        return f"the warnings of {', '.join(silent)} lack {self.code}" if silent else ""


@dataclass(frozen=True)
class Refused(Must):
    """A refusal with this code, whose text has each of the words; `a|b` = one of them."""

    code: str
    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"refused {self.code}" + (f" ({', '.join(self.words)})" if self.words else "")

    def why_not(self, outcome: Outcome, truth: Lengths) -> str:
        if not outcome.code:
            return "answered"
        if self.code not in ("", outcome.code):
            return f"refused with {outcome.code}: {outcome.text}"
        text = outcome.text.lower()
        missing = [w for w in self.words if not any(part in text for part in w.lower().split("|"))]
        if missing:
            return f"the refusal lacks {' and '.join(missing)}: {outcome.text}"
        if "traceback" in text or len(text) > LONGEST_TEXT:
            return f"no sentence for a person ({len(text)} characters): {outcome.text}"
        return ""


def judge(outcome: Outcome, accepted: tuple[Must, ...], truth: Lengths) -> str:
    """Why an outcome is none of the accepted ones; "" = it is one."""
    if outcome.grown_bytes is not None and outcome.grown_bytes > MOST_GROWTH_BYTES:
        return f"memory grew by {outcome.grown_bytes / 1e6:.0f} MB"
    reasons = {str(must): must.why_not(outcome, truth) for must in accepted}
    if not all(reasons.values()):
        return ""
    return "; ".join(f"not {must}: {reason}" for must, reason in reasons.items())


def _errors(outcome: Outcome, truth: Lengths) -> dict[str, float]:
    """Label and dimension -> |measured / true - 1|."""
    return {
        f"{label} {name}": abs(value / true - 1)
        for label, found in outcome.lengths.items()
        for name, value, true in zip(
            ("length", "width", "height"), found, truth[label], strict=True
        )
    }
