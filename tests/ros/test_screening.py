"""What is too large is refused by its header: it takes no memory; its requests get the reason."""

from __future__ import annotations

import numpy as np
import pytest
from geometry_msgs.msg import Pose, PoseArray
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from sdvlm_core.camera.pairing import Input
from sdvlm_core.camera.settings import CameraSettings
from sdvlm_core.errors import DepthError, FrameError, IntrinsicsError
from sdvlm_ros import frame_buffer
from sdvlm_ros.conversions import image_message, time_message
from sdvlm_ros.frame_buffer import FrameBuffer
from sdvlm_ros.screening import MAX_DETECTION_BYTES, MAX_INFO_BYTES, detections_reason, refusal

SETTINGS = CameraSettings(max_pixels=10_000, max_aspect=8.0)


def serialized(width: int, height: int, frame_id: str = "optical") -> bytes:
    """An image that says its size, and has no data."""
    message = Image(width=width, height=height, encoding="rgb8")
    message.header.frame_id, message.header.stamp = frame_id, time_message(5)
    return serialize_message(message)


@pytest.mark.parametrize("frame_id", ["", "a", "ab", "abc", "abcd", "camera_color_optical_frame"])
@pytest.mark.parametrize(
    ("size", "text"),
    [
        ((30_000, 1), "30000x1 is refused: 30000 pixels, at most 10000"),
        ((14_000, 14_000), "14000x14000"),
        ((2**31, 2**31), "max_pixels"),
        ((90, 10), "factor of 9, at most 8"),
        ((10, 90), "max_aspect"),
        ((100, 100), ""),
        ((80, 10), ""),
        ((0, 10), ""),
    ],
)
def test_a_raw_image_is_refused_by_the_size_in_its_header(
    size: tuple[int, int], text: str, frame_id: str
) -> None:
    data = serialized(*size, frame_id)
    found = refusal(Input.COLOR, data, SETTINGS, raw_image=True)
    assert (found is None) == (not text)
    assert text in str(found or "")


def test_each_input_is_refused_with_its_own_error() -> None:
    wide = serialized(30_000, 1)
    assert isinstance(refusal(Input.DEPTH, wide, SETTINGS, raw_image=True), DepthError)
    info = serialize_message(CameraInfo(d=[0.0] * MAX_INFO_BYTES))
    assert isinstance(refusal(Input.INFO, info, SETTINGS, raw_image=False), IntrinsicsError)


def test_a_long_frame_id_is_refused_and_clipped_in_the_text() -> None:
    data = serialized(8, 8, "x\n" * 10_000)
    text = str(refusal(Input.COLOR, data, SETTINGS, raw_image=True))
    assert "20000 bytes" in text
    assert len(text) < 200
    assert text.isprintable()


def test_the_size_of_a_compressed_image_is_not_in_its_header() -> None:
    data = serialize_message(CompressedImage(format="png", data=b"x" * 1000))
    assert refusal(Input.COLOR, data, SETTINGS, raw_image=False) is None


@given(st.binary(max_size=100))
def test_any_bytes_are_accepted_or_refused(data: bytes) -> None:
    try:
        found = refusal(Input.COLOR, data, SETTINGS, raw_image=True)
    except FrameError:
        return
    assert found is None or isinstance(found, FrameError)


def test_a_refused_message_takes_no_memory_and_its_requests_get_the_reason() -> None:
    buffer = FrameBuffer(4, 30_000_000, lambda kind: "")
    refused = DepthError("depth: an image of 30000x1 is refused")
    for kind in Input:
        buffer.add(kind, 10**9, b"x" * 100, refused if kind is Input.DEPTH else None)
    for request in (buffer.newest, lambda: buffer.at(10**9)):
        with pytest.raises(DepthError, match="30000x1"):
            request()
    assert "30000x1" in buffer.problem(2.0)
    assert buffer.counters[Input.DEPTH].refused == 1


def test_rings_and_used_frames_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_buffer, "MAX_BYTES", 10_000)
    buffer = FrameBuffer(100, 30_000_000, lambda kind: "")
    for index in range(50):
        for kind in Input:
            buffer.add(kind, index * 10**9, bytes(900))
        buffer.newest()
    assert buffer.stored_bytes <= 4 * 10_000
    buffer.add(Input.COLOR, 50 * 10**9, bytes(20_000))  # larger than all: it is alone
    assert buffer.stored_bytes <= 20_000 + 3 * 10_000


def test_the_reported_size_equals_that_of_a_real_image() -> None:
    pixels = np.zeros((120, 100, 3), np.uint8)
    data = serialize_message(image_message(pixels, "rgb8", 1, "optical"))
    found = refusal(Input.COLOR, data, SETTINGS, raw_image=True)
    assert "100x120 is refused: 12000 pixels" in str(found)


@pytest.mark.parametrize("frame_id", ["", "a", "ab", "abc", "abcd", "camera_color_optical_frame"])
def test_an_array_is_refused_by_the_number_behind_its_header(frame_id: str) -> None:
    # As Detection2DArray: a header and a sequence.
    array = PoseArray(poses=[Pose()] * 5)
    array.header.frame_id = frame_id
    data = serialize_message(array)
    assert detections_reason(data, 5) == ""
    assert "5 detections in one message; at most 4" in detections_reason(data, 4)
    assert "bytes is refused" in detections_reason(data + bytes(5 * MAX_DETECTION_BYTES), 5)


@given(st.binary(max_size=60))
def test_any_bytes_get_a_reason_or_none(data: bytes) -> None:
    assert isinstance(detections_reason(data, 3), str)
