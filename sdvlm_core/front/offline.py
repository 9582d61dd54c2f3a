"""OfflineBackend: frames of image files or of a bag, and an engine of its own.

The model is loaded in a thread, so that frames are shown and measured at once; it answers one
question at a time, and the session of the frame that it was last asked about is kept. Does not know
HTTP, agents or ROS.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdvlm_core.answer import AnswerBy, Asked, SpatialAnswer
from sdvlm_core.camera.bag_frames import CameraOptions
from sdvlm_core.camera.bag_moment import open_moments
from sdvlm_core.camera.image_files import read_frame
from sdvlm_core.camera.rectification import rectified_regions
from sdvlm_core.camera.settings import CameraSettings
from sdvlm_core.errors import (
    FrameError,
    ModelNotReadyError,
    QueryCanceled,
    QueryError,
    QueueFullError,
    error_code,
    shown,
)
from sdvlm_core.frame import Region, RgbdFrame
from sdvlm_core.front.backend import OnText, Origin, Shot, shot_of
from sdvlm_core.geometry.sensor_noise import DEFAULT_SENSOR, sensor_noise
from sdvlm_core.language.question import check_labels, parse

if TYPE_CHECKING:  # imports torch
    from sdvlm_core.engine import LoadOptions, SpatialEngine
    from sdvlm_core.session import FrameSession

_log = logging.getLogger(__name__)

#: Frames that are held.
HELD_FRAMES = 8
#: Calls of `ask` that may wait for the model or be answered; more are refused.
MAX_WAITING = 8

#: Reads a frame; the argument is the time in a bag, None = the first choice of the user.
Read = Callable[[float | None], RgbdFrame]


@dataclass(frozen=True, eq=False)
class _Held:
    frame: RgbdFrame
    shot: Shot


def open_offline(
    rgb: Path | None = None,
    depth: Path | None = None,
    intrinsics: Path | None = None,
    *,
    bag: Path | None = None,
    time: float | None = None,
    camera: CameraOptions | None = None,
    sync_slop: float = 0.03,
    depth_scale: float | None = None,
    up: tuple[float, float, float] | None = None,
    sensor: str = DEFAULT_SENSOR,
    model: LoadOptions | None = None,
    threads: int = 0,
) -> OfflineBackend:
    """Open image files or a bag, with the options of `sdvlm measure`, and start loading a model.

    Args:
        rgb, depth, intrinsics, depth_scale: as `image_files.read_frame`.
        bag: a bag instead of image files.
        time: of the bag's first frame that is shown, seconds; None = the first complete frame.
        camera: topics, settings and gravity frame of the bag. Of files, only its settings count.
        sync_slop: largest difference of the stamps of one frame of a bag, seconds.
        up: unit vector against gravity in the optical frame; None = as `camera` says.
        sensor: preset of `sensor_noise`; gives the range of depth unless `camera` has settings.
        model: None = no model: only measuring is possible.
        threads: as `threads.use`.

    Raises:
        QueryError: neither files nor a bag are given, or both; or the sensor is unknown.
        FrameError, BagError: the first frame cannot be read or used.
    """
    if (rgb is None) == (bag is None):
        raise QueryError("give image files or a bag")
    noise = sensor_noise(sensor)
    if camera is None:
        camera = CameraOptions(settings=CameraSettings(range_m=noise.range_m))
    if up is not None:
        camera = replace(camera, up=up)
    opened = ExitStack()
    loaded = (model.model, model.server, model.served_model) if model is not None else ()
    if bag is not None:
        moments = opened.enter_context(open_moments(bag, camera, sync_slop))
        origin = Origin("bag", str(bag), moments.length_s, *loaded)

        def read(at_s: float | None) -> RgbdFrame:
            return moments.frame(time if at_s is None else at_s)
    else:
        assert rgb is not None
        frame = read_frame(
            rgb, depth, intrinsics, depth_scale, settings=camera.settings, up=camera.up
        )
        origin = Origin("files", str(rgb), 0.0, *loaded)

        def read(at_s: float | None) -> RgbdFrame:
            if at_s is not None:
                raise QueryError("image files are one frame: only a bag has times")
            return frame

    backend = OfflineBackend(read, origin, sensor, model, threads, opened)
    try:
        backend.capture()  # refused here, not in the first call
    except BaseException:
        backend.close()
        raise
    return backend


class OfflineBackend:
    """A `front.backend.Backend` of one source of frames; see `open_offline`."""

    def __init__(
        self,
        read: Read,
        origin: Origin,
        sensor: str,
        model: LoadOptions | None,
        threads: int = 0,
        opened: ExitStack | None = None,
    ) -> None:
        self._read = read
        self._opened = opened or ExitStack()
        self._origin = origin
        self._sensor = sensor
        self._held: OrderedDict[int, _Held] = OrderedDict()
        self._held_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._waiting = threading.BoundedSemaphore(MAX_WAITING)
        self._model_lock = threading.Lock()
        self._closed = threading.Event()
        self._session: tuple[RgbdFrame, FrameSession] | None = None
        self._engine: Future[SpatialEngine] | None = None
        if model is not None:
            self._engine = _loaded(model, threads)

    @property
    def origin(self) -> Origin:
        """Where the frames come from."""
        return self._origin

    def capture(self, at_s: float | None = None) -> Shot:
        """As `Backend.capture`; a frame that is held already is not read into a second one.

        Raises:
            BagError, FrameError: there is no such frame, or it cannot be used.
            QueryError: `at_s` without a bag.
        """
        with self._read_lock:  # one at a time: a slider asks for many
            frame = self._read(at_s)
            with self._held_lock:
                held = self._held.get(frame.stamp_ns)
            if held is None:
                held = _Held(frame, shot_of(frame))
            with self._held_lock:
                self._held[frame.stamp_ns] = held
                self._held.move_to_end(frame.stamp_ns)
                while len(self._held) > HELD_FRAMES:
                    self._held.popitem(last=False)
        return held.shot

    def measure(self, stamp_ns: int, regions: Sequence[Region]) -> dict[str, Any]:
        """As `Backend.measure`.

        Raises:
            FrameError: the frame is not held; or, as `DepthError` or `IntrinsicsError`, it has no
                metric depth or no intrinsics.
        """
        from sdvlm_core.geometry.documents import measurement_document
        from sdvlm_core.geometry.measure import measure_in
        from sdvlm_core.geometry.scene import open_scene

        scene = open_scene(self._frame(stamp_ns))
        found, pairs = measure_in(scene, rectified_regions(scene.frame, regions), self._sensor)
        return measurement_document(found, pairs, scene.cautions)

    def ask(
        self,
        stamp_ns: int,
        questions: Sequence[str | Asked],
        regions: Sequence[Region] = (),
        verify: bool = False,
        on_text: OnText | None = None,
    ) -> list[dict[str, Any]]:
        """As `Backend.ask`; waits until the model is loaded and earlier questions are answered.

        `on_text` is also called with an empty text before the model starts, to cancel in time.

        Raises:
            CheckpointError, ModelNotReadyError: the model did not load, or there is none.
            QueueFullError: `MAX_WAITING` calls are waiting.
            QueryError: a region is of no asked object.
            QueryCanceled: `on_text` returned False, or the backend was closed.
            FrameError: the frame is not held, or the model cannot take it.
        """
        frame = self._frame(stamp_ns)
        if self._engine is None:
            raise ModelNotReadyError("there is no model: only measuring is possible")
        understood = [parse(one) if isinstance(one, str) else one for one in questions]
        if verify:
            check_labels([one.label for one in regions], *understood)
        if not self._waiting.acquire(blocking=False):
            raise QueueFullError(f"{MAX_WAITING} questions are waiting: ask again later")
        try:
            engine = self._engine.result()
            with self._model_lock:
                _go_on(on_text, self._closed)
                session = self._open(engine, frame)
                answers = _answers(session, questions, on_text, self._closed)
                if not verify:
                    return [_document(answer) for answer in answers]
                placed = rectified_regions(frame, regions)
                return [
                    _verified(session, answer, placed, self._sensor, understood, self._closed)
                    for answer in answers
                ]
        finally:
            self._waiting.release()

    def close(self) -> None:
        """Cancel what is being answered, forget the frames, and close the bag."""
        self._closed.set()
        with self._held_lock:
            self._held.clear()
        with self._read_lock:
            self._opened.close()

    def _frame(self, stamp_ns: int) -> RgbdFrame:
        with self._held_lock:
            held = self._held.get(stamp_ns)
        if held is None:
            raise FrameError(
                f"the frame of stamp {stamp_ns} ns is not held any more (the last {HELD_FRAMES} "
                "are): capture a frame"
            )
        return held.frame

    def _open(self, engine: SpatialEngine, frame: RgbdFrame) -> FrameSession:
        """The session of a frame; under the model's lock."""
        if self._session is None or self._session[0] is not frame:
            self._session = None  # frees its memory first
            self._session = frame, engine.open(frame)
        return self._session[1]


