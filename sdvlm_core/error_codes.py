"""Refusals -> the error codes of srv/SpatialQuery, for answers that are written to files.

The numbers are those of srv/SpatialQuery, so a planner's table of codes serves both. Knows the
types, not the circumstances: the text of the exception is what people read.
"""

from __future__ import annotations

from enum import IntEnum

from sdvlm_core import errors


class ErrorCode(IntEnum):
    """Why there is no answer; the numbers are those of srv/SpatialQuery."""

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


class StaleFrameError(errors.FrameError):
    """The newest frame is older than the caller accepts, or does not say when it was taken."""


# A subclass comes before what it is a kind of: the first match is taken.
_CODES: tuple[tuple[type[Exception], ErrorCode], ...] = (
    (StaleFrameError, ErrorCode.STALE_IMAGE),
    (errors.DepthError, ErrorCode.BAD_DEPTH),
    (errors.IntrinsicsError, ErrorCode.BAD_CAMERA_INFO),
    (errors.FrameError, ErrorCode.NO_IMAGE),
    (errors.QueryError, ErrorCode.INVALID_QUERY),
    (errors.QueryTimeout, ErrorCode.TIMEOUT),
    (errors.QueryCanceled, ErrorCode.CANCELED),
    (errors.ModelMemoryError, ErrorCode.OUT_OF_MEMORY),
    (errors.CheckpointError, ErrorCode.MODEL_NOT_READY),
)


def error_code(error: Exception) -> ErrorCode:
    """The code for an exception; UNKNOWN for what nobody foresaw."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return ErrorCode.UNKNOWN
