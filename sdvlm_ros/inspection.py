"""Inspection: the cautions or the refusal of the newest frame, without a question.

The diagnostics must know it before a planner asks. Every few seconds one frame is decoded on a
separate thread, by the decoder of the questions, so that both find the same. Does not know
messages, or who reads the result.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rclpy.node import Node

from sdvlm_core.cautions import Caution
from sdvlm_core.errors import ModelNotReadyError, QueryCanceled
from sdvlm_core.frame import RgbdFrame
from sdvlm_ros.frame_buffer import RawFrame
from sdvlm_ros.ticket import Control, Outcome, Ticket
from sdvlm_ros.worker import Worker

#: Time between two inspections, seconds. Decoding a frame of full HD takes about 0.1 s.
PERIOD_S = 2.0


@dataclass(frozen=True)
class Finding:
    """The result for one frame.

    Attributes:
        cautions, reasons: codes, and the text of each.
        refusal: why questions about the frame are refused; "" = they are answered.
    """

    cautions: tuple[Caution, ...] = ()
    reasons: tuple[str, ...] = ()
    refusal: str = ""


@dataclass(frozen=True, eq=False)
class _Decoded:
    """An opened frame for the worker."""

    frame: RgbdFrame


class Inspection:
    """Inspects frames of an active node.

    Args:
        decode: the decoder of the questions.
        on_end: called if the thread has failed.

    Attributes:
        finding: for the last inspected frame.
    """

    def __init__(
        self,
        node: Node,
        decode: Callable[[RawFrame], RgbdFrame],
        on_end: Callable[[BaseException], None],
    ) -> None:
        self._node = node
        self._worker: Worker[_Decoded] = Worker(
            decode, lambda frame, _: _Decoded(frame), "sdvlm_inspection", 1, on_end
        )
        self._next_s = 0.0
        self.finding = Finding()

    @property
    def alive(self) -> bool:
        """Whether the thread inspects frames."""
        return self._worker.alive

    def inspect(self, frame: RawFrame) -> None:
        """Start to inspect a frame, unless the last inspection is recent or still running."""
        now = time.monotonic()
        if now < self._next_s or self._worker.waiting:
            return
        self._next_s = now + PERIOD_S
        self._worker.submit(Ticket(self, frame, now, math.inf, _Result(self)))

    def run(self, opened: _Decoded, control: Control) -> Iterator[None]:
        """The request of its own tickets."""
        self.finding = Finding(opened.frame.cautions, opened.frame.reasons)
        yield None

    def cancel(self) -> None:
        """Let the thread end, without waiting."""
        self._worker.cancel()

    def close(self) -> None:
        """End the thread."""
        self._worker.close()


class _Result(Outcome[None]):
    """Writes a refusal into the finding; nobody awaits it."""

    def __init__(self, inspection: Inspection) -> None:
        self._inspection = inspection

    def settle(self, result: Exception | None) -> None:
        if result is not None and not isinstance(result, (QueryCanceled, ModelNotReadyError)):
            self._inspection.finding = Finding(refusal=str(result) or type(result).__name__)
