"""Scene: the point cloud and support planes of one frame, computed once and shared.

Measuring, verification, drawing and the node's visualization open the same frame; the first call
computes, the others reuse. The cache is keyed by the identity of the frame and holds it weakly: an
entry is removed when its frame is deleted. A frame is immutable, so do not change its arrays in
place. Does not know regions or objects.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass, field

from sdvlm_core.cautions import Caution
from sdvlm_core.frame import RgbdFrame
from sdvlm_core.geometry.point_cloud import Cloud, make_cloud
from sdvlm_core.geometry.support_plane import Plane, find_support_planes


@dataclass(frozen=True, eq=False)
class Scene:
    """A frame with its point cloud and support planes, which all regions share.

    Attributes:
        frame: the RGB-D frame.
        cloud: the back-projected depth of the frame.
        planes: the horizontal surfaces of the frame, the dominant one first.
        cautions: the frame's, and UP_UNCERTAIN if neither the frame nor a plane shows what is up.
    """

    frame: RgbdFrame
    cloud: Cloud
    planes: tuple[Plane, ...]
    cautions: tuple[Caution, ...]


@dataclass(eq=False)
class _Entry:
    """The computed parts of one frame. A reference to the frame would keep it in memory forever."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    parts: tuple[Cloud, tuple[Plane, ...]] | None = None


_entries: weakref.WeakKeyDictionary[RgbdFrame, _Entry] = weakref.WeakKeyDictionary()
_entries_lock = threading.Lock()


def open_scene(frame: RgbdFrame) -> Scene:
    """Back-project a frame and find its horizontal surfaces, once per frame; thread-safe.

    Raises:
        DepthError: no depth, or affine-invariant depth.
        IntrinsicsError: no intrinsics.
    """
    with _entries_lock:
        entry = _entries.setdefault(frame, _Entry())
    with entry.lock:  # one per frame: threads with other frames do not wait
        if entry.parts is None:
            cloud = make_cloud(frame)
            entry.parts = cloud, find_support_planes(cloud)
        cloud, planes = entry.parts
    return Scene(frame, cloud, planes, frame.cautions)
