"""Renders the missing shards of a folder in worker processes, and resumes an interrupted run.

Knows processes and the manifest. Does not know how a frame is rendered (`world`) or stored
(`frames`).
"""

from __future__ import annotations

import json
import os
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sdvlm_core.files import read_json, remove_temporary_files, write_text
from training.processes import spawned_pool, terminate_workers
from training.progress_bar import ProgressBar
from training.simulate.frames import MANIFEST, SHARD_SCENES, shard_path, write_shard
from training.simulate.meshes import package_meshes

_FORMAT = 2  # 1: rooms without gaps

#: What the frames show.
Kind = Literal["room", "geometry"]


class SettingsError(ValueError):
    """The folder holds frames of other settings."""


@dataclass(frozen=True)
class Rendered:
    """Shards rendered by this run, of those that the folder holds now."""

    new_shards: int
    shards: int


def render_frames(
    out: Path,
    scenes: int,
    seed: int = 0,
    width: int = 320,
    workers: int | None = None,
    kind: Kind = "room",
) -> Rendered:
    """Render the shards of `scenes` frames that do not exist yet; progress goes to stderr.

    Args:
        out: the folder; it is created.
        scenes: one frame each.
        seed: the same seed gives the same frames.
        width: image width, pixels; the height is 3/4 or 9/16 of it.
        workers: processes; None = one per core.
        kind: "room", household rooms; or "geometry", situations that are hard to measure.

    Raises:
        SettingsError: the folder holds frames of another kind, seed, width or format.
    """
    out.mkdir(parents=True, exist_ok=True)
    used = package_meshes().meshes if kind == "geometry" else ()
    wanted: dict[str, int | str] = {
        "format": _FORMAT,
        "seed": seed,
        "width": width,
        "scenes": scenes,
        "kind": kind,
        "meshes": " ".join(sorted(used)),
    }
    _check_manifest(out, wanted)
    shards = range((scenes + SHARD_SCENES - 1) // SHARD_SCENES)
    missing = [shard for shard in shards if not shard_path(out, shard).exists()]
    sizes = {shard: min(SHARD_SCENES, scenes - shard * SHARD_SCENES) for shard in shards}
    # A GL context does not survive a fork.
    pool = spawned_pool(min(workers or os.cpu_count() or 1, max(1, len(missing))))
    existing = scenes - sum(sizes[shard] for shard in missing)
    with ProgressBar("scenes", scenes, existing) as bar, pool:
        pending = [
            pool.submit(_render_shard, out, shard, seed, scenes, width, kind) for shard in missing
        ]
        try:
            for future in as_completed(pending):
                bar.advance(future.result())
                bar.show_rate(f"{bar.speed:.0f}/s" if bar.speed else "")
        except BaseException:
            terminate_workers(pool)
            remove_temporary_files(out)
            raise
    return Rendered(len(missing), len(shards))


def _render_shard(
    directory: Path, shard: int, seed: int, scenes: int, width: int, kind: Kind
) -> int:
    # Imported in the worker: a GL context does not survive a fork.
    if kind == "geometry":
        from training.simulate.geometry_frames import geometry_renderer, make_geometry_frame

        renderer, make = geometry_renderer(width), make_geometry_frame
    else:
        from training.simulate.renderer import shared_renderer
        from training.simulate.world import make_frame

        renderer, make = shared_renderer(width), make_frame
    first = shard * SHARD_SCENES
    frames = (
        make(renderer, seed, scene, width)
        for scene in range(first, min(first + SHARD_SCENES, scenes))
    )
    return write_shard(shard_path(directory, shard), frames)


def _check_manifest(directory: Path, wanted: dict[str, int | str]) -> None:
    """Refuse to mix the frames of two settings in one folder; the number of scenes may grow."""
    path = directory / MANIFEST
    if path.exists():
        # Older manifests are of rooms.
        found = {"kind": "room", "meshes": "", **read_json(path, SettingsError)}
        differing = [
            f"{key} was {found.get(key)} and is {wanted[key]}"
            for key in ("format", "kind", "meshes", "seed", "width")
            if found.get(key) != wanted[key]
        ]
        if differing:
            raise SettingsError(
                f"{directory} already holds frames of other settings: {'; '.join(differing)}. "
                "Choose another --out or remove the folder"
            )
        if found["scenes"] % SHARD_SCENES and found["scenes"] != wanted["scenes"]:
            # The last shard of the earlier run was incomplete: scenes are missing in it now.
            shard_path(directory, found["scenes"] // SHARD_SCENES).unlink(missing_ok=True)
    remove_temporary_files(directory)
    write_text(path, json.dumps(wanted, indent=1) + "\n")
