"""The shards of a build: which scenes make which shard, in train or test, and their files.

A plan is stored in the output folder, so that a resumed build has the same shards. Does not know
how a shard is written.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sdvlm_core.files import read_json, remove_temporary_files, write_text
from training.build import scannet, scannetpp, simulated
from training.build.config import BuildConfig
from training.build.scene import Scene

PLAN = "plan.json"
#: Version of the file formats and of the generator; a build resumes only with the same one.
FORMAT = 1
_REPORTS = "reports"


@dataclass(frozen=True)
class Source:
    """How the scans of one data set are read.

    Attributes:
        find: root folder -> one path per scene, in a fixed order.
        read_scene: such a path -> the scene; raises SceneError.
        scenes_per_shard: gives shards of about the same number of images.
    """

    find: Callable[[Path], list[Path]]
    read_scene: Callable[[Path], Scene]
    scenes_per_shard: int


SOURCES: dict[str, Source] = {
    scannet.SOURCE: Source(scannet.find, scannet.read_scene, 8),
    scannetpp.SOURCE: Source(scannetpp.find, scannetpp.read_scene, 8),
    simulated.SOURCE: Source(simulated.find, simulated.read_scene, 64),
}


@dataclass(frozen=True)
class Task:
    """One shard to write: its name, such as train-scannet-00003, and its scenes."""

    name: str
    source: str
    scenes: tuple[Path, ...]


class PlanError(ValueError):
    """The output folder holds a build with other settings or scenes."""


def plan(source: str, root: Path, test_share: float) -> list[Task]:
    """The shards of a source: scenes in order, split into train and test by place.

    Rescans of one place (ScanNet's scene0000_00, _01, ...) stay together, so that no place is in
    both splits.
    """
    scenes = SOURCES[source].find(root)
    size = SOURCES[source].scenes_per_shard
    tasks = []
    for split in ("train", "test"):
        test = split == "test"
        chosen = [path for path in scenes if (_place_hash(source, path) < test_share) == test]
        for number, start in enumerate(range(0, len(chosen), size)):
            part = tuple(chosen[start : start + size])
            tasks.append(Task(f"{split}-{source}-{number:05d}", source, part))
    return tasks


def _place_hash(source: str, path: Path) -> float:
    """A number in [0, 1) that depends on the place only."""
    place = re.sub(r"_\d\d$", "", path.name) if source == "scannet" else "/".join(path.parts[-2:])
    digest = hashlib.sha256(f"{source}/{place}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def shard_path(out: Path, name: str) -> Path:
    """The file of a shard."""
    return out / f"{name}.parquet"


def report_path(out: Path, name: str) -> Path:
    """The file of a shard's report."""
    return out / _REPORTS / f"{name}.json"


def open_folder(out: Path, config: BuildConfig, tasks: list[Task]) -> None:
    """Create the output folder with its plan, or prepare it to resume.

    Raises:
        PlanError: the folder holds a build with other settings or scenes.
    """
    (out / _REPORTS).mkdir(parents=True, exist_ok=True)
    scenes = hashlib.sha256("\n".join(str(s) for t in tasks for s in t.scenes).encode())
    wanted = {"format": FORMAT, "recipe": config.described(), "scenes": scenes.hexdigest()}
    path = out / PLAN
    if path.exists():
        found = read_json(path, PlanError)
        differing = [key for key in wanted if found.get(key) != wanted[key]]
        if differing:
            raise PlanError(
                f"{out} holds a build with another {' and '.join(differing)} ({path}): "
                "choose another --out"
            )
    remove_leftovers(out)
    write_text(path, json.dumps(wanted, indent=1) + "\n")


def remove_leftovers(out: Path) -> None:
    """Remove the incomplete files of an interrupted build."""
    for folder in (out, out / _REPORTS):
        remove_temporary_files(folder)
