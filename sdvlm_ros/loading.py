"""The model of the node's parameters -> a SpatialEngine that has answered once.

Knows where models come from and what a robot's integrator must be told when one does not load.
Does not know the life cycle: when to load and what a failure means there is the node's business.
"""

from __future__ import annotations

import sys
import time
import traceback
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
from rclpy.impl.rcutils_logger import RcutilsLogger

from sdvlm_core.errors import SdvlmError
from sdvlm_core.frame import CameraIntrinsics, RgbdFrame
from sdvlm_ros.parameters import Settings

if TYPE_CHECKING:
    from sdvlm_core.engine import SpatialEngine


def load_engine(settings: Settings, logger: RcutilsLogger) -> SpatialEngine:
    """Load what the settings name, and answer once about an empty scene.

    Raises:
        CheckpointError and others: the model cannot be had; see `explain`.
    """
    # Here, so that the interfaces and a refusal need no torch.
    from sdvlm_core.engine import SpatialEngine
    from sdvlm_core.model import hub
    from sdvlm_core.model.checkpoint import load

    started = time.monotonic()
    if settings.allow_download:
        for name in filter(None, (settings.model, settings.depth_estimator)):
            hub.obtain(name, logger.info)
    checkpoint = load(
        settings.model, settings.device, settings.dtype, settings.quantization, settings.attention
    )
    estimator = None
    if settings.depth_estimator:
        from sdvlm_core.model.depth_estimation import load_estimator

        estimator = load_estimator(settings.depth_estimator, checkpoint.device)
        logger.warning(f"depth is estimated by {estimator.name} ({estimator.source}), not measured")
    engine = SpatialEngine(checkpoint, estimator)
    _warm_up(engine)
    logger.info(
        f"{engine.model_id} loaded in {time.monotonic() - started:.1f} s; settings: "
        + ", ".join(f"{name}={value}" for name, value in asdict(settings).items())
    )
    return engine


def explain(error: Exception, model: str, logger: RcutilsLogger) -> None:
    """Log why a model did not load, and what to do where that is known."""
    logger.error(f"model {model!r} cannot be loaded: {type(error).__name__}: {error}")
    if isinstance(error, ImportError):
        logger.error(
            f"{sys.executable} lacks what the model needs; start the node with an "
            "interpreter that has requirements/core.txt (launch argument python:=)"
        )
    elif not isinstance(error, (SdvlmError, ValueError)):
        logger.error("".join(traceback.format_exception(error)))


def _warm_up(engine: SpatialEngine) -> None:
    """Answer once about an empty scene, so that the first real question does not pay for it."""
    frame = RgbdFrame(
        rgb=np.full((48, 64, 3), 128, np.uint8),
        depth=np.full((48, 64), 1.0, np.float32) if engine.estimator is None else None,
        intrinsics=CameraIntrinsics(60.0, 60.0, 31.5, 23.5, 64, 48),
    )
    engine.open(frame).ask("How far is the wall?", max_new_tokens=2)
