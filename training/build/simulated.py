"""Folders of `training.simulate` -> scenes: every frame is a scene of one view, exactly known."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.build.camera_checks import rigid_pose
from training.build.graph import shows
from training.build.reasons import Reason
from training.build.scene import Entry, Instance, Scene, SceneError, UprightBox, View, Wanted
from training.data.tables import count_rows
from training.simulate.frames import SimulatedFrame, read_shard, shard_paths

SOURCE = "simulated"


def find(root: Path) -> list[Path]:
    """One path per frame: shard file / its row; reads no frames."""
    return [
        shard / str(index)
        for shard in shard_paths(root)
        for index in range(count_rows([shard]) or 0)
    ]


@lru_cache(maxsize=1)
def _frames(shard: Path) -> list[SimulatedFrame]:
    """The frames of the last shard only, because scenes are read in order."""
    try:
        return list(read_shard(shard))
    except (OSError, ValueError, KeyError) as error:
        raise SceneError(Reason.DAMAGED_FILE, f"{shard}: {error}") from error


def read_scene(path: Path) -> Scene:
    """The scene of one frame.

    Raises:
        SceneError: the shard is damaged, or the frame has no pose or incomplete objects.
    """
    try:
        frame = _frames(path.parent)[int(path.name)]
        instances = tuple(_instance(item) for item in frame.objects)
        objects = [_entry(item, frame.instance) for item in frame.objects if item["visible_pixels"]]
    except (IndexError, KeyError, TypeError, AttributeError) as error:
        raise SceneError(Reason.DAMAGED_FILE, f"{path}: {error!r}") from error
    rigid_pose(frame.camera_to_world, str(path))
    skipped: Counter[str] = Counter()

    def views(wanted: Wanted) -> Iterator[View]:
        if wanted(frame.camera_to_world):
            yield View(
                "0",
                frame.rgb,
                frame.depth_mm,
                frame.intrinsics,
                frame.camera_to_world,
                objects=objects,
            )

    name = f"{re.sub('[^0-9]', '', path.parent.stem)}_{frame.scene:06d}"
    return Scene(name, SOURCE, instances, None, views, skipped)


def _entry(item: Entry, instance: npt.NDArray[np.uint8]) -> Entry:
    """The simulator's entry, with its category as the label, and whether its centre shows it."""
    rows, columns = instance.shape
    u, v = item["centre_uv"]
    on_object = shows(instance, item["instance"], int(u * columns), int(v * rows))
    return {**item, "label": item["category"], "centre_on_object": on_object}


def _instance(item: Entry) -> Instance:
    box = UprightBox(
        np.array(item["centre_world_m"]),
        item["length_m"],
        item["width_m"],
        item["height_m"],
        item["yaw_rad"],
    )
    return Instance(item["instance"], item["category"], box)
