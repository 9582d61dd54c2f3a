"""Thousands of malformed camera messages and requests against the real node: it must survive.

Runs the node in its own process, once with raw and once with compressed images. This process sends
hostile images and camera_infos between good frames (`hostile_messages`) and hostile questions,
regions and goals (`hostile_requests`), and cancels some of them. Then a good question must be
answered as before, and a length must be measured right. The bounds:

    0 crashes; 0 hangs (a hang: no reply 20 s after the request's time limit); 0 codes UNKNOWN;
    0 errors without a text; 0 texts or log lines that a caller wrote (control characters, length);
    memory grows by at most 300 MB at any moment; at most 200 log lines in any minute.

Prints a table, and one JSON line last; exit status 1 if a bound is violated.

examples:
    python benchmarks/fuzz_node.py                                  # about 10 minutes
    python benchmarks/fuzz_node.py --messages 500 --requests 150    # a quick look
    python benchmarks/fuzz_node.py --seed 7 --only compressed       # other inputs, one transport
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from subprocess import Popen
from typing import Any

# Sets the ROS domain and the Fast DDS profile before rclpy reads them.
from watched_node import CONTROL, Log, forget_peak, memory_mb, running_node

# isort: split
import hostile_messages as messages
import hostile_requests as requests
import rclpy
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest

from sdvlm.action import SpatialReasoning
from sdvlm.msg import Region
from sdvlm.srv import MeasureRegions, SpatialQuery
from sdvlm_core.errors import ErrorCode
from sdvlm_core.tabletop import TABLE, boxes

MAX_GROWTH_MB, MAX_LINES_PER_MINUTE = 300, 200
QUESTION, MUG_M, TOLERANCE = "How tall is the red mug?", TABLE[0].size[2], 0.25
_MARGIN_S, _PATIENCE_S, _START_S = 20.0, 60.0, 180.0
_TIMEOUT_S = 10.0  # of the node, and of most requests
_IN_FLIGHT = 6  # fewer than the node's queue holds; bursts exceed it
_KEPT_EXAMPLES = 8


class NodeEnded(Exception):
    """The node's process ended, or never became active."""


@dataclass(frozen=True)
class Transport:
    """Topics and message type of the images, and the node's parameter."""

    color: str
    depth: str
    kind: type
    depth_transport: str


_TRANSPORTS = {
    "raw": Transport("rgb/image_rect_color", "depth_registered/image_rect", Image, "raw"),
    "compressed": Transport(
        "rgb/image_rect_color/compressed",
        "depth_registered/image_rect/compressedDepth",
        CompressedImage,
        "compressedDepth",
    ),
}


@dataclass
class Findings:
    """What happened in one run; `examples` describes the first defects of each kind."""

    codes: Counter[str] = field(default_factory=Counter)
    defects: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    messages: int = 0
    requests: int = 0

    def defect(self, kind: str, text: str) -> None:
        """Count a defect."""
        self.defects[kind] += 1
        if self.defects[kind] <= _KEPT_EXAMPLES:
            self.examples.append(f"{kind}: {text[:600]!r}")

    def reply(self, reply: Any, what: str) -> None:
        """Count a reply, and check its code and its texts."""
        known = reply.error_code in list(ErrorCode)
        code = ErrorCode(reply.error_code) if known else ErrorCode.UNKNOWN
        self.codes[code.name] += 1
        if code is ErrorCode.UNKNOWN:
            self.defect("unknown_codes", f"{what}: {reply.error_code} {reply.error_msg}")
        if code is not ErrorCode.NONE and not reply.error_msg.strip():
            self.defect("empty_texts", f"{what}: {code.name}")
        if (
            CONTROL.search(reply.error_msg)
            or "\n" in reply.error_msg
            or len(reply.error_msg) > 5000
        ):
            self.defect("raw_texts", f"{what}: {reply.error_msg}")


@dataclass
class Pending:
    """A request without a reply: what it is, until when it must have one."""

    what: str
    future: Any
    until: float
    cancel_at: float = float("inf")
    handle: Any = None


