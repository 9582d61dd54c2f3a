"""Simulated RGB-D frames in Parquet shards: written, read, and turned into what a node receives.

A shard holds `SHARD_SCENES` frames in scene order (`training.data.schemas.SIMULATED_FRAMES`).
Does not know how a frame is rendered; reading needs no simulator.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sdvlm_core.frame import CameraIntrinsics, RgbdFrame, depth_in_metres
from training.data.images import decode_plane, decode_rgb, encode_png
from training.data.schemas import SIMULATED_FRAMES
from training.data.tables import Row, read_rows, row_errors, write_table

SHARD_SCENES = 64
#: Settings of the run, beside the shards.
MANIFEST = "simulation.json"


@dataclass(frozen=True, eq=False)
class SimulatedFrame:
    """One view of one scene.

    Attributes:
        scene: index of the scene within its seed.
        rgb: (H, W, 3) uint8.
        depth_mm: (H, W) uint16 millimetres as the sensor reads it, 0 = no reading.
        instance: (H, W) uint8, 0 = room, i = objects[i - 1].
        intrinsics: pinhole parameters of both images.
        camera_to_world: (4, 4), columns X right, Y down, Z forward, position; metres.
        objects: the exact scene graph, one mapping per object of the scene, visible or not
            (`training.simulate.world`, `training.simulate.geometry_frames`).
    """

    scene: int
    rgb: npt.NDArray[np.uint8]
    depth_mm: npt.NDArray[np.uint16]
    instance: npt.NDArray[np.uint8]
    intrinsics: CameraIntrinsics
    camera_to_world: npt.NDArray[np.float64]
    objects: list[dict[str, Any]]


def shard_path(directory: Path, shard: int) -> Path:
    """The file of shard number `shard`."""
    return directory / f"shard-{shard:05d}.parquet"


def shard_paths(directory: Path) -> list[Path]:
    """The shards of a folder, in scene order."""
    return sorted(directory.glob("shard-*.parquet"))


def write_shard(path: Path, frames: Iterable[SimulatedFrame]) -> int:
    """Write one shard, whole or not at all; returns the number of frames."""
    rows = [_row(frame) for frame in frames]
    # Images are compressed already.
    write_table(path, [rows], SIMULATED_FRAMES, compression="none")
    return len(rows)


def _row(frame: SimulatedFrame) -> Row:
    return {
        "scene": frame.scene,
        "width": frame.intrinsics.width,
        "height": frame.intrinsics.height,
        "rgb": encode_png(frame.rgb),
        "depth": encode_png(frame.depth_mm),
        "instance": encode_png(frame.instance),
        "intrinsics": json.dumps(asdict(frame.intrinsics)),
        "camera_to_world": json.dumps(frame.camera_to_world.tolist()),
        "objects": json.dumps(frame.objects),
    }


def read_shard(path: Path) -> Iterator[SimulatedFrame]:
    """The frames of one shard, in scene order.

    Raises:
        ValueError: a row that is not a frame; names the file and the row.
    """
    for number, row in enumerate(read_rows(path)):
        with row_errors(path, number):
            frame = _frame(row)
        yield frame


def _frame(row: Row) -> SimulatedFrame:
    return SimulatedFrame(
        scene=row["scene"],
        rgb=decode_rgb(row["rgb"]),
        depth_mm=decode_plane(row["depth"]),
        instance=decode_plane(row["instance"]),
        intrinsics=CameraIntrinsics.from_mapping(json.loads(row["intrinsics"])),
        camera_to_world=np.array(json.loads(row["camera_to_world"])),
        objects=json.loads(row["objects"]),
    )


def read_frames(directory: Path, limit: int | None = None) -> Iterator[SimulatedFrame]:
    """The frames of a folder in scene order, one at a time; at most `limit`.

    Raises:
        FileNotFoundError: the folder has no shards; the message has the command to render them.
    """
    paths = shard_paths(directory)
    if not paths:
        raise FileNotFoundError(
            f"no shard-*.parquet in {directory}; render frames with "
            f"`python -m training.simulate --scenes 200 --seed 1 --out {directory}`"
        )
    return islice((frame for path in paths for frame in read_shard(path)), limit)


def rgbd_frame(frame: SimulatedFrame) -> RgbdFrame:
    """The frame as a node receives it: colour, sensor depth in metres, intrinsics."""
    return RgbdFrame(
        frame.rgb,
        depth_in_metres(frame.depth_mm, 0.001),
        frame.intrinsics,
        frame_id="camera_color_optical_frame",
    )


def up_in_camera(frame: SimulatedFrame) -> tuple[float, float, float]:
    """Unit vector against gravity in the camera's optical frame."""
    x, y, z = frame.camera_to_world[2, :3]
    return float(x), float(y), float(z)


def stored_gaps(frame: SimulatedFrame) -> dict[tuple[int, int], float]:
    """Metres between the surfaces of objects, by instance numbers (a < b); 0 = they touch.

    Raises:
        ValueError: the frame was rendered by a version that stored no gaps.
    """
    if not all("gaps_m" in entry for entry in frame.objects):
        raise ValueError(f"frame {frame.scene} has no gaps; render the folder again")
    return {
        (entry["instance"], int(other)): gap
        for entry in frame.objects
        for other, gap in entry["gaps_m"].items()
        if entry["instance"] < int(other)
    }
