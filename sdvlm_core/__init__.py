"""sdvlm without ROS: metric answers to spatial questions about RGB-D frames.

    import sdvlm_core as sdvlm

    engine = sdvlm.load("nano")
    frame = sdvlm.read_frame("color.png", "depth.png", "intrinsics.json")
    answer = engine.open(frame).ask("How tall is the red mug?")

The names below are imported when they are first used: importing this package does not load torch or
NumPy, and has no side effects.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdvlm_core.answer import Asked, Measurement, Quantity, SpatialAnswer
    from sdvlm_core.camera.image_files import read_frame
    from sdvlm_core.engine import LoadOptions, SpatialEngine, load, load_engine
    from sdvlm_core.errors import SdvlmError
    from sdvlm_core.frame import CameraIntrinsics, Region, RgbdFrame
    from sdvlm_core.geometry.measure import measure
    from sdvlm_core.model.generation_options import GenerationOptions, Query, Sampling
    from sdvlm_core.session import FrameSession

__version__ = "0.1.0"

__all__ = [
    "Asked",
    "CameraIntrinsics",
    "FrameSession",
    "GenerationOptions",
    "LoadOptions",
    "Measurement",
    "Quantity",
    "Query",
    "Region",
    "RgbdFrame",
    "Sampling",
    "SdvlmError",
    "SpatialAnswer",
    "SpatialEngine",
    "__version__",
    "load",
    "load_engine",
    "measure",
    "read_frame",
]

_MODULES = {
    "Asked": "sdvlm_core.answer",
    "CameraIntrinsics": "sdvlm_core.frame",
    "FrameSession": "sdvlm_core.session",
    "GenerationOptions": "sdvlm_core.model.generation_options",
    "LoadOptions": "sdvlm_core.engine",
    "Measurement": "sdvlm_core.answer",
    "Quantity": "sdvlm_core.answer",
    "Query": "sdvlm_core.model.generation_options",
    "Region": "sdvlm_core.frame",
    "RgbdFrame": "sdvlm_core.frame",
    "Sampling": "sdvlm_core.model.generation_options",
    "SdvlmError": "sdvlm_core.errors",
    "SpatialAnswer": "sdvlm_core.answer",
    "SpatialEngine": "sdvlm_core.engine",
    "load": "sdvlm_core.engine",
    "load_engine": "sdvlm_core.engine",
    "measure": "sdvlm_core.geometry.measure",
    "read_frame": "sdvlm_core.camera.image_files",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