class Attacker:
    """Publishes frames, sends requests, and collects the replies, in one thread."""

    def __init__(self, process: Popen[str], transport: str, seed: int) -> None:
        self.process, self.compressed = process, transport == "compressed"
        self.rng = random.Random(f"{transport} {seed}")
        self.findings = Findings()
        self.node = rclpy.create_node(f"attacker_{transport}")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        how = _TRANSPORTS[transport]
        kinds = ((how.color, how.kind), (how.depth, how.kind), ("rgb/camera_info", CameraInfo))
        self.publishers = [self.node.create_publisher(kind, topic, 10) for topic, kind in kinds]
        deep = QoSProfile(depth=100)
        self.query = self.node.create_client(SpatialQuery, "/spatial_query/query", qos_profile=deep)
        self.measure = self.node.create_client(
            MeasureRegions, "/spatial_query/measure_regions", qos_profile=deep
        )
        self.reason = ActionClient(self.node, SpatialReasoning, "/spatial_query/reason")
        self.pending: list[Pending] = []

    def wait_until_active(self) -> None:
        """Wait until the node has subscribed to the camera."""
        deadline = time.monotonic() + _START_S
        while not all(publisher.get_subscription_count() for publisher in self.publishers):
            if time.monotonic() > deadline:
                raise NodeEnded("the node did not become active")
            self.spin(0.05)

    def spin(self, seconds: float = 0.0) -> None:
        """Process replies; a reply that is late is a hang."""
        if self.process.poll() is not None:
            raise NodeEnded(f"the node ended with status {self.process.returncode}")
        self.executor.spin_once(timeout_sec=seconds)
        now, waiting = time.monotonic(), self.pending
        self.pending = []
        for one in waiting:
            self._advance(one, now)

    def _advance(self, one: Pending, now: float) -> None:
        """Take the reply of a request, accept or cancel its goal, or keep it."""
        if one.future.done():
            result = one.future.result()
            if hasattr(result, "get_result_async"):  # an accepted goal: now wait for its result
                one.handle, one.future = result, result.get_result_async()
            else:
                self.findings.reply(getattr(result, "result", result), one.what)
                return
        if one.handle is not None and now > one.cancel_at:
            one.handle.cancel_goal_async()
            one.cancel_at = float("inf")
        if now > one.until:
            self.findings.defect("hangs", f"no reply to {one.what}")
        else:
            self.pending.append(one)

    def publish_good(self) -> int:
        """One good frame; its stamp."""
        stamp_ns = time.time_ns()
        for publisher, message in zip(
            self.publishers, messages.good(stamp_ns, self.compressed), strict=True
        ):
            publisher.publish(message)
        return stamp_ns

    def publish_hostile(self) -> int:
        """One frame with at least one hostile message; its stamp."""
        stamp_ns, rng = time.time_ns(), self.rng
        if rng.random() < 0.3:
            parts, hostile = messages.unusual(rng, stamp_ns, self.compressed), {0, 1, 2}
        else:
            valid = messages.good(stamp_ns, self.compressed, scale=8)
            hostile = set(rng.sample(range(3), rng.choice((1, 1, 1, 2, 3))))
            parts = [
                messages.hostile(rng, index, stamp_ns, self.compressed)
                if index in hostile
                else bytes(serialize_message(valid[index]))
                for index in range(3)
            ]
        for publisher, data in zip(self.publishers, parts, strict=True):
            publisher.publish(data)
        self.findings.messages += len(hostile)
        return stamp_ns

    def request(self, frame_ns: int) -> None:
        """One hostile request."""
        rng, number = self.rng, self.findings.requests
        self.findings.requests += 1
        draw = rng.random()
        if draw < 0.55:
            sent: Any = requests.query(rng, frame_ns, _TIMEOUT_S)
            future, what = self.query.call_async(sent), f"question {sent.question[:60]!r}"
        elif draw < 0.9:
            sent = requests.measure(rng, frame_ns, _TIMEOUT_S)
            future, what = self.measure.call_async(sent), f"{len(sent.regions)} regions"
        else:
            sent = requests.goal(rng, frame_ns, _TIMEOUT_S)
            future, what = self.reason.send_goal_async(sent), f"goal of {len(sent.questions)}"
        given = sent.timeout.sec + sent.timeout.nanosec / 1e9
        limit = min(given, _PATIENCE_S) if given > 0 else _TIMEOUT_S
        now = time.monotonic()
        one = Pending(f"request {number}, {what}", future, now + limit + _MARGIN_S)
        if draw >= 0.9 and rng.random() < 0.5:
            one.cancel_at = now + rng.choice((0.0, 0.01, 0.1, 0.5))
        self.pending.append(one)

    def drain(self, below: int = 1) -> None:
        """Wait until fewer requests than `below` have no reply."""
        while len(self.pending) >= below:
            self.spin(0.02)

    def answer(self, client: Any, request: Any) -> Any:
        """The reply to a request about a good frame; asked again until there is no error."""
        deadline, reply = time.monotonic() + _PATIENCE_S, None
        while time.monotonic() < deadline:
            self.publish_good()
            future = client.call_async(request)
            asked = time.monotonic()
            while not future.done() and time.monotonic() < asked + _PATIENCE_S / 2:
                self.spin(0.02)
            reply = future.result() if future.done() else None
            if reply is not None and reply.error_code == 0:
                return reply
        why = "no reply" if reply is None else f"{reply.error_code} {reply.error_msg[:300]}"
        raise RuntimeError(f"a good question has no answer: {why}")

    def check(self) -> str:
        """The text of a good answer; raises RuntimeError if a value in it is wrong."""
        reply = self.answer(self.query, SpatialQuery.Request(question=QUESTION))
        values = [one.value for one in reply.answer.measurements]
        if not values or abs(values[0] / MUG_M - 1) > TOLERANCE:
            raise RuntimeError(f"{QUESTION} {reply.answer.text!r}; the mug is {MUG_M} m tall")
        name, (x1, y1, x2, y2) = TABLE[1].name, boxes()[TABLE[1].name]
        roi = RegionOfInterest(x_offset=x1, y_offset=y1, width=x2 - x1, height=y2 - y1)
        request = MeasureRegions.Request(regions=[Region(label=name, roi=roi)])
        length = self.answer(self.measure, request).regions[0].length
        if abs(length / TABLE[1].size[0] - 1) > TOLERANCE:
            raise RuntimeError(f"the {name} measures {length} m; it is {TABLE[1].size[0]} m long")
        return str(reply.answer.text)


