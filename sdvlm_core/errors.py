"""Every way the core refuses, as one small hierarchy.

Knows no ROS error codes (`sdvlm_ros.node` maps these types to them) and no exit statuses
(`sdvlm_core.cli.app` does). A message says what was wrong, with the numbers, and what to do.
"""


class SdvlmError(Exception):
    """Base of every refusal that sdvlm raises on purpose."""


class FrameError(SdvlmError):
    """A frame cannot be used: wrong shape, type, or sizes that do not belong together."""


class DepthError(FrameError):
    """The depth image is missing, has no usable reading, or an encoding we do not know."""


class IntrinsicsError(FrameError):
    """The camera intrinsics are missing, not finite, or belong to another image size."""


class QueryError(SdvlmError):
    """A question or region that cannot be asked: empty, too long, outside the image."""


class CheckpointError(SdvlmError):
    """A model that cannot be loaded: absent, incomplete, or not of a known layout."""


class DownloadError(CheckpointError):
    """A model that cannot be downloaded, or is not what was listed when it arrived."""


class ModelMemoryError(SdvlmError):
    """Memory ran out, on the model's device or for the image; the process goes on."""


class QueryTimeout(SdvlmError):
    """The deadline passed before the answer was complete."""


class QueryCanceled(SdvlmError):
    """The caller withdrew the question before the answer was complete."""
