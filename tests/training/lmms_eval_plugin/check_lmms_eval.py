"""Runs lmms-eval with the plugin on nano and generated frames: its marks are `training.evaluate`'s.

Needs an environment with lmms-eval, the plugin and this checkout (`make test-lmms-eval`). Prints
lmms-eval's table. Downloads nothing: the model is nano and the frames are rendered.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SCENES = 8
#: A task's suffix -> the control of `training.evaluate`.
COMPARED = {"": "own", "_none": "none", "_shuffled": "shuffled"}


def run(*arguments: str) -> str:
    """Run a module of this environment; its standard output."""
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        stdout=subprocess.PIPE,
        stderr=None,
        text=True,
        check=True,
        env={**os.environ, **offline},
    )
    return done.stdout


def main() -> None:
    """Exit 1 if a mean differs."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_HOME"] = f"{folder}/hub"
        frames, tasks, out = (f"{folder}/{name}" for name in ("frames", "tasks", "out"))
        run("training.simulate", "--scenes", str(SCENES), "--seed", "5", "--out", frames)
        prepare = ("training.lmms_eval_plugin", "--benchmark", frames, "--name", "generated")
        run(*prepare, "--out", tasks)
        named = [f"sdvlm_generated{suffix}" for suffix in COMPARED]
        table = run(
            "lmms_eval", "--model", "sdvlm", "--model_args", "pretrained=nano",
            "--tasks", ",".join(named), "--include_path", tasks, "--output_path", out,
            "--log_samples",
        )  # fmt: skip
        print(table[table.index("|  ") :] if "|  " in table else table)
        (results,) = Path(out).rglob("*results.json")
        theirs = json.loads(results.read_text(encoding="utf-8"))["results"]
        differing = 0
        for suffix, depth in COMPARED.items():
            said = run(
                "training.evaluate", "--model", "nano", "--benchmark", frames,
                "--depth", depth, "--out", f"{folder}/own{suffix}",
            )  # fmt: skip
            own = json.loads(said.splitlines()[-1])
            found = theirs[f"sdvlm_generated{suffix}"]
            pairs = ((own["macro"], "strict"), (own["official"]["macro"], "official"))
            for ours, rule in pairs:
                same = abs(ours - found[f"{rule},none"]) < 0.005
                differing += not same
                print(f"--depth {depth}, {rule}: {found[f'{rule},none']:.2f}, here {ours:.2f}")
        sys.exit(f"{differing} means differ" if differing else 0)


if __name__ == "__main__":
    main()