def attack(attacker: Attacker, transport: str, count: tuple[int, int]) -> None:
    """Send `count` (messages, requests), requests spread evenly over the messages."""
    findings, (message_count, request_count) = attacker.findings, count
    bar = Progress(
        TextColumn(f"{transport:10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("requests, {task.fields[note]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    with bar:
        task = bar.add_task(transport, total=request_count, note="")
        while findings.messages < message_count or findings.requests < request_count:
            rng = attacker.rng
            stamp_ns = (
                attacker.publish_good() if rng.random() < 0.25 else attacker.publish_hostile()
            )
            attacker.spin(0.002)
            share = min(1.0, findings.messages / message_count) if message_count else 1.0
            due = int(request_count * share)
            while findings.requests < due:
                attacker.request(stamp_ns)
                attacker.drain(_IN_FLIGHT * (5 if rng.random() < 0.05 else 1))
            note = f"{findings.messages} messages, {sum(findings.defects.values())} defects"
            bar.update(task, completed=findings.requests, note=note)
        attacker.drain()


def run(model: str, transport: str, seed: int, count: tuple[int, int]) -> dict[str, Any]:
    """One node with one transport; the figures by name."""
    figures: dict[str, Any] = {"transport": transport}
    parameters = {
        **{"model": model, "timeout": _TIMEOUT_S, "max_new_tokens": 48},
        **{"rgb_transport": transport, "depth_transport": _TRANSPORTS[transport].depth_transport},
    }
    with running_node(parameters) as (process, log):
        attacker = Attacker(process, transport, seed)
        findings = attacker.findings
        try:
            attacker.wait_until_active()
            before = [attacker.check() for _ in range(5)][-1]
            base = memory_mb(process.pid)
            forget_peak(process.pid)
            attack(attacker, transport, count)
            after = attacker.check()
            if after != before:
                findings.defect("wrong_answers", f"{before!r} became {after!r}")
            peak, end = memory_mb(process.pid, peak=True), memory_mb(process.pid)
            figures["growth_mb"] = {"peak": round(peak - base), "end": round(end - base)}
        except NodeEnded as error:
            findings.defect("crashes", str(error))
        except RuntimeError as error:
            findings.defect("wrong_answers", str(error))
        finally:
            attacker.node.destroy_node()
    figures |= {
        "messages": findings.messages,
        "requests": findings.requests,
        "codes": dict(sorted(findings.codes.items())),
        "defects": dict(findings.defects),
        "log_lines_in_busiest_minute": log.busiest,
        "forged_log_lines": len(log.forged),
        "exit_status": process.returncode,
    }
    describe(transport, findings, log)
    return figures


def describe(transport: str, findings: Findings, log: Log) -> None:
    """Print examples of the defects, for those who repair them."""
    texts = [*findings.examples, *(f"forged log line: {line!r}" for line in log.forged[:5])]
    texts += [f"traceback:\n{text}" for text in log.tracebacks]
    if findings.defects["crashes"] or findings.defects["wrong_answers"]:
        texts += ["the last lines of the log:", *log.last]
    for text in texts:
        print(f"fuzz_node: {transport}: {text}", file=sys.stderr)


def violations(figures: dict[str, Any]) -> list[str]:
    """Descriptions of the violated bounds of one run."""
    growth, busiest = figures.get("growth_mb", {}), figures["log_lines_in_busiest_minute"]
    bounds = {
        f"{figures['forged_log_lines']} forged log lines": figures["forged_log_lines"] > 0,
        f"memory grew by {growth} MB": max(growth.values(), default=0) > MAX_GROWTH_MB,
        f"{busiest} log lines in a minute": busiest > MAX_LINES_PER_MINUTE,
        f"the node ended with status {figures['exit_status']}": figures["exit_status"] != 0,
    }
    found = [f"{number} {kind}" for kind, number in figures["defects"].items()]
    found += [text for text, violated in bounds.items() if violated]
    return [f"{figures['transport']}: {text}" for text in found]


def main() -> int:
    """Run both transports, print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=10_000, help="malformed messages, in all")
    parser.add_argument("--requests", type=int, default=3_000, help="requests, in all")
    parser.add_argument("--seed", type=int, default=0, help="the same seed sends the same")
    parser.add_argument("--only", choices=_TRANSPORTS, help="one transport instead of both")
    parser.add_argument("--model", default="nano")
    chosen = parser.parse_args()
    transports = [chosen.only] if chosen.only else list(_TRANSPORTS)
    count = chosen.messages // len(transports), chosen.requests // len(transports)
    started = time.monotonic()
    rclpy.init(signal_handler_options=rclpy.SignalHandlerOptions.NO)
    try:
        runs = [run(chosen.model, name, chosen.seed, count) for name in transports]
    except KeyboardInterrupt:
        print("fuzz_node: interrupted", file=sys.stderr)
        return 130
    finally:
        rclpy.try_shutdown()
    for figures in runs:
        for name, value in figures.items():
            print(f"{name.replace('_', ' '):30}{value!s}")
    violated = [text for figures in runs for text in violations(figures)]
    for text in violated:
        print(f"fuzz_node: {text}", file=sys.stderr)
    seconds, load = round(time.monotonic() - started), round(os.getloadavg()[0], 2)
    figures = {"benchmark": "fuzz_node", "seed": chosen.seed, "seconds": seconds, "load": load}
    print(json.dumps({**figures, "runs": runs, "violations": violated}))
    return 1 if violated else 0


if __name__ == "__main__":
    sys.exit(main())
