"""The fields of camera messages that sdvlm reads, as Protocols.

The classes of rclpy and those of `rosbags` both satisfy them. Does not know either library.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from sdvlm_core.camera.messages import TimeLike

#: The value of a uint8[] field.
ByteArray: TypeAlias = "bytes | bytearray | memoryview | array[int] | npt.NDArray[np.uint8]"


class HeaderLike(Protocol):
    """std_msgs/Header."""

    @property
    def stamp(self) -> TimeLike: ...
    @property
    def frame_id(self) -> str: ...


class ImageLike(Protocol):
    """sensor_msgs/Image."""

    @property
    def header(self) -> HeaderLike: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def encoding(self) -> str: ...
    @property
    def is_bigendian(self) -> int: ...
    @property
    def step(self) -> int: ...
    @property
    def data(self) -> ByteArray: ...


@runtime_checkable
class CompressedImageLike(Protocol):
    """sensor_msgs/CompressedImage; only it has a `format`."""

    @property
    def header(self) -> HeaderLike: ...
    @property
    def format(self) -> str: ...
    @property
    def data(self) -> ByteArray: ...


AnyImage: TypeAlias = ImageLike | CompressedImageLike


class RegionOfInterestLike(Protocol):
    """sensor_msgs/RegionOfInterest."""

    @property
    def x_offset(self) -> int: ...
    @property
    def y_offset(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...


class CameraInfoLike(Protocol):
    """sensor_msgs/CameraInfo; `k` and `r` have 9 values, `p` 12, `d` any number."""

    @property
    def header(self) -> HeaderLike: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def distortion_model(self) -> str: ...
    @property
    def d(self) -> Sequence[float] | npt.NDArray[np.float64]: ...
    @property
    def k(self) -> Sequence[float] | npt.NDArray[np.float64]: ...
    @property
    def r(self) -> Sequence[float] | npt.NDArray[np.float64]: ...
    @property
    def p(self) -> Sequence[float] | npt.NDArray[np.float64]: ...
    @property
    def binning_x(self) -> int: ...
    @property
    def binning_y(self) -> int: ...
    @property
    def roi(self) -> RegionOfInterestLike: ...


class RegionLike(Protocol):
    """sdvlm/Region."""

    @property
    def label(self) -> str: ...
    @property
    def roi(self) -> RegionOfInterestLike: ...
    @property
    def mask(self) -> ImageLike: ...
