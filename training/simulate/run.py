"""`python -m training.simulate`: simulated RGB-D frames with exact scene graphs, in shards.

Owns the files: Parquet shards of `SHARD_SCENES` frames, each written under a temporary name and
renamed, so that a run that was cut off goes on where it stopped. Knows nothing of how a frame
comes about (`training.simulation`) or of questions (`training.msmu`).

A row: scene, width, height, rgb (PNG), depth (PNG, uint16 millimetres, 0 = no reading),
instance (PNG, 0 = room), intrinsics, camera_to_world and objects (JSON).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from sdvlm_core.frame import CameraIntrinsics, RgbdFrame, depth_in_metres
from training.processes import stop
from training.simulate.world import SimulatedFrame, make_frame

SHARD_SCENES = 64
MANIFEST = "simulation.json"
_FORMAT = 1

_renderer: Any = None  # one GL context per worker process, made at its first shard


def shard_path(directory: Path, shard: int) -> Path:
    """Where shard number `shard` lives."""
    return directory / f"shard-{shard:05d}.parquet"


def _png(image: Any) -> bytes:
    done, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise RuntimeError("OpenCV could not encode a PNG")
    return bytes(data)


def _row(frame: SimulatedFrame) -> dict[str, Any]:
    return {
        "scene": frame.scene,
        "width": frame.intrinsics.width,
        "height": frame.intrinsics.height,
        "rgb": _png(frame.rgb[..., ::-1]),
        "depth": _png(frame.depth_mm),
        "instance": _png(frame.instance),
        "intrinsics": json.dumps(asdict(frame.intrinsics)),
        "camera_to_world": json.dumps(frame.camera_to_world.tolist()),
        "objects": json.dumps(frame.objects),
    }


def _decode(data: bytes) -> Any:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError("a stored image does not decode")
    return image


def read_shard(path: Path) -> Iterator[SimulatedFrame]:
    """The frames of one shard, in scene order."""
    for row in pq.read_table(path).to_pylist():
        yield SimulatedFrame(
            scene=row["scene"],
            rgb=np.ascontiguousarray(_decode(row["rgb"])[..., ::-1]),
            depth_mm=_decode(row["depth"]),
            instance=_decode(row["instance"]),
            intrinsics=CameraIntrinsics.from_mapping(json.loads(row["intrinsics"])),
            camera_to_world=np.array(json.loads(row["camera_to_world"])),
            objects=json.loads(row["objects"]),
        )


def read_frames(directory: Path, limit: int | None = None) -> Iterator[SimulatedFrame]:
    """The frames of a folder in scene order, one at a time; at most `limit`.

    Raises:
        FileNotFoundError: the folder holds no shards.
    """
    paths = sorted(directory.glob("shard-*.parquet"))
    if not paths:
        raise FileNotFoundError(
            f"no shard-*.parquet in {directory}; make some with "
            f"`python -m training.simulate --scenes 200 --seed 1 --out {directory}`"
        )
    return islice((frame for path in paths for frame in read_shard(path)), limit)


def rgbd_frame(frame: SimulatedFrame) -> RgbdFrame:
    """The frame as the node would see it: colour, sensor depth in metres, intrinsics."""
    return RgbdFrame(
        frame.rgb,
        depth_in_metres(frame.depth_mm, 0.001),
        frame.intrinsics,
        frame_id="camera_color_optical_frame",
    )


def _write_shard(directory: Path, shard: int, seed: int, scenes: int, width: int) -> int:
    global _renderer
    from training.simulate.renderer import Renderer

    if _renderer is None:
        _renderer = Renderer(width, width * 3 // 4)
    first = shard * SHARD_SCENES
    rows = [
        _row(make_frame(_renderer, seed, scene, width))
        for scene in range(first, min(first + SHARD_SCENES, scenes))
    ]
    path = shard_path(directory, shard)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    # Images are compressed already.
    pq.write_table(pa.Table.from_pylist(rows), temporary, compression="none")
    temporary.replace(path)
    return len(rows)


def _remove_leftovers(directory: Path) -> None:
    """Remove what an interrupted run had not finished."""
    for leftover in directory.glob("shard-*.tmp"):
        leftover.unlink()


def _check_manifest(directory: Path, wanted: dict[str, int]) -> None:
    """Refuse to mix two recipes in one folder; the number of scenes may grow."""
    path = directory / MANIFEST
    if path.exists():
        found = json.loads(path.read_text())
        differing = [key for key in ("format", "seed", "width") if found.get(key) != wanted[key]]
        if differing:
            raise typer.BadParameter(
                f"{directory} already holds frames with {[(k, found.get(k)) for k in differing]}; "
                "choose another --out or remove it"
            )
        if found["scenes"] % SHARD_SCENES and found["scenes"] != wanted["scenes"]:
            # The last shard was a partial one and would hide the scenes that belong in it now.
            shard_path(directory, found["scenes"] // SHARD_SCENES).unlink(missing_ok=True)
    _remove_leftovers(directory)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(wanted, indent=1) + "\n")
    temporary.replace(path)


def simulate(
    scenes: Annotated[int, typer.Option(min=1, help="How many scenes; one frame each.")],
    out: Annotated[Path, typer.Option(help="Folder for the shards; made if absent.")],
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same frames.")] = 0,
    width: Annotated[
        int, typer.Option(min=64, max=1920, help="Image width; the height is 3/4 or 9/16 of it.")
    ] = 320,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: one per core.")
    ] = None,
) -> None:
    """Render simulated household scenes: colour, sensor depth, masks, exact scene graphs.

    Running it again with the same arguments renders only what is missing.

    Example: python -m training.simulate --scenes 200 --seed 7 --out runs/sim7
    """
    out.mkdir(parents=True, exist_ok=True)
    _check_manifest(out, {"format": _FORMAT, "seed": seed, "width": width, "scenes": scenes})
    shards = range((scenes + SHARD_SCENES - 1) // SHARD_SCENES)
    missing = [shard for shard in shards if not shard_path(out, shard).exists()]
    sizes = {shard: min(SHARD_SCENES, scenes - shard * SHARD_SCENES) for shard in shards}
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    # GL contexts do not survive a fork.
    pool = ProcessPoolExecutor(
        max_workers=min(workers or os.cpu_count() or 1, max(1, len(missing))),
        mp_context=multiprocessing.get_context("spawn"),
    )
    with Progress(*columns) as progress, pool:
        task = progress.add_task("scenes", total=scenes, rate="")
        progress.advance(task, scenes - sum(sizes[shard] for shard in missing))
        pending = [pool.submit(_write_shard, out, shard, seed, scenes, width) for shard in missing]
        try:
            for future in as_completed(pending):
                progress.advance(task, future.result())
                speed = progress.tasks[0].speed
                progress.update(task, rate=f"{speed:.0f}/s" if speed else "")
        except BaseException:
            stop(pool)
            _remove_leftovers(out)
            raise
    typer.echo(f"{scenes} frames in {out} ({len(missing)} of {len(shards)} shards rendered now)")


def main() -> None:
    """Entry point of `python -m training.simulate`."""
    # SIGTERM ends as Ctrl-C does; by itself it would leave the renderers waiting for ever.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    typer.run(simulate)
