"""The node's state as one DiagnosticStatus, once a second.

Builds the message from plain values and sets OK, WARN or ERROR. Does not measure or publish
anything, and does not know the node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from sdvlm_ros.subscriptions import Subscriptions


@dataclass(frozen=True)
class Health:
    """State of the node.

    Attributes:
        state: label of the life cycle state.
        model_id: "" = no model is loaded.
        loading: the model that is being loaded, and for how long; "" = none.
        failure: why the node cannot answer before it is configured again: the model did not load,
            or a thread has ended; "" = it can.
        problem: why a question about the newest frame would be refused, and what to do; "" = it
            would be answered.
        cautions: the cautions of the newest frame, with reasons; it is used nevertheless.
        last_error: error of the last question that failed; "" = none.
        answered, canceled, failed: questions since the node was started.
        waiting: questions in the queue.
        latency: latency of the last answer, seconds by stage.
        detections: counters of a detector's messages by name; empty = they are not measured.
        standing: counters of the standing questions by name; empty = there are none.
        resident_bytes, gpu_bytes: memory of the process; None = unknown, or no GPU.
    """

    state: str
    model_id: str
    loading: str
    failure: str
    problem: str
    cautions: str
    last_error: str
    answered: int
    canceled: int
    failed: int
    waiting: int
    latency: Mapping[str, float]
    detections: Mapping[str, str]
    standing: Mapping[str, str]
    resident_bytes: int | None
    gpu_bytes: int | None


def status(name: str, health: Health, subscriptions: Subscriptions | None) -> DiagnosticStatus:
    """One status named `name`; `subscriptions` is None while the node is not active."""
    level, message = _level(health, subscriptions is not None)
    values = {
        "state": health.state,
        "model": health.model_id or "none",
        "questions answered": str(health.answered),
        "questions canceled": str(health.canceled),
        "questions failed": str(health.failed),
        "questions waiting": str(health.waiting),
        "last error": health.last_error or "none",
    }
    for stage, seconds in health.latency.items():
        values[f"latency {stage} (s)"] = f"{seconds:.4f}"
    values.update(health.detections)
    values.update(health.standing)
    for memory, size in (("resident", health.resident_bytes), ("GPU", health.gpu_bytes)):
        if size is not None:
            values[f"{memory} memory (MB)"] = f"{size / 1e6:.1f}"
    if subscriptions is not None:
        values.update(_input_values(subscriptions))
    return DiagnosticStatus(
        level=level,
        name=name,
        message=message,
        hardware_id=health.model_id,
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )


def _input_values(subscriptions: Subscriptions) -> dict[str, str]:
    values, buffer = {}, subscriptions.buffer
    for kind in buffer.inputs:
        counters, silence = buffer.counters[kind], buffer.silence(kind)
        values[f"{kind.value} received"] = str(counters.received)
        values[f"{kind.value} paired"] = str(counters.paired)
        values[f"{kind.value} dropped"] = str(counters.dropped)
        values[f"{kind.value} refused"] = str(counters.refused)
        values[f"{kind.value} QoS mismatches"] = str(subscriptions.mismatches[kind])
        values[f"{kind.value} rate (Hz)"] = f"{buffer.rate(kind):.2f}"
        silent = "never seen" if silence is None else f"{silence:.3f}"
        values[f"{kind.value} silent for (s)"] = silent
    values["pairing misses"] = str(buffer.unpaired)
    values["buffered (MB)"] = f"{buffer.stored_bytes / 1e6:.1f}"
    return values


def _level(health: Health, active: bool) -> tuple[bytes, str]:
    if health.failure:
        return DiagnosticStatus.ERROR, health.failure
    if not active:
        doing = health.loading or health.state
        return DiagnosticStatus.WARN, f"{doing}: questions are refused"
    problems = [text for text in (health.problem, health.cautions) if text]
    if problems:
        return DiagnosticStatus.WARN, "; ".join(problems)
    return DiagnosticStatus.OK, "ready"
