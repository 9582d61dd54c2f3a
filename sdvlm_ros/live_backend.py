"""LiveBackend: a running node as a `front.backend.Backend`, for the page and the tools of agents.

Asks through `SpatialClient` and takes pictures from the node's own topics. The node decides which
frame is the newest and keeps it; a picture is of exactly the node's stamp. Does not know HTTP or
agents, and does not open a frame itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sdvlm.action import SpatialReasoning
from sdvlm.msg import Asked as AskedMsg
from sdvlm.msg import SpatialAnswer
from sdvlm_core.answer import Asked
from sdvlm_core.camera.messages import asked_message, nanoseconds
from sdvlm_core.errors import (
    DepthError,
    ErrorCode,
    FrameError,
    IntrinsicsError,
    ModelMemoryError,
    ModelNotReadyError,
    QueryCanceled,
    QueryError,
    QueryTimeout,
    QueueFullError,
    SdvlmError,
    StaleFrameError,
    TransformError,
    error_code,
)
from sdvlm_core.frame import Region, RgbdFrame
from sdvlm_core.front.backend import OnText, Origin, Shot, shot_of
from sdvlm_core.language.question import check_labels, parse
from sdvlm_ros.camera import named
from sdvlm_ros.camera_pictures import PATIENCE_S, CameraPictures
from sdvlm_ros.client import SpatialClient, SpatialQueryFailed
from sdvlm_ros.conversions import make_message
from sdvlm_ros.documents import answered_document, measured_document

#: How long `connect` waits for the node: a large model takes minutes to load, seconds.
READY_S = 300.0
#: Time limit of one call of `ask`, seconds, all questions together.
ASK_S = 300.0
#: Stamps whose frame_id is remembered; the node holds fewer frames.
_REMEMBERED = 64
_ERRORS: dict[int, type[SdvlmError]] = {
    ErrorCode.NO_IMAGE: FrameError,
    ErrorCode.STALE_IMAGE: StaleFrameError,
    ErrorCode.BAD_DEPTH: DepthError,
    ErrorCode.BAD_CAMERA_INFO: IntrinsicsError,
    ErrorCode.INVALID_QUERY: QueryError,
    ErrorCode.MODEL_NOT_READY: ModelNotReadyError,
    ErrorCode.OUT_OF_MEMORY: ModelMemoryError,
    ErrorCode.TIMEOUT: QueryTimeout,
    ErrorCode.TF_ERROR: TransformError,
    ErrorCode.CANCELED: QueryCanceled,
    ErrorCode.QUEUE_FULL: QueueFullError,
}


def connect(name: str = "/spatial_query", camera: str = "") -> LiveBackend:
    """Connect to a camera of a node that is running and active.

    Args:
        name: name of the node, with its namespace.
        camera: name of the camera; "" = the only one.

    Raises:
        QueryError: the node has no such camera, or several and `camera` is "".
        ModelNotReadyError, QueryTimeout: there is no such node, or it is not active within
            READY_S.
    """
    client = SpatialClient(full := f"/{name.strip('/')}")
    pictures = CameraPictures(full)
    try:
        with _node_errors():
            client.wait_for_node(READY_S)
        model, cameras = pictures.parameters("model", "cameras")
        pictures.camera = named(camera, cameras)
    except BaseException:
        client.close()
        pictures.close()
        raise
    shown_as = f"{full}, camera {pictures.camera}" if pictures.camera else full
    return LiveBackend(client, pictures, Origin("node", shown_as, model=model))


class LiveBackend:
    """A `front.backend.Backend` of one camera of a running node; made by `connect`.

    The node holds the frames: the last eight that were captured, asked about or measured, by
    anyone. Questions are asked one call after the other, because `cancel` ends all of a client's.
    """

    def __init__(self, client: SpatialClient, pictures: CameraPictures, origin: Origin) -> None:
        self._client, self._pictures, self._origin = client, pictures, origin
        self._camera = pictures.camera
        self._asking = threading.Lock()
        self._frames_lock = threading.Lock()
        self._frame_ids: dict[int, str] = {}

    @property
    def origin(self) -> Origin:
        """Where the frames come from."""
        return self._origin

    def capture(self, at_s: float | None = None) -> Shot:
        """As `Backend.capture`: the node holds its newest frame, and this is its picture.

        Raises:
            FrameError: the node has no frame, or the picture of its stamp did not arrive.
            QueryError: `at_s` is given: a live node has no other time.
        """
        if at_s is not None:
            raise QueryError("a live node has no other time than now; only a bag has times")
        self._pictures.start()
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with _node_errors():
                stamp_ns = self._client.capture(timeout=PATIENCE_S, camera=self._camera)
            frame = self._pictures.frame(stamp_ns, deadline)
            if frame is not None:
                self._remember(frame)
                return shot_of(frame)
            if time.monotonic() > deadline:
                break
        missing = self._pictures.missing()
        self._pictures.forget()  # the node may have other topics now
        raise FrameError(
            f"the picture of the captured frame (stamp {stamp_ns} ns) did not arrive within "
            f"{PATIENCE_S:g} s{': ' + missing if missing else ''}; a loaded machine or network "
            "loses images: let the node take compressed ones, or run this on the node's machine"
        )

    def measure(self, stamp_ns: int, regions: Sequence[Region]) -> dict[str, Any]:
        """As `Backend.measure`; positions are in the colour optical frame.

        Raises:
            FrameError: the frame is not held, or has no usable depth.
            QueryError: a region is a mask, or is refused by the node.
        """
        frame_id = self._frame_id(stamp_ns)
        with _node_errors():
            response = self._client.measure(
                _corners(regions),
                stamp_ns=stamp_ns,
                target_frame=frame_id,
                timeout=PATIENCE_S,
                camera=self._camera,
            )
        _check_stamp(response.header, stamp_ns)
        return measured_document(response)

    def ask(
        self,
        stamp_ns: int,
        questions: Sequence[str | Asked],
        regions: Sequence[Region] = (),
        verify: bool = False,
        on_text: OnText | None = None,
    ) -> list[dict[str, Any]]:
        """As `Backend.ask`, through ~/reason; the documents have no "checks".

        `on_text` is called in a thread of the client, also with an empty text.

        Raises:
            SdvlmError: of the node's error code; QueryCanceled after `on_text` returned False.
        """
        frame_id = self._frame_id(stamp_ns)
        if verify:
            understood = [parse(one) if isinstance(one, str) else one for one in questions]
            check_labels([one.label for one in regions], *understood)
        options: dict[str, Any] = {
            "verify": verify,
            "regions": _corners(regions) if verify else {},
            "stamp_ns": stamp_ns,
            "target_frame": frame_id,
            "timeout": ASK_S,
            "camera": self._camera,
        }
        found: dict[int, dict[str, Any]] = {}
        with self._asking:
            for kind in (str, Asked):  # a goal has questions of one kind
                indices = [i for i, one in enumerate(questions) if isinstance(one, kind)]
                if indices:
                    found |= self._ask_each(questions, indices, options, on_text)
        return [found[index] for index in range(len(questions))]

    def close(self) -> None:
        """Cancel what is being answered, and leave the ROS graph."""
        self._client.close()
        self._pictures.close()

    def _ask_each(
        self,
        questions: Sequence[str | Asked],
        indices: Sequence[int],
        options: dict[str, Any],
        on_text: OnText | None,
    ) -> dict[int, dict[str, Any]]:
        """The documents of some questions, together; or one by one if one of them is refused.

        A refusal comes before any text: what is asked again has not been streamed. A timeout is not
        asked again: it would take as long again for each question.
        """
        try:
            answers = self._reason([questions[i] for i in indices], indices, options, on_text)
        except QueryError as error:
            if len(indices) == 1:
                failed = {"error": {"code": error_code(error).name, "message": str(error)}}
                return {indices[0]: failed}
            found: dict[int, dict[str, Any]] = {}
            for index in indices:
                found |= self._ask_each(questions, [index], options, on_text)
            return found
        return {i: answered_document(one) for i, one in zip(indices, answers, strict=True)}

    def _reason(
        self,
        questions: Sequence[str | Asked],
        indices: Sequence[int],
        options: dict[str, Any],
        on_text: OnText | None,
    ) -> list[SpatialAnswer]:
        text = _Text(self._client, indices, on_text)
        with _node_errors():
            answers = self._client.reason(
                [_stated(one) for one in questions], on_feedback=text.take, **options
            )
        for place, answer in enumerate(answers):
            _check_stamp(answer.header, options["stamp_ns"])
            text.complete(place, answer.text)
        return answers

    def _remember(self, frame: RgbdFrame) -> None:
        with self._frames_lock:
            self._frame_ids.pop(frame.stamp_ns, None)
            self._frame_ids[frame.stamp_ns] = frame.frame_id
            while len(self._frame_ids) > _REMEMBERED:
                del self._frame_ids[next(iter(self._frame_ids))]

    def _frame_id(self, stamp_ns: int) -> str:
        with self._frames_lock:
            if stamp_ns in self._frame_ids:
                return self._frame_ids[stamp_ns]
        raise FrameError(f"no frame of stamp {stamp_ns} ns was captured here: capture a frame")


@dataclass(eq=False)
class _Text:
    """The text of one goal's answers, which feedback repeats from its beginning."""

    client: SpatialClient
    indices: Sequence[int]
    on_text: OnText | None
    _reported: dict[int, int] = field(default_factory=dict)

    def take(self, feedback: SpatialReasoning.Feedback) -> None:
        """Report what is new; called in the client's thread."""
        if not self.complete(feedback.question_index, feedback.partial_text):
            self.client.cancel()

    def complete(self, place: int, text: str) -> bool:
        """Report what is new of the text of a question, by its place in the goal."""
        if self.on_text is None:
            return True
        text = text.lstrip()  # as the answer's
        known = self._reported.get(place, 0)
        self._reported[place] = max(known, len(text))
        return self.on_text(self.indices[place], text[known:])


@contextmanager
def _node_errors() -> Iterator[None]:
    """Turn an error of the node into the core's error with the same code."""
    try:
        yield
    except SpatialQueryFailed as failed:
        _, _, text = str(failed).partition(": ")
        raise _ERRORS.get(failed.code, SdvlmError)(text) from failed


def _check_stamp(header: Any, stamp_ns: int) -> None:
    """Without the frame, the node takes the one nearest to the stamp."""
    if (used := nanoseconds(header.stamp)) != stamp_ns:
        raise FrameError(
            f"the node does not hold the frame of stamp {stamp_ns} ns any more (the nearest is "
            f"{used} ns): capture a frame"
        )


def _stated(question: str | Asked) -> str | AskedMsg:
    return question if isinstance(question, str) else asked_message(make_message, question)


def _corners(regions: Sequence[Region]) -> dict[str, tuple[float, ...]]:
    """The regions as the client takes them."""
    corners: dict[str, tuple[float, ...]] = {}
    for region in regions:
        found = region.box or region.point
        if found is None:
            raise QueryError(f"region {region.label!r} is a mask; give a box or a point")
        if region.label in corners:
            raise QueryError(f"the labels of regions must differ, got {region.label!r} twice")
        corners[region.label] = found
    return corners
