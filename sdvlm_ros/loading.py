"""Loads the node's model on a separate thread, so that the executor keeps answering meanwhile.

A load takes from seconds to minutes. It cannot be interrupted: its thread ends with the process.
Does not know the life cycle.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from dataclasses import asdict
from typing import TYPE_CHECKING

from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.node import Node

from sdvlm_core.errors import CheckpointError, SdvlmError, ServerError, shown
from sdvlm_ros.parameters import Settings
from sdvlm_ros.ticket import Outcome

if TYPE_CHECKING:
    from sdvlm_core.engine import SpatialEngine


class ModelLoader:
    """Loads a model with `load`; `take` returns it.

    Attributes:
        loading: whether a load is in progress.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._loaded: SpatialEngine | Exception | None = None
        self._started = 0.0
        self._model = ""
        self.loading = False

    @property
    def progress(self) -> str:
        """What is being loaded, and for how long; "" = nothing."""
        if not self.loading:
            return ""
        elapsed_s = time.monotonic() - self._started
        return f"loading model '{shown(self._model)}' for {elapsed_s:.0f} s"

    async def load(self, settings: Settings) -> None:
        """Load on a thread, and keep the engine or the error for `take`. Not while `loading`."""
        logger = self._node.get_logger()
        logger.info(f"loading model '{shown(settings.model)}'; requests are refused until then")
        outcome: Outcome[SpatialEngine] = Outcome(self._node)
        self.loading, self._started, self._model = True, time.monotonic(), settings.model
        threading.Thread(
            target=_load, args=(settings, logger, outcome), name="sdvlm_loading", daemon=True
        ).start()
        try:
            self._loaded = await outcome.wait()
        except Exception as error:  # noqa: BLE001 - `take` raises it
            self._loaded = error
        finally:
            self.loading = False

    def take(self, settings: Settings) -> SpatialEngine:
        """The engine that was loaded, once. Without a preceding `load`, loads now and blocks.

        Raises:
            CheckpointError: the model is missing, incomplete, or cannot run on this machine.
            ImportError: a package that the model needs is not installed.
        """
        loaded, self._loaded = self._loaded, None
        if loaded is None:
            return load_model(settings, self._node.get_logger())
        if isinstance(loaded, Exception):
            raise loaded
        return loaded


def _load(settings: Settings, logger: RcutilsLogger, outcome: Outcome[SpatialEngine]) -> None:
    try:
        outcome.settle(load_model(settings, logger))
    except Exception as error:  # noqa: BLE001 - delivered
        outcome.settle(error)
    except BaseException as error:  # noqa: BLE001 - delivered as well
        # For instance the panic of a tokenizer's Rust code; without an outcome the node would
        # wait forever.
        failure = CheckpointError(f"{type(error).__name__}: {shown(str(error))}")
        failure.__cause__ = error
        outcome.settle(failure)


def load_model(settings: Settings, logger: RcutilsLogger) -> SpatialEngine:
    """Load the model of the settings, and warm it up.

    Raises:
        CheckpointError: the model is missing, incomplete, or cannot run on this machine.
        ImportError: a package that the model needs is not installed.
    """
    started = time.monotonic()  # importing torch is part of the wait
    # Imported here, because the interfaces and error replies do not need torch.
    from sdvlm_core.engine import LoadOptions, load_engine
    from sdvlm_core.model import hub

    if settings.allow_download:
        for name in filter(None, (settings.model, settings.depth_estimator)):
            hub.obtain(name, logger.info)
    engine = load_engine(
        LoadOptions(
            model=settings.model,
            device=settings.device,
            dtype=settings.dtype,
            quantization=settings.quantization,
            attention=settings.attention,
            depth_estimator=settings.depth_estimator,
            server=_server(settings),
            served_model=settings.served_model,
        )
    )
    if engine.estimator is not None:
        logger.warning(
            f"depth is estimated by {engine.estimator.name} ({engine.estimator.source}), "
            "not measured"
        )
    count = engine.use_threads(settings.threads)
    if settings.captured:
        _capture(engine, settings.compile, logger)
    try:
        engine.warm_up()
    except BaseException:
        engine.close()
        raise
    at = f", its language model at {engine.server.url}," if engine.server is not None else ""
    logger.info(
        f"{engine.model_id} loaded on {engine.checkpoint.device}{at} in "
        f"{time.monotonic() - started:.1f} s, {count} CPU threads; settings: "
        + ", ".join(f"{name}={shown(str(value))}" for name, value in asdict(settings).items())
    )
    return engine


def _server(settings: Settings) -> str:
    """The URL of the server; "" = the language model runs here.

    Raises:
        ServerError: the backend is served, and no server is named.
    """
    if settings.backend != "served":
        return ""
    if not settings.server:
        raise ServerError(
            "backend is served, and the parameter server is empty: give its URL, e.g. "
            "http://10.0.0.5:8000"
        )
    return settings.server


def _capture(engine: SpatialEngine, compiled: bool, logger: RcutilsLogger) -> None:
    """Capture the decode step where that is possible; answers are the same without it."""
    try:
        seconds = engine.capture(compiled)
    except (RuntimeError, SdvlmError) as error:  # torch's errors are RuntimeErrors
        reason = shown(f"{type(error).__name__}: {error}", 500)
        logger.warning(
            f"the decode step cannot be captured ({reason}); answers are the same, but slower; set "
            "captured to false to skip this"
        )
        return
    if seconds:
        what = "compiled and captured" if compiled else "captured"
        logger.info(f"the decode step is {what}: {seconds:.1f} s")
    elif compiled:
        logger.warning("compile has no effect: the decode step is captured on one CUDA device only")


def log_load_error(error: Exception, model: str, logger: RcutilsLogger) -> None:
    """Log why a model did not load, and what to do where that is known."""
    reason = shown(f"{type(error).__name__}: {error}", 1000)
    logger.error(f"model '{shown(model)}' cannot be loaded: {reason}")
    if isinstance(error, ImportError):
        logger.error(
            f"{sys.executable} lacks a package that the model needs; start the node with an "
            "interpreter that has requirements/core.txt (launch argument python:=)"
        )
    elif not isinstance(error, (SdvlmError, ValueError)):
        logger.error("".join(traceback.format_exception(error)))
