"""The plan of a build: which scenes are in which split."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.paths import ROOT
from training.build.plan import plan


def test_no_place_is_in_both_splits(tmp_path):
    for number in range(30):
        for scan in range(3):
            folder = tmp_path / "scans" / f"scene{number:04d}_{scan:02d}"
            folder.mkdir(parents=True)
            (folder / f"{folder.name}_vh_clean_2.ply").touch()
    split: dict[str, set[str]] = {"train": set(), "test": set()}
    for task in plan("scannet", tmp_path, 0.3):
        split[task.name.partition("-")[0]] |= {path.name[:9] for path in task.scenes}
    assert len(split["test"]) > 3
    assert not split["train"] & split["test"]
    assert len(split["train"] | split["test"]) == 30


def test_a_folder_without_scenes_is_refused_by_name(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "training.build", "--scannet", tmp_path, "--out", tmp_path / "out"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "holds no scene" in " ".join(re.sub("[│╭╮╰╯─]", " ", done.stderr).split())
