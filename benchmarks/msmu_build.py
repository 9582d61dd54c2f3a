"""`python benchmarks/msmu_build.py`: speed, peak memory and correctness of `training.build`.

Renders simulated scenes, builds a data set of each size with one worker on one core, and checks
every number. Peak memory is the resident size of the largest process, as the kernel counts it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: Runs a module; the last line is the resident size of its largest process, kB.
_MEASURE = (
    "import resource, subprocess, sys; "
    "subprocess.run([sys.executable, '-m', *sys.argv[1:]], check=True); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
)


def _run(module: str, *options: object) -> tuple[str, int]:
    """(the standard output of a module, the resident size of its largest process in kB)."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, module, *map(str, options)],
        cwd=ROOT,
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        # One thread in every library, so that one worker is one core.
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    text, _, peak = done.stdout.rstrip().rpartition("\n")
    return text, int(peak)


def _build(scenes: int, folder: Path, per_type: int) -> dict[str, float]:
    source, out = folder / f"scenes{scenes}", folder / f"built{scenes}"
    _run("training.simulate", "--scenes", scenes, "--seed", 77, "--out", source)
    start = time.monotonic()
    options = ("--workers", 1, "--per-type", per_type, "--seed", 1, "--out", out)
    _, peak = _run("training.build", "--simulated", source, *options)
    seconds = time.monotonic() - start
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    checked = json.loads(_run("training.build.check", out)[0])
    shares = [number / manifest["questions"] for number in manifest["types"].values()]
    return {
        "scenes": scenes,
        "questions": manifest["questions"],
        "questions_per_minute": round(60 * manifest["questions"] / seconds),
        "peak_gb": round(peak / 2**20, 3),
        "types": len(shares),
        "rarest_type_percent": round(100 * min(shares), 1),
        "mismatches": checked["mismatches"],
    }


def main() -> None:
    """Print one line of JSON per size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, nargs="+", default=[100, 1000, 2000])
    parser.add_argument("--per-type", type=int, default=8, help="Questions of each type per image.")
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        for scenes in options.scenes:
            print(json.dumps(_build(scenes, Path(folder), options.per_type)), flush=True)


if __name__ == "__main__":
    main()
