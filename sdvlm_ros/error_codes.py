"""Refusals -> the error codes of srv/SpatialQuery, in one table.

Knows the types, not the circumstances: the text of the exception is what the caller reads.
"""

from __future__ import annotations

from sdvlm.srv import SpatialQuery
from sdvlm_core import errors
from sdvlm_ros.frame_buffer import NoImageError, StaleImageError
from sdvlm_ros.worker import QueueFullError

_CODE = SpatialQuery.Response


class ModelNotReadyError(errors.SdvlmError):
    """The node is not active, or its model did not load."""


class TransformError(errors.SdvlmError):
    """There is no transform to the target frame at the image's stamp."""


# A subclass comes before what it is a kind of: the first match is taken.
_CODES: tuple[tuple[type[Exception], int], ...] = (
    (StaleImageError, _CODE.STALE_IMAGE),
    (NoImageError, _CODE.NO_IMAGE),
    (errors.DepthError, _CODE.BAD_DEPTH),
    (errors.IntrinsicsError, _CODE.BAD_CAMERA_INFO),
    (errors.FrameError, _CODE.NO_IMAGE),
    (errors.QueryError, _CODE.INVALID_QUERY),
    (errors.QueryTimeout, _CODE.TIMEOUT),
    (errors.QueryCanceled, _CODE.CANCELED),
    (errors.ModelMemoryError, _CODE.OUT_OF_MEMORY),
    (errors.CheckpointError, _CODE.MODEL_NOT_READY),
    (ModelNotReadyError, _CODE.MODEL_NOT_READY),
    (TransformError, _CODE.TF_ERROR),
    (QueueFullError, _CODE.QUEUE_FULL),
)

NAMES: dict[int, str] = {
    getattr(_CODE, name): name
    for name in (
        "NONE",
        "UNKNOWN",
        "NO_IMAGE",
        "STALE_IMAGE",
        "BAD_DEPTH",
        "BAD_CAMERA_INFO",
        "INVALID_QUERY",
        "MODEL_NOT_READY",
        "OUT_OF_MEMORY",
        "TIMEOUT",
        "TF_ERROR",
        "CANCELED",
        "QUEUE_FULL",
    )
}


def error_code(error: Exception) -> int:
    """The code for an exception; UNKNOWN for what nobody foresaw."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return int(_CODE.UNKNOWN)
