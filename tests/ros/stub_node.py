"""The real node with an engine that obeys the question, for faults that no model shows on demand.

The question DIE kills the process, as the kernel does when memory runs out. BLOCK makes the file
$STUB_GATE and waits until it is gone; as the encoding of an image, it cannot be canceled.

python -m tests.ros.stub_node --ros-args ...; the parameter `model` may be `slow`: it loads for
SLOW_S seconds.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from types import SimpleNamespace

from sdvlm_core.answer import Asked, SpatialAnswer
from sdvlm_core.frame import RgbdFrame
from sdvlm_core.language.question import phrase
from sdvlm_core.model.generation_options import Query
from sdvlm_ros import loading, node

PANIC, RAISE, DIE, BLOCK = "panic", "raise", "die", "block"
SLOW_S = 4.0


class PanicException(BaseException):
    """As pyo3 raises it for a panic in Rust code: not an Exception."""


class Session:
    """Answers every question but two."""

    def __init__(self, frame: RgbdFrame) -> None:
        self.frame = frame

    def progress(
        self, queries: Sequence[Query], max_rows: int
    ) -> Generator[tuple[int, SpatialAnswer], None, None]:
        for index, query in enumerate(queries):
            yield index, self._answer(query.question)

    def _answer(self, question: str | Asked) -> SpatialAnswer:
        if isinstance(question, Asked):
            return SpatialAnswer(phrase(question), "an answer", question)
        if question == PANIC:
            raise PanicException("index out of bounds\n[ERROR] forged")
        if question == DIE:
            os.kill(os.getpid(), signal.SIGKILL)
        if question == BLOCK:
            gate = Path(os.environ["STUB_GATE"])
            gate.touch()
            while gate.exists():
                time.sleep(0.02)
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
        open=lambda frame, limits: Session(frame),
        model_id="stub",
        estimator=None,
        close=lambda: None,
        problem=lambda: "",
    )


if __name__ == "__main__":
    loading.load_model = load_model
    sys.exit(node.main())