def _loaded(options: LoadOptions, threads: int) -> Future[SpatialEngine]:
    """A model that is loaded in a thread."""
    engine: Future[SpatialEngine] = Future()

    def load() -> None:
        try:
            from sdvlm_core.engine import load_engine

            loaded = load_engine(options)
            loaded.use_threads(threads)
            engine.set_result(loaded)
        except BaseException as error:  # noqa: BLE001 - raised again by every `ask`
            _log.error("the model %s did not load: %s", shown(options.model), error)
            engine.set_exception(error)

    threading.Thread(target=load, name="load_model", daemon=True).start()
    return engine


def _go_on(on_text: OnText | None, closed: threading.Event, index: int = 0, text: str = "") -> None:
    """Report new text; QueryCanceled if the caller does not want more."""
    if closed.is_set() or (on_text is not None and not on_text(index, text)):
        raise QueryCanceled("canceled before the answer was complete")


def _answers(
    session: FrameSession,
    questions: Sequence[str | Asked],
    on_text: OnText | None,
    closed: threading.Event,
) -> list[SpatialAnswer | Exception]:
    from sdvlm_core.model.generation_options import GenerationOptions, Query

    options = GenerationOptions(cancel=closed)
    results: dict[int, SpatialAnswer | Exception] = {}
    with closing(session.progress([Query(one, options) for one in questions])) as events:
        for index, event in events:
            if isinstance(event, str):
                _go_on(on_text, closed, index, event)
            else:
                results[index] = event
    return [results[index] for index in range(len(questions))]


def _verified(
    session: FrameSession,
    answer: SpatialAnswer | Exception,
    regions: Sequence[Region],
    sensor: str,
    understood: Sequence[Asked],
    closed: threading.Event,
) -> dict[str, Any]:
    from sdvlm_core.verification import checked_document, verify

    if isinstance(answer, Exception):
        return _document(answer)
    answer, checks = verify(
        session,
        answer,
        regions,
        sensor,
        cancel=closed,
        others=understood,
        answer_by=AnswerBy.BOTH,
    )
    return checked_document(answer, checks)


def _document(answer: SpatialAnswer | Exception) -> dict[str, Any]:
    from sdvlm_core.verification import checked_document

    if isinstance(answer, Exception):
        return {"error": {"code": error_code(answer).name, "message": str(answer)}}
    return checked_document(answer, None)
