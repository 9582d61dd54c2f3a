"""What comes of every field situation: the table of tests/situations as Markdown.

    python benchmarks/camera_situations.py                       all, some minutes
    python benchmarks/camera_situations.py --only "K of 320x240"
    python benchmarks/camera_situations.py --offline             without ROS

Makes each situation's bag or files, runs `sdvlm measure` and `sdvlm replay` on them, and sends the
same messages to the real node over DDS. The table is printed on stdout, progress on stderr. Exit
status 1 if a row is not as it must be. The situations, and what must come of them, are those of the
tests; this file only prints.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests import bags
from tests.situations import offline
from tests.situations.files import FileSituation
from tests.situations.outcome import Lengths, Must, Outcome, judge
from tests.situations.situation import Situation
from tests.situations.table import FILES, SITUATIONS


@dataclass(frozen=True)
class Row:
    """One row: what came of a situation, "-" = it cannot happen there."""

    name: str
    offline: str
    node: str
    must: str
    reason: str  # why it is not as it must be; "" = it is

    def cells(self) -> tuple[str, ...]:
        """Name, offline, node, must, ok."""
        return self.name, self.offline, self.node, self.must, "NO" if self.reason else "yes"


@dataclass(frozen=True)
class Judged:
    """An outcome, in words too, and why it is not accepted."""

    text: str
    reason: str = ""
    outcome: Outcome | None = None


def judged(run: Callable[[], Outcome], must: tuple[Must, ...], truth: Lengths) -> Judged:
    """Run, and judge; a broken contract counts as a reason."""
    try:
        outcome = run()
    except AssertionError as error:
        return Judged(f"broken: {error}", str(error))
    return Judged(outcome.summary(truth), judge(outcome, must, truth), outcome)


def situation_row(situation: Situation, usual_bytes: int, node: Judged | None) -> Row:
    """Measure and replay a situation's bag."""
    truth = situation.shot(bags.START_NS).truth
    with tempfile.TemporaryDirectory() as folder:
        here, there = Path(folder) / "measure", Path(folder) / "replay"
        here.mkdir()
        there.mkdir()
        found = judged(
            lambda: offline.measure_situation(situation, here, usual_bytes), situation.must, truth
        )
        again = judged(lambda: offline.replay_situation(situation, there), situation.must, truth)
    reasons = [found.reason, again.reason and f"replay: {again.reason}"]
    if node is not None:
        reasons.append(node.reason and f"node: {node.reason}")
        if situation.same and found.outcome and node.outcome:
            alone, online = found.outcome.codes, node.outcome.codes
            reasons.append("" if alone == online else f"codes differ: {alone}, node: {online}")
    reason = "; ".join(filter(None, reasons))
    shown = node.text if node is not None else "-"
    return Row(situation.name, found.text, shown, _must(situation.must), reason)


def file_row(situation: FileSituation, usual_bytes: int) -> Row:
    """Measure a situation's files."""
    with tempfile.TemporaryDirectory() as folder:
        found = judged(
            lambda: offline.measure_files(situation, Path(folder), usual_bytes),
            situation.must,
            situation.truth,
        )
    return Row(situation.name, found.text, "-", _must(situation.must), found.reason)


def node_outcomes(situations: Sequence[Situation]) -> dict[str, Judged]:
    """Name -> what the node made of it."""
    from tests.situations.online import Fleet, node_situations, setup_of

    found = {}
    fleet = Fleet()
    try:
        for situation in node_situations(situations):
            _progress(f"node: {situation.name}")
            truth = situation.shot(bags.START_NS).truth
            try:
                measured, asked = fleet.robot(setup_of(situation)).outcomes(situation)
            except AssertionError as error:
                found[situation.name] = Judged(f"broken: {error}", str(error))
                continue
            reasons = [judge(measured, situation.must, truth)]
            reason = judge(asked, situation.must, truth)
            reasons.append(reason and f"query: {reason}")
            text = measured.summary(truth)
            found[situation.name] = Judged(text, "; ".join(filter(None, reasons)), measured)
    finally:
        fleet.close()
    return found


def live_rows(only: str) -> Iterator[Row]:
    """What a node does in time."""
    from tests.situations import live
    from tests.situations.online import Fleet

    fleet = Fleet()
    try:
        for situation in sorted(live.live_situations(), key=lambda one: repr(one.setup)):
            if only not in situation.name:
                continue
            _progress(f"node: {situation.name}")
            try:
                text, reason = live.run(situation, fleet), ""
            except AssertionError as error:
                text = reason = str(error)
            yield Row(situation.name, "-", text, situation.must, reason)
    finally:
        fleet.close()


def rows(only: str, with_node: bool) -> Iterator[Row]:
    """All rows whose name contains `only`."""
    situations = [situation for situation in SITUATIONS if only in situation.name]
    nodes = node_outcomes(situations) if with_node else {}
    usual_bytes = offline.usual_peak_bytes()
    for situation in situations:
        _progress(f"offline: {situation.name}")
        yield situation_row(situation, usual_bytes, nodes.get(situation.name))
    for files in FILES:
        if only in files.name:
            _progress(f"offline: {files.name}")
            yield file_row(files, usual_bytes)
    if with_node:
        yield from live_rows(only)


def _must(accepted: tuple[Must, ...]) -> str:
    return " or ".join(map(str, accepted))


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="rows whose name contains this text")
    parser.add_argument("--offline", action="store_true", help="not through the node")
    arguments = parser.parse_args()
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    table = sys.stdout
    print("| situation | offline | node | must be | ok |", file=table)
    print("|---|---|---|---|---|", file=table, flush=True)
    failed = 0
    sys.stdout = sys.stderr  # what a node printed is shown when it ends
    for row in rows(arguments.only, not arguments.offline):
        cells = (" ".join(cell.split()).replace("|", "/") for cell in row.cells())
        print(f"| {' | '.join(cells)} |", file=table, flush=True)
        if row.reason:
            failed += 1
            _progress(f"NOT AS IT MUST BE: {row.name}: {row.reason}")
    if failed:
        sys.exit(f"{failed} rows are not as they must be")


if __name__ == "__main__":
    main()
