"""The SdvlmError family, and the one table from an error to the code a planner receives.

An error message states what is wrong, the values, and what to do; text from outside is in it as
`shown`. The codes are those of srv/SpatialQuery. Does not know the exit statuses of commands
(`sdvlm_core.cli`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum


class SdvlmError(Exception):
    """Base class of all errors that sdvlm raises on purpose."""


class FrameError(SdvlmError):
    """A frame cannot be used: wrong shape, type, or sizes that do not match."""


class StaleFrameError(FrameError):
    """The newest frame is older than the caller accepts, or has no acquisition time."""


class DepthError(FrameError):
    """The depth image is missing, has no usable reading, or an unknown encoding."""


class IntrinsicsError(FrameError):
    """The camera intrinsics are missing, not finite, or for another image size."""


class QueryError(SdvlmError):
    """A question or region that cannot be asked: empty, too long, outside the image."""


class QueryTimeout(SdvlmError):
    """The deadline passed before the answer was complete."""


class QueryCanceled(SdvlmError):
    """The caller canceled the question before the answer was complete."""


class QueueFullError(SdvlmError):
    """More requests are waiting than the node accepts."""


class CheckpointError(SdvlmError):
    """A model that cannot be loaded: absent, incomplete, or of an unknown layout."""


class DownloadError(CheckpointError):
    """A model that cannot be downloaded, or whose files do not match the hub's listing."""


class ModelNotReadyError(SdvlmError):
    """The node is not active, or its model did not load."""


class ServerError(ModelNotReadyError):
    """The server of a served model is not there, refuses, or sends what is no answer."""


class ModelMemoryError(SdvlmError):
    """Out of memory, on the model's device or for the image; the process keeps running."""


class ModelOutputError(SdvlmError):
    """The model computed a value that is not finite: damaged weights, or its type overflows."""


class TransformError(SdvlmError):
    """There is no transform to the target frame at the image's stamp."""


class BagError(SdvlmError):
    """A bag that cannot be read, or whose topics are ambiguous."""


class ReplayError(SdvlmError):
    """A replay directory that cannot be written, read, or resumed."""


class ParameterError(SdvlmError):
    """A node parameter that does not exist, or a value it cannot have."""


class ErrorCode(IntEnum):
    """Why a question has no answer; the numbers are those of srv/SpatialQuery."""

    NONE = 0
    UNKNOWN = 9600
    NO_IMAGE = 9601
    STALE_IMAGE = 9602
    BAD_DEPTH = 9603
    BAD_CAMERA_INFO = 9604
    INVALID_QUERY = 9605
    MODEL_NOT_READY = 9606
    OUT_OF_MEMORY = 9607
    TIMEOUT = 9608
    TF_ERROR = 9609
    CANCELED = 9610
    QUEUE_FULL = 9611


# The first match counts, so a subclass comes before its base.
_CODES: tuple[tuple[type[Exception], ErrorCode], ...] = (
    (StaleFrameError, ErrorCode.STALE_IMAGE),
    (DepthError, ErrorCode.BAD_DEPTH),
    (IntrinsicsError, ErrorCode.BAD_CAMERA_INFO),
    (FrameError, ErrorCode.NO_IMAGE),
    (BagError, ErrorCode.NO_IMAGE),
    (QueryError, ErrorCode.INVALID_QUERY),
    (QueryTimeout, ErrorCode.TIMEOUT),
    (QueryCanceled, ErrorCode.CANCELED),
    (QueueFullError, ErrorCode.QUEUE_FULL),
    (ModelMemoryError, ErrorCode.OUT_OF_MEMORY),
    (CheckpointError, ErrorCode.MODEL_NOT_READY),
    (ModelNotReadyError, ErrorCode.MODEL_NOT_READY),
    (ModelOutputError, ErrorCode.MODEL_NOT_READY),
    (TransformError, ErrorCode.TF_ERROR),
)


def error_code(error: Exception) -> ErrorCode:
    """The code for an exception; UNKNOWN for an unforeseen one, which is a defect of sdvlm."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return ErrorCode.UNKNOWN


def shown(text: str, limit: int = 200) -> str:
    r"""Text from outside, safe for a log line, a diagnostic or a reply.

    Characters that are not printable (line breaks, terminal escapes, direction controls, lone
    surrogates) become escapes such as `\n`; a text longer than `limit` characters ends in "...".
    The work is bounded by `limit`, and `shown(shown(text)) == shown(text)`.
    """
    escaped = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:limit])
    if len(text) <= limit and len(escaped) <= limit:
        return escaped
    return escaped[: max(0, limit - 3)] + "..."


@contextmanager
def library_guard(refusal: type[SdvlmError], text: str) -> Iterator[None]:
    """Raise `refusal`, one line that begins with `text`, if a library fails in the block.

    For libraries that raise any exception on input from outside. A panic of a library written in
    Rust is a BaseException, which `except Exception` does not catch. An SdvlmError passes.
    """
    try:
        yield
    except SdvlmError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise  # an interrupt
        reason = shown(" ".join(str(error).split()), 400) or type(error).__name__
        raise refusal(f"{text}: {reason}") from error
