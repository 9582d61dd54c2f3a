"""The real node with an engine that obeys the question, for faults that no model shows on demand.

python -m tests.ros.stub_node --ros-args ...; the parameter `model` may be `slow`: it loads for
SLOW_S seconds.
"""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace

from sdvlm_core.answer import Asked, SpatialAnswer
from sdvlm_core.frame import RgbdFrame
from sdvlm_core.language.question import phrase
from sdvlm_core.model.generation_options import GenerationOptions
from sdvlm_ros import loading, node

PANIC, RAISE = "panic", "raise"
SLOW_S = 4.0


class PanicException(BaseException):
    """As pyo3 raises it for a panic in Rust code: not an Exception."""


class Session:
    """Answers every question but two."""

    def __init__(self, frame: RgbdFrame) -> None:
        self.frame = frame

    def ask(self, question: str | Asked, options: GenerationOptions) -> SpatialAnswer:
        if isinstance(question, Asked):
            return SpatialAnswer(phrase(question), "an answer", question)
        if question == PANIC:
            raise PanicException("index out of bounds\n[ERROR] forged")
        if question == RAISE:
            raise RuntimeError(f"a defect {time.monotonic()}")
        return SpatialAnswer(question, "an answer")


def load_model(settings: object, logger: object) -> object:
    """Replaces the loading of a model."""
    if settings.model == "slow":
        time.sleep(SLOW_S)
    if settings.model == PANIC:
        raise PanicException("cannot parse")
    return SimpleNamespace(
        open=lambda frame, limits: Session(frame), model_id="stub", estimator=None
    )


if __name__ == "__main__":
    loading.load_model = load_model
    sys.exit(node.main())
