"""`python benchmarks/verification.py DIR`: does verification separate right from wrong answers?

DIR is an output folder of training.simulate. Asks nano the scale, distance and reference questions
of the benchmark, lets nano locate the objects, and prints a table of (right, wrong) against (agree,
disagree, undecided), then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # `training` is used from the checkout

from rich.console import Console
from rich.progress import track

from sdvlm_core.engine import LoadOptions, load_engine
from sdvlm_core.verification import verify
from training.evaluate.benchmarks import questions_of
from training.evaluate.score import score
from training.simulate.frames import read_frames, rgbd_frame

_TYPES = ("scale_estimation", "absolute_distance", "refer_obj_estimation")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--limit", type=int, default=200, help="Frames.")
    options = parser.parse_args()
    engine = load_engine(LoadOptions(options.model))
    table: Counter[tuple[str, str]] = Counter()
    frames = list(read_frames(options.directory, options.limit))
    for frame in track(frames, "asking", console=Console(stderr=True)):
        asked = [question for question in questions_of(frame) if question.type in _TYPES]
        if not asked:
            continue
        session = engine.open(rgbd_frame(frame))
        for question in asked:
            answer = session.ask(question.question)
            right = score(
                question.question, answer.text, question.reference, question.names
            ).correct
            _, checks = verify(session, answer, sensor="simulated")
            verdicts = {check.agrees for check in checks}
            if False in verdicts:
                word = "disagree"
            elif verdicts == {True}:
                word = "agree"
            else:
                word = "undecided"
            table["right" if right else "wrong", word] += 1
    for truth in ("right", "wrong"):
        counts = "  ".join(f"{w} {table[truth, w]:5}" for w in ("agree", "disagree", "undecided"))
        print(f"{truth:6} {counts}")
    agreeing = table["right", "agree"] + table["wrong", "agree"]
    wrong = sum(table["wrong", word] for word in ("agree", "disagree", "undecided"))
    judged = wrong - table["wrong", "undecided"]
    print(
        json.dumps(
            {
                "asked": sum(table.values()),
                "right_among_agreeing": round(table["right", "agree"] / max(1, agreeing), 3),
                "wrong_caught": round(table["wrong", "disagree"] / max(1, wrong), 3),
                "wrong_caught_where_judged": round(table["wrong", "disagree"] / max(1, judged), 3),
                "table": {f"{truth}_{word}": n for (truth, word), n in sorted(table.items())},
            }
        )
    )


if __name__ == "__main__":
    main()
