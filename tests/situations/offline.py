"""Runs `sdvlm measure` and `sdvlm replay`, and reads what they print.

Uses the documented command line only: in a process of its own where memory is bounded, else in this
one, which saves the seconds of a start. Does not know what must come.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from sdvlm_core import errors
from tests import bags
from tests.paths import ROOT
from tests.situations.files import MOST_TEMPORARY_BYTES, FileSituation, region_options
from tests.situations.outcome import Outcome
from tests.situations.scene import good_shot
from tests.situations.situation import Situation
from tests.waiting import PATIENCE_S

QUESTION = "How tall is the red box?"


@dataclass(frozen=True)
class Run:
    """A finished command; `peak_bytes` is its largest resident memory, 0 = not measured."""

    status: int
    out: str
    err: str
    peak_bytes: int = 0


def run_here(*arguments: str) -> Run:
    """Run the command in this process."""
    from typer.testing import CliRunner

    from sdvlm_core.cli.app import app

    result = CliRunner().invoke(app, arguments)
    unforeseen = None if isinstance(result.exception, SystemExit) else result.exception
    assert unforeseen is None, f"{unforeseen!r}: {result.stderr[-2000:]}"
    return Run(result.exit_code, result.stdout, result.stderr)


def sdvlm(*arguments: str, temporary: Path | None = None) -> Run:
    """Run the command in a process; `temporary` becomes its folder for temporary files."""
    environment = dict(os.environ)
    if temporary is not None:
        environment["TMPDIR"] = str(temporary)
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "sdvlm_core.cli", *arguments],
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=err,
        )
        peak_bytes = 0
        while process.poll() is None:
            # Not ru_maxrss: it includes the memory of the process that started the command.
            peak_bytes = max(peak_bytes, _peak_bytes(process.pid))
            if time.monotonic() - started > PATIENCE_S:
                process.kill()
            time.sleep(0.01)
        out.seek(0)
        err.seek(0)
        return Run(process.returncode, out.read(), err.read(), peak_bytes)


def _peak_bytes(pid: int) -> int:
    """The largest resident memory of a running process; 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return sum(
        int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")
    )


def measured(run: Run) -> Outcome:
    """The outcome of `sdvlm measure ... --json`.

    Raises:
        AssertionError: the run broke the contract of the command line.
    """
    assert run.status in (0, 1), f"exit status {run.status}: {run.err[-2000:]}"
    assert "Traceback" not in run.err, run.err[-2000:]
    document = json.loads(run.out)
    if run.status == 1:
        error = document["error"]
        assert error["message"].strip() in run.err, run.err
        return Outcome(code=code_of(error["type"]), text=error["message"])
    return Outcome(
        lengths={
            one["label"]: tuple(
                float("nan") if one[name] is None else one[name]
                for name in ("length_m", "width_m", "height_m")
            )
            for one in document["regions"]
        },
        cautions=frozenset(document["cautions"]),
        warnings={one["label"]: frozenset(one["warnings"]) for one in document["regions"]},
    )


def code_of(type_name: str) -> str:
    """The name of the error code of an exception's type, e.g. DepthError -> BAD_DEPTH."""
    kind = getattr(errors, type_name, None)
    if kind is None:
        return type_name
    code: errors.ErrorCode = errors.error_code(kind(""))
    return code.name


def usual_peak_bytes() -> int:
    """Peak memory of `sdvlm measure --bag` for a correct camera."""
    with tempfile.TemporaryDirectory() as folder:
        bag = bags.write_bag(Path(folder) / "bag", good_shot(bags.START_NS).records())
        regions = region_options(good_shot(bags.START_NS).regions)
        return sdvlm("measure", "--bag", str(bag), *regions, "--json").peak_bytes


def measure_situation(situation: Situation, folder: Path, usual_bytes: int) -> Outcome:
    """`sdvlm measure --bag` of a bag with the situation's messages."""
    shot = situation.shot(bags.START_NS)
    bag = bags.write_bag(folder / "bag", shot.records())
    drawn = folder / "drawn.png"
    run = (sdvlm if situation.bounded else run_here)(
        "measure",
        "--bag",
        str(bag),
        *region_options(shot.regions),
        *situation.options,
        "--draw",
        str(drawn),
        "--json",
    )
    colour = None
    if drawn.exists():
        box = next(iter(shot.regions.values()))
        colour = median_colour(cv2.imread(str(drawn))[..., ::-1], box)
    grown_bytes = run.peak_bytes - usual_bytes if situation.bounded else None
    return replace(measured(run), colour=colour, grown_bytes=grown_bytes)


def median_colour(rgb: np.ndarray, box: tuple[int, ...]) -> tuple[float, float, float]:
    """Median R, G, B of the middle of a box; most pixels there are not drawn upon."""
    x1, y1, x2, y2 = box
    width, height = x2 - x1, y2 - y1
    middle = rgb[y1 + height // 4 : y2 - height // 4, x1 + width // 4 : x2 - width // 4]
    red, green, blue = np.median(middle.reshape(-1, 3), axis=0)
    return float(red), float(green), float(blue)


def measure_files(situation: FileSituation, folder: Path, usual_bytes: int) -> Outcome:
    """`sdvlm measure` of files; the temporary folder must stay small and be left empty."""
    options = situation.write(folder)
    if not situation.bounded:
        return measured(run_here("measure", *options, "--json"))
    temporary = folder / "temporary"
    temporary.mkdir()
    with _Watched(temporary) as watched:
        run = sdvlm("measure", *options, "--json", temporary=temporary)
    outcome = replace(measured(run), grown_bytes=run.peak_bytes - usual_bytes)
    left = [path.name for path in temporary.iterdir()]
    if watched.most_bytes > MOST_TEMPORARY_BYTES or left:
        return Outcome(
            code="UNKNOWN",
            text=f"{watched.most_bytes} bytes of temporary files, left behind: {left}",
        )
    return outcome


class _Watched:
    """The largest size of a folder while the block runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.most_bytes = 0

    def __enter__(self) -> _Watched:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            size = 0
            for path in self._folder.rglob("*"):
                with suppress(OSError):
                    size += path.stat().st_size
            self.most_bytes = max(self.most_bytes, size)


def replay_situation(situation: Situation, folder: Path) -> Outcome:
    """`sdvlm replay` of the same bag, asking about each frame; the outcome of the last."""
    bag = bags.write_bag(folder / "bag", situation.shot(bags.START_NS).records())
    return replayed(bag, folder, situation.options)


def replayed(bag: Path, folder: Path, options: Sequence[str] = ()) -> Outcome:
    """`sdvlm replay` with one question about each frame; the outcome of the last frame."""
    questions = folder / "questions.yaml"
    questions.write_text(f"questions:\n- question: {QUESTION}\n  every: frame\n")
    out = folder / "replayed"
    arguments = ["replay", str(bag), "--questions", str(questions), "--out", str(out)]
    run = run_here(*arguments, *options, "--json")
    assert run.status in (0, 1), run.err[-2000:]
    document = json.loads(run.out)
    if "error" in document:
        return Outcome(code=code_of(document["error"]["type"]), text=document["error"]["message"])
    entry = json.loads((out / "answers.jsonl").read_text().splitlines()[-1])
    if entry["answer"] is None:
        error = entry["error"]
        # Reasons, not only counts, are printed for whoever waits at the terminal.
        words = " ".join(error["message"].split())[:60]
        printed = " ".join(run.err.split())
        assert words in printed, f"{words!r} is not in what replay printed: {printed}"
        return Outcome(code=error["name"], text=error["message"])
    return Outcome(cautions=frozenset(entry["answer"]["cautions"]))
