"""Refusals -> the error codes of srv/SpatialQuery: those of the core, and what only a node meets.

Knows the types, not the circumstances: the text of the exception is what the caller reads.
"""

from __future__ import annotations

from sdvlm_core import error_codes, errors
from sdvlm_core.errors import ErrorCode, QueueFullError


class ModelNotReadyError(errors.SdvlmError):
    """The node is not active, or its model did not load."""


class TransformError(errors.SdvlmError):
    """There is no transform to the target frame at the image's stamp."""


_CODES: tuple[tuple[type[Exception], ErrorCode], ...] = (
    (ModelNotReadyError, ErrorCode.MODEL_NOT_READY),
    (TransformError, ErrorCode.TF_ERROR),
    (QueueFullError, ErrorCode.QUEUE_FULL),
)

NAMES = {int(code): code.name for code in ErrorCode}


def error_code(error: Exception) -> int:
    """The code for an exception; UNKNOWN for what nobody foresaw."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return int(code)
    return int(error_codes.error_code(error))
