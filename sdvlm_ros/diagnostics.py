"""The node's state as DiagnosticStatus, once a second: one status, and one for each named camera.

Builds the messages from plain values and sets OK, WARN or ERROR. Does not measure or publish
anything, and does not know the node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from sdvlm_core.camera.pairing import Input
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
        last_error: error of the last question that failed; "" = none.
        answered, canceled, failed: questions since the node was started.
        waiting: questions in the queue.
        standing: counters of the standing questions by name; empty = there are none.
        resident_bytes, gpu_bytes: memory of the process; None = unknown, or no GPU.
    """

    state: str
    model_id: str
    loading: str
    failure: str
    last_error: str
    answered: int
    canceled: int
    failed: int
    waiting: int
    standing: Mapping[str, str]
    resident_bytes: int | None
    gpu_bytes: int | None


@dataclass(frozen=True)
class CameraHealth:
    """State of one camera.

    Attributes:
        name: "" = the node has one camera, without a name.
        problem: why a question about the newest frame would be refused, and what to do; "" = it
            would be answered.
        cautions: the cautions of the newest frame, with reasons; it is used nevertheless.
        latency: latency of the last answer, seconds by stage.
        detections: counters of a detector's messages by name; empty = they are not measured.
        inputs: None while the node is not active.
    """

    name: str
    problem: str
    cautions: str
    latency: Mapping[str, float]
    detections: Mapping[str, str]
    inputs: Subscriptions | None

    @property
    def doubts(self) -> str:
        """Problem and cautions; "" = neither."""
        return "; ".join(filter(None, (self.problem, self.cautions)))


def status_name(node: str, camera: str) -> str:
    """Name of the status that has a camera's values; `camera` "" = the only one, without a name."""
    return f"{node}: camera {camera}" if camera else f"{node}: questions"


def topic_key(kind: Input) -> str:
    """Key of the value that names the topic of an input, without the transport."""
    return f"{kind.value} topic"


def statuses(node: str, health: Health, cameras: Sequence[CameraHealth]) -> list[DiagnosticStatus]:
    """The status `NODE: questions`, with the values of a camera without a name, and one status
    `NODE: camera NAME` for each camera with a name.

    Args:
        node: the node's name.
        cameras: at least one.
    """
    doubts = {f"camera {one.name}" if one.name else "": one.doubts for one in cameras}
    inactive = any(one.inputs is None for one in cameras)
    values = _values(health)
    for one in cameras:
        if not one.name:
            values |= _camera_values(one)
    level = _level(health, inactive, doubts)
    found = [_status(status_name(node, ""), *level, health.model_id, values)]
    for one in cameras:
        if one.name:
            level = _level(health, inactive, {"": one.doubts})
            name = status_name(node, one.name)
            found.append(_status(name, *level, health.model_id, _camera_values(one)))
    return found


def _status(
    name: str, level: bytes, message: str, model_id: str, values: Mapping[str, str]
) -> DiagnosticStatus:
    return DiagnosticStatus(
        level=level,
        name=name,
        message=message,
        hardware_id=model_id,
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )


def _values(health: Health) -> dict[str, str]:
    values = {
        "state": health.state,
        "model": health.model_id or "none",
        "questions answered": str(health.answered),
        "questions canceled": str(health.canceled),
        "questions failed": str(health.failed),
        "questions waiting": str(health.waiting),
        "last error": health.last_error or "none",
        **health.standing,
    }
    for memory, size in (("resident", health.resident_bytes), ("GPU", health.gpu_bytes)):
        if size is not None:
            values[f"{memory} memory (MB)"] = f"{size / 1e6:.1f}"
    return values


def _camera_values(camera: CameraHealth) -> dict[str, str]:
    values = {f"latency {stage} (s)": f"{time_s:.4f}" for stage, time_s in camera.latency.items()}
    values |= camera.detections
    if camera.inputs is not None:
        values |= _input_values(camera.inputs)
    return values


def _input_values(subscriptions: Subscriptions) -> dict[str, str]:
    values, buffer = {}, subscriptions.buffer
    for kind in buffer.inputs:
        counters, silence = buffer.counters[kind], buffer.silence(kind)
        values[topic_key(kind)] = subscriptions.topic(kind)
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


def _level(health: Health, inactive: bool, doubts: Mapping[str, str]) -> tuple[bytes, str]:
    """Level and message; `doubts` are of the cameras, by their names."""
    if health.failure:
        return DiagnosticStatus.ERROR, health.failure
    if inactive:
        doing = health.loading or health.state
        return DiagnosticStatus.WARN, f"{doing}: questions are refused"
    found = [f"{name}: {text}" if name else text for name, text in doubts.items() if text]
    if found:
        return DiagnosticStatus.WARN, "; ".join(found)
    return DiagnosticStatus.OK, "ready"
