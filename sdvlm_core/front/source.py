"""Source: where the frames of a page or a server of tools come from, as its command's options say.

Opens it: the offline backend, or the client of a running node. The node's side is in sdvlm_ros,
which this package does not import: it is loaded by name when a node is asked for. Does not know
commands, HTTP or agents.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from sdvlm_core.camera.bag_frames import CameraOptions
from sdvlm_core.camera.settings import DEFAULT_SETTINGS, CameraSettings
from sdvlm_core.errors import ModelNotReadyError, QueryError
from sdvlm_core.front.backend import Backend
from sdvlm_core.front.offline import open_offline
from sdvlm_core.geometry.sensor_noise import DEFAULT_SENSOR

if TYPE_CHECKING:  # imports torch
    from sdvlm_core.engine import LoadOptions

_LIVE = "sdvlm_ros.live_backend"
DEFAULT_SLOP_S = 0.03


@dataclass(frozen=True)
class Source:
    """Image files, a bag or a node; the options of `sdvlm measure`, and `node`.

    Attributes:
        depth: a file, or a bag's topic.
        time_s: of a bag's first frame that is shown; None = the first complete one.
        node: name of a running node, with its namespace.
        camera: name of one of the node's cameras; "" = the only one.

    Raises:
        QueryError: not exactly one of files, bag and node, or an option of another one.
    """

    rgb: Path | None = None
    depth: str | None = None
    intrinsics: Path | None = None
    bag: Path | None = None
    time_s: float | None = None
    node: str | None = None
    camera: str = ""
    color: str | None = None
    info: str | None = None
    sync_slop_s: float = DEFAULT_SLOP_S
    gravity_frame: str = ""
    depth_scale: float | None = None
    up: tuple[float, float, float] | None = None
    sensor: str = DEFAULT_SENSOR
    settings: CameraSettings = DEFAULT_SETTINGS

    def __post_init__(self) -> None:
        if sum(one is not None for one in (self.rgb, self.bag, self.node)) != 1:
            raise QueryError("give --rgb with --depth and --intrinsics, or --bag, or --node")
        if self.rgb is None and self.intrinsics is not None:
            raise QueryError("--intrinsics needs --rgb")
        of_bag = (self.time_s, self.color, self.info, self.gravity_frame)
        if self.bag is None and of_bag != (None, None, None, ""):
            raise QueryError("--time, --color, --info and --gravity-frame need --bag")
        if self.node is None and self.camera:
            raise QueryError("--camera needs --node: it names one of the node's cameras")
        if self.up is not None and self.gravity_frame:
            raise QueryError("give --up or --gravity-frame, not both")
        if self.node is not None and (self.depth, self.depth_scale, self.up) != (None, None, None):
            raise QueryError(
                "--depth, --depth-scale and --up are parameters of the node: they need --rgb or "
                "--bag here"
            )


def open_source(source: Source, model: LoadOptions | None, threads: int = 0) -> Backend:
    """Open a source; a model is only loaded for files and bags, because a node has its own.

    Raises:
        ModelNotReadyError: ROS 2, the interfaces or the node are missing.
        SdvlmError: as `open_offline`.
    """
    if source.node is not None:
        return _connected(source.node, source.camera)
    depth = source.depth
    return open_offline(
        source.rgb,
        Path(depth) if depth is not None and source.bag is None else None,
        source.intrinsics,
        bag=source.bag,
        time=source.time_s,
        camera=CameraOptions(
            color=source.color,
            depth=depth if source.bag is not None else None,
            info=source.info,
            settings=source.settings,
            up=source.up,
            gravity_frame=source.gravity_frame,
        ),
        sync_slop=source.sync_slop_s,
        depth_scale=source.depth_scale,
        sensor=source.sensor,
        model=model,
        threads=threads,
    )


def _connected(node: str, camera: str) -> Backend:
    try:
        live = importlib.import_module(_LIVE)
    except ImportError as error:
        raise ModelNotReadyError(
            f"--node needs ROS 2 and the built interfaces ({error}): source the workspace's "
            "install/setup.bash, or make setup; --rgb and --bag need neither"
        ) from error
    return cast("Backend", live.connect(node, camera))
