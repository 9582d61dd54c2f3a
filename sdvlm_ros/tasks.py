"""What a worker does with a frame that is open: answer, answer and verify, measure.

Runs on a worker's thread and knows only the core; requests, messages and replies are the business
of `services` and `reasoning`, which choose the task.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sdvlm_core.answer import SpatialAnswer
from sdvlm_core.frame import Region, RgbdFrame
from sdvlm_core.geometry.measure import Measured, Pair, Scene, measure_in
from sdvlm_ros.worker import Job

if TYPE_CHECKING:
    from sdvlm_core.engine import FrameSession
    from sdvlm_core.verification import Check
    from sdvlm_ros.parameters import Generation


@dataclass(frozen=True)
class Question:
    """Words to answer, and how.

    Attributes:
        text: the question.
        regions: where the objects are, for verification.
        sensor: whose geometry verifies the answer; None = it is not verified.
        generation: how tokens are chosen, and how many.
        show: told what was measured for verification.
    """

    text: str
    regions: tuple[Region, ...]
    sensor: str | None
    generation: Generation
    show: Callable[[RgbdFrame, Sequence[Check]], None]


def answer(
    question: Question,
    session: FrameSession,
    job: Job,
    on_text: Callable[[str], None] | None = None,
    on_verify: Callable[[str], None] = lambda _: None,
) -> SpatialAnswer:
    """The model's answer, verified where the question says so.

    Args:
        on_text: called with the whole text so far whenever there is more of it.
        on_verify: called with the answer's text before it is verified.
    """
    how: dict[str, Any] = {
        "deadline": job.deadline,
        "cancel": job.cancel,
        "max_new_tokens": question.generation.max_new_tokens,
        "sampling": question.generation.sampling,
    }
    if on_text is None:
        found = session.ask(question.text, **how)
    else:
        found = _told(session.stream(question.text, **how), on_text)
    if question.sensor is None:
        return found
    from sdvlm_core.verification import verify

    on_verify(found.text)
    found, checks = verify(
        session, found, question.regions, question.sensor, job.deadline, job.cancel
    )
    question.show(session.frame, checks)
    return found


def _told(
    pieces: Generator[str, None, SpatialAnswer], on_text: Callable[[str], None]
) -> SpatialAnswer:
    text = ""
    while True:
        try:
            text += next(pieces)
        except StopIteration as end:
            return end.value
        on_text(text)


def measure(
    regions: tuple[Region, ...],
    sensor: str,
    show: Callable[[RgbdFrame, tuple[Measured, ...], tuple[Pair, ...]], None],
    scene: Scene,
    _: Job,
) -> tuple[tuple[Measured, ...], tuple[Pair, ...]]:
    """Every region and every pair of them, from depth alone; `show` is told what came out."""
    found, pairs = measure_in(scene, regions, sensor)
    show(scene.frame, found, pairs)
    return found, pairs
