"""`make demo`: a camera, a robot's question, a measured answer, over real ROS 2 on one machine.

Three processes: the node with its model, a player that publishes the example bag as a live
camera, and this one, which asks the eight questions of questions.yaml through the service, as a
planner does. Prints a table, writes demo/report.html, prints the command that shows the bag in a
page, and one line of JSON at the end. Exit status 1 if a call fails; a wrong answer is not a
failure. Does not know how questions are answered.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

# This file is run as a script, and `training` and `demo` are not installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from demo.report import write_picture, write_report
from sdvlm_core.answer import Asked, Verdict
from sdvlm_core.camera.messages import nanoseconds
from sdvlm_core.language.reading import read
from training.evaluate.items import Item
from training.evaluate.judges import judged
from training.evaluate.references import RULES

if TYPE_CHECKING:
    from sdvlm_ros.client import SpatialClient

ROOT = Path(__file__).resolve().parents[1]
BAG = ROOT / "demo" / "table"
QUESTIONS = ROOT / "demo" / "questions.yaml"
REPORT = ROOT / "demo" / "report.html"

_START_TIMEOUT_S = 120.0  # a slow machine loads the model
# The state of a node whose model did not load.
_UNCONFIGURED = "unconfigured"
_FRAME_TIMEOUT_S = 20.0  # discovery, then the first frame
_ANSWER_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0
_LOG_LINES = 15

NODE = [
    *(sys.executable, "-m", "sdvlm_ros.node", "--ros-args"),
    *("-p", "use_sim_time:=true", "-p", "max_age:=10.0"),  # the bag restarts every 2 s
    *("-p", "rgb_transport:=compressed", "-p", "depth_transport:=compressedDepth"),
]
PLAYER = [sys.executable, "-m", "sdvlm_ros.bag_player", str(BAG), "--loop"]


@dataclass(frozen=True)
class Row:
    """One question with its answer; times in seconds. `error` is "" if the call succeeded."""

    type: str
    question: str
    truth: str
    answer: str = ""
    value: str = ""
    ratio: str = ""
    correct: bool = False
    queue: float = 0.0
    encode: float = 0.0
    generate: float = 0.0
    total: float = 0.0
    error: str = ""


class DemoFailed(Exception):
    """The demo cannot continue; the message has the reason."""


def set_ros_environment() -> None:
    """A separate ROS domain on this machine only, and shared memory for whole images."""
    os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] = str(ROOT / "config" / "fastdds.xml")


@dataclass(frozen=True)
class Child:
    """A started process and the file with its output."""

    name: str
    process: subprocess.Popen[bytes]
    log: IO[bytes]

    def check(self) -> None:
        """Raise DemoFailed with the end of its log if it is no longer running."""
        if self.process.poll() is not None:
            self.log.seek(0)
            lines = self.log.read().decode(errors="replace").strip().splitlines()[-_LOG_LINES:]
            raise DemoFailed(
                f"the {self.name} ended with status {self.process.returncode}:\n" + "\n".join(lines)
            )


@contextmanager
def signals_deferred() -> Iterator[None]:
    """SIGINT and SIGTERM that arrive during the block are handled at its end. Main thread only."""
    arrived: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {one: signal.signal(one, lambda number, _: arrived.append(number)) for one in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in arrived:
        signal.raise_signal(number)


@contextmanager
def running(name: str, command: list[str]) -> Iterator[Child]:
    """Run a command during the block; it is stopped when the block ends, also after an error."""
    with tempfile.TemporaryFile() as log:
        process: subprocess.Popen[bytes] | None = None
        try:
            # A signal between the start of the child and its name here would leave it running. In a
            # new session Ctrl-C reaches only this process, which stops the children in order.
            with signals_deferred():
                process = subprocess.Popen(
                    command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                )
            yield Child(name, process, log)
        finally:
            for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
                if process is not None and process.poll() is None:
                    process.send_signal(stop)
                    try:
                        process.wait(_STOP_TIMEOUT_S)
                    except subprocess.TimeoutExpired:
                        continue


def wait_for_node(client: SpatialClient, node: Child) -> None:
    """Return when the node is active; DemoFailed if it ends or the timeout passes."""
    from sdvlm_ros.client import SpatialQueryFailed

    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        node.check()
        try:
            return client.wait_for_node(timeout=1.0)
        except SpatialQueryFailed as error:
            # It is configuring while its model loads, and unconfigured again if that has failed.
            failed = f"the node is {_UNCONFIGURED}" in str(error)
            if failed or time.monotonic() > deadline:
                raise DemoFailed(str(error)) from error


def wait_for_frame(client: SpatialClient, question: str, children: list[Child]) -> None:
    """Ask until the first answer: until the model and the camera are ready."""
    from sdvlm.srv import SpatialQuery
    from sdvlm_ros.client import SpatialQueryFailed

    codes = SpatialQuery.Response
    not_ready = (codes.NO_IMAGE, codes.STALE_IMAGE, codes.BAD_DEPTH, codes.BAD_CAMERA_INFO)
    deadline = time.monotonic() + _FRAME_TIMEOUT_S
    while True:
        try:
            client.ask(question, timeout=_ANSWER_TIMEOUT_S)
            return
        except SpatialQueryFailed as error:
            for child in children:
                child.check()
            if error.code not in not_ready or time.monotonic() > deadline:
                raise DemoFailed(f"the first question got no answer: {error}") from error
            time.sleep(0.1)


def item_of(entry: dict[str, Any]) -> Item:
    """A question of the demo with its true answer, as the judge takes it."""
    kind = entry["type"]
    texts = entry["question"], entry["truth"]
    return Item(kind, kind, RULES[kind], *texts, entry["reference"])


def ask_all(
    client: SpatialClient, entries: list[dict[str, Any]], children: list[Child]
) -> tuple[list[Row], str]:
    """Ask every question once; returns the rows and the id of the model that answered."""
    from sdvlm_ros.client import SpatialQueryFailed

    rows, model = [], ""
    for entry in entries:
        known = {key: entry[key] for key in ("type", "question", "truth")}
        asked = time.perf_counter()
        try:
            answer = client.ask(entry["question"], timeout=_ANSWER_TIMEOUT_S)
        except SpatialQueryFailed as error:
            for child in children:
                child.check()  # without it no further question can be answered
            rows.append(Row(**known, error=str(error)))
            continue
        total = time.perf_counter() - asked
        model = answer.model_id
        values = [m.value for m in answer.measurements]
        marked = judged(item_of(entry), answer.text)
        rows.append(
            Row(
                **known,
                answer=answer.text,
                value=parsed_value(entry, answer.text, values),
                ratio=deviation(marked.error, entry),
                correct=marked.correct,
                queue=nanoseconds(answer.queue_time) / 1e9,
                encode=nanoseconds(answer.encode_time) / 1e9,
                generate=nanoseconds(answer.generate_time) / 1e9,
                total=total,
            )
        )
    return rows, model


def parsed_value(entry: dict[str, Any], text: str, values: Sequence[float]) -> str:
    """What a planner receives: the measured values; otherwise the point, verdict or name."""
    reading = read(text, Asked())
    if values:
        unit = "" if entry["type"] == "count" else " m"
        return " x ".join(f"{value:.3g}" for value in values) + unit
    if reading.image_points:
        return "({:.2f}, {:.2f})".format(*reading.image_points[0])
    if reading.verdict is not Verdict.UNDECIDED:
        return "yes" if reading.verdict is Verdict.HOLDS else "no"
    if reading.absent:
        return "absent"
    words = text.rstrip(". ").split()
    return " ".join(words[1:] if words[:1] in (["The"], ["the"]) else words)


def deviation(error: float, entry: dict[str, Any]) -> str:
    """Ratio or position error of a numeric answer, "" = not numeric."""
    if not math.isfinite(error):
        return ""
    return f"\u0394 {error:.2f}" if entry["type"] == "grounding" else f"{error:.2f}"


def print_table(rows: list[Row]) -> None:
    """Print the table on stdout."""
    table = Table(title="sdvlm demo: eight questions about a simulated table", expand=True)
    for heading in (
        "question",
        "answer",
        "parsed",
        "truth",
        "ratio",
        "queue/encode/\ngenerate, ms",
    ):
        table.add_column(heading)
    for row in rows:
        if row.error:
            table.add_row(escape(row.question), f"[bold red]{escape(row.error)}[/]")
            continue
        mark = "[green]✓[/]" if row.correct else "[red]✗[/]"
        times = "/".join(f"{1000 * t:.0f}" for t in (row.queue, row.encode, row.generate))
        table.add_row(
            *(escape(text) for text in (row.question, row.answer, row.value, row.truth)),
            f"{row.ratio} {mark}".strip(),
            times,
        )
    Console(width=max(110, Console().width)).print(table)


def run(entries: list[dict[str, Any]], model: str, report: Path) -> tuple[list[Row], str]:
    """Start node and player, ask, stop them, write the report; DemoFailed if a part fails."""
    set_ros_environment()
    from sdvlm_ros.client import SpatialClient

    with ExitStack() as stack:
        node = stack.enter_context(running("node", [*NODE, "-p", f"model:={model}"]))
        client = stack.enter_context(SpatialClient())
        wait_for_node(client, node)
        player = stack.enter_context(running("player", PLAYER))
        wait_for_frame(client, entries[0]["question"], [node, player])
        rows, answered_by = ask_all(client, entries, [node, player])
    write_report(report, BAG, entries, rows, answered_by)
    return rows, answered_by


def page_command(model: str) -> str:
    """The command that shows the bag in the page of `sdvlm view`, with the model that answered."""
    sdvlm = Path(sys.executable).with_name("sdvlm")
    words = [os.path.relpath(sdvlm), "view", "--bag", os.path.relpath(BAG)]
    return shlex.join([*words, "--sensor", "simulated", "--model", model])


def main() -> int:
    """Entry point; the exit status."""
    parser = argparse.ArgumentParser(description="The demo: eight questions over ROS 2.")
    parser.add_argument("--model", default="nano", help="nano, or a model directory")
    parser.add_argument("--report", type=Path, default=REPORT, help="the page to write")
    parser.add_argument("--picture", type=Path, help="also write the README's picture, a PNG")
    arguments = parser.parse_args()
    model, report = arguments.model, arguments.report
    # Unwind on `kill` as well, so that the children are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    entries = yaml.safe_load(QUESTIONS.read_text(encoding="utf-8"))
    rows: list[Row] = []
    try:
        rows, model = run(entries, model, report)
        if arguments.picture is not None:
            write_picture(arguments.picture, BAG, entries, rows)
    except DemoFailed as error:
        print(f"demo failed: {error}", file=sys.stderr)
    except ImportError as error:
        print(f"demo failed: {error}; `make demo` installs what it needs", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    answered = [row for row in rows if not row.error]
    if rows:
        print_table(rows)
        print(f"report: {report}")
        print(f"the bag in a page to click on: {page_command(model)}")
    for row in rows:
        if row.error:
            print(f"demo failed: {row.question!r}: {row.error}", file=sys.stderr)
    summary = {
        "asked": len(entries),
        "answered": len(answered),
        "correct": sum(row.correct for row in answered),
        "median_latency_s": round(statistics.median([row.total for row in answered]), 4)
        if answered
        else None,
        "model": model,
    }
    print(json.dumps(summary), flush=True)
    return 0 if len(answered) == len(entries) else 1


if __name__ == "__main__":
    sys.exit(main())
