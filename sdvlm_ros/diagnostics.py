"""What the node says about itself once a second: one DiagnosticStatus.

Turns plain facts into a message and judges OK, WARN or ERROR. Does not measure anything, does
not publish, and does not know the node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from sdvlm_ros.frame_buffer import FrameBuffer

# A camera that has been silent this long deserves a warning, whatever its rate; seconds.
SILENT = 2.0


@dataclass(frozen=True)
class Health:
    """Facts about the node.

    Attributes:
        state: of the life cycle, in words.
        model_id: "" = no model is loaded.
        configure_error: why the model did not load; "" = it did, or was not tried.
        last_error: of the last question that failed; "" = none has.
        answered, failed: questions since the node was started.
        waiting: questions in the queue.
        latency: of the last answer, seconds by stage.
    """

    state: str
    model_id: str
    configure_error: str
    last_error: str
    answered: int
    failed: int
    waiting: int
    latency: Mapping[str, float]


def status(name: str, health: Health, buffer: FrameBuffer | None) -> DiagnosticStatus:
    """One status named `name`; `buffer` is None while the node is not active."""
    level, message = _judge(health, buffer)
    values = {
        "state": health.state,
        "model": health.model_id or "none",
        "questions answered": str(health.answered),
        "questions failed": str(health.failed),
        "questions waiting": str(health.waiting),
        "last error": health.last_error or "none",
    }
    for stage, seconds in health.latency.items():
        values[f"latency {stage} (s)"] = f"{seconds:.4f}"
    if buffer is not None:
        values.update(_inputs(buffer))
    return DiagnosticStatus(
        level=level,
        name=name,
        message=message,
        hardware_id=health.model_id,
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )


def _inputs(buffer: FrameBuffer) -> dict[str, str]:
    values = {}
    for kind in buffer.inputs:
        counters, silence = buffer.counters[kind], buffer.silence(kind)
        values[f"{kind.value} received"] = str(counters.received)
        values[f"{kind.value} paired"] = str(counters.paired)
        values[f"{kind.value} dropped"] = str(counters.dropped)
        values[f"{kind.value} rate (Hz)"] = f"{buffer.rate(kind):.2f}"
        silent = "never seen" if silence is None else f"{silence:.3f}"
        values[f"{kind.value} silent for (s)"] = silent
    return values


def _judge(health: Health, buffer: FrameBuffer | None) -> tuple[bytes, str]:
    if health.configure_error:
        return DiagnosticStatus.ERROR, f"no model: {health.configure_error}"
    if buffer is None:
        return DiagnosticStatus.WARN, f"{health.state}: questions are refused"
    silent = [kind for kind in buffer.inputs if (buffer.silence(kind) or 0.0) > SILENT]
    silent += [kind for kind in buffer.inputs if buffer.silence(kind) is None]
    if silent:
        return DiagnosticStatus.WARN, "; ".join(buffer.describe(kind) for kind in silent)
    return DiagnosticStatus.OK, "ready"
