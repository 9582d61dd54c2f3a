"""Messages -> frames: units by encoding, rows by step, bytes by is_bigendian, or an error."""

from __future__ import annotations

import array
import math
import struct

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image

from sdvlm.msg import Asked
from sdvlm_core.answer import Asked as CoreAsked
from sdvlm_core.answer import (
    Measurement,
    Position,
    Quantity,
    Source,
    SpatialAnswer,
    Status,
    Timings,
    Verdict,
)
from sdvlm_core.camera.assembly import frame_from_messages
from sdvlm_core.camera.calibration import Projection, calibration_from_message
from sdvlm_core.camera.decoding import color_from_message, depth_from_message, serialized_stamp_ns
from sdvlm_core.camera.messages import nanoseconds
from sdvlm_core.errors import DepthError, FrameError, IntrinsicsError
from sdvlm_core.frame import CameraIntrinsics
from sdvlm_ros.conversions import (
    answer_message,
    camera_info_message,
    duration_message,
    image_message,
)

INTRINSICS = CameraIntrinsics(60.0, 61.0, 31.5, 23.5, 64, 48)
SIZES = st.tuples(st.integers(1, 8), st.integers(1, 8))


def padded(pixels: npt.NDArray, encoding: str, padding: int, big: bool) -> Image:
    """An image message with `padding` bytes at the end of each row, in either byte order."""
    height, width = pixels.shape[:2]
    stored = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<"))
    rows = np.frombuffer(stored.tobytes(), np.uint8).reshape(height, -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
    message = Image(height=height, width=width, encoding=encoding, is_bigendian=int(big))
    message.step = rows.shape[1]
    message.data = array.array("B", rows.tobytes())
    return message


@given(arrays.arrays(np.uint8, SIZES.map(lambda s: (*s, 3))), st.integers(0, 7), st.booleans())
def test_rgb8_survives_padding_and_either_byte_order(
    rgb: npt.NDArray[np.uint8], padding: int, big: bool
) -> None:
    np.testing.assert_array_equal(color_from_message(padded(rgb, "rgb8", padding, big)), rgb)


@given(arrays.arrays(np.uint8, SIZES.map(lambda s: (*s, 4))), st.integers(0, 7))
def test_every_colour_order_gives_red_first(rgba: npt.NDArray[np.uint8], padding: int) -> None:
    rgb = rgba[..., :3]
    for encoding, stored in {
        "bgr8": rgb[..., ::-1],
        "rgba8": rgba,
        "bgra8": rgba[..., [2, 1, 0, 3]],
    }.items():
        message = padded(np.ascontiguousarray(stored), encoding, padding, big=False)
        np.testing.assert_array_equal(color_from_message(message), rgb)


def test_mono8_becomes_three_equal_channels() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    rgb = color_from_message(image_message(grey, "mono8"))
    assert rgb.shape == (3, 4, 3)
    np.testing.assert_array_equal(rgb, np.repeat(grey[..., None], 3, axis=2))


def test_rgb8_is_a_view_into_the_message_and_not_a_copy() -> None:
    message = image_message(np.zeros((4, 5, 3), np.uint8), "rgb8")
    rgb = color_from_message(message)
    message.data[0] = 7
    assert rgb[0, 0, 0] == 7


@given(arrays.arrays(np.uint16, SIZES), st.integers(0, 7), st.booleans())
def test_16UC1_is_millimetres_and_zero_and_the_largest_value_are_no_reading(
    raw: npt.NDArray[np.uint16], padding: int, big: bool
) -> None:
    depth = depth_from_message(padded(raw, "16UC1", padding, big))
    assert depth.dtype == np.float32
    good = (raw > 0) & (raw < 65535)
    np.testing.assert_array_equal(np.isnan(depth), ~good)
    np.testing.assert_allclose(depth[good], raw[good] / 1000.0, rtol=1e-6)


@given(
    arrays.arrays(np.float32, SIZES, elements=st.floats(width=32)),
    st.integers(0, 7),
    st.booleans(),
)
def test_32FC1_is_metres_and_an_invalid_distance_is_no_reading(
    metres: npt.NDArray[np.float32], padding: int, big: bool
) -> None:
    depth = depth_from_message(padded(metres, "32FC1", padding, big))
    good = np.isfinite(metres) & (metres > 0) & (metres < 1e6)
    np.testing.assert_array_equal(depth[good], metres[good])
    assert np.isnan(depth[~good]).all()


@pytest.mark.parametrize("encoding", ["yuv422", "bayer_rggb8", "mono16", "8UC3", "", "RGB8"])
def test_colour_in_any_other_encoding_is_refused_by_name(encoding: str) -> None:
    message = image_message(np.zeros((4, 5, 3), np.uint8), encoding)
    with pytest.raises(FrameError, match=f"encoding '{encoding}'; supported are rgb8, bgr8"):
        color_from_message(message)


@pytest.mark.parametrize("encoding", ["mono16", "16SC1", "64FC1", "rgb8", ""])
def test_depth_in_any_other_encoding_is_refused_by_name(encoding: str) -> None:
    message = image_message(np.ones((4, 5), np.uint16), encoding)
    with pytest.raises(DepthError, match=f"encoding '{encoding}'; supported are 16UC1"):
        depth_from_message(message)


@given(st.integers(0, 4 * 5 * 2 - 1))
def test_truncated_data_is_refused_at_every_length(length: int) -> None:
    message = image_message(np.ones((4, 5), np.uint16), "16UC1")
    message.data = message.data[:length]
    with pytest.raises(DepthError, match=f"truncated: {length} bytes"):
        depth_from_message(message)


def test_a_step_shorter_than_a_row_is_refused() -> None:
    message = image_message(np.ones((4, 5, 3), np.uint8), "rgb8")
    message.step = 14
    with pytest.raises(FrameError, match="step of 14 bytes; a row needs at least 15"):
        color_from_message(message)


def test_an_empty_image_is_refused() -> None:
    with pytest.raises(FrameError, match="the colour image is empty: 0x0 pixels"):
        color_from_message(Image(encoding="rgb8"))


@pytest.mark.parametrize(("suffix", "tolerance"), [(".png", 0), (".jpg", 6)])
def test_compressed_colour_comes_out_red_first(suffix: str, tolerance: int) -> None:
    rgb = np.zeros((16, 16, 3), np.uint8)
    rgb[...] = (200, 100, 50)
    coded = cv2.imencode(suffix, rgb[..., ::-1])[1].tobytes()
    message = CompressedImage(format=f"rgb8; {suffix[1:]} compressed bgr8", data=coded)
    difference = color_from_message(message).astype(int) - rgb
    assert np.abs(difference).max() <= tolerance


def compressed_depth(pixels: npt.NDArray[np.uint16], encoding: str, a: float, b: float):
    png = cv2.imencode(".png", pixels)[1].tobytes()
    data = struct.pack("<iff", 0, a, b) + png
    return CompressedImage(format=f"{encoding}; compressedDepth png", data=data)


@given(arrays.arrays(np.uint16, SIZES))
def test_compressed_16UC1_depth_is_lossless(raw: npt.NDArray[np.uint16]) -> None:
    depth = depth_from_message(compressed_depth(raw, "16UC1", 0.0, 0.0))
    good = (raw > 0) & (raw < 65535)
    np.testing.assert_array_equal(np.isnan(depth), ~good)
    np.testing.assert_allclose(depth[good], raw[good] / 1000.0, rtol=1e-6)


def test_compressed_32FC1_depth_undoes_the_inverse_quantisation() -> None:
    # In the format of compressed_depth_image_transport: depth_quantization 100, depth_max 10.
    a = 100.0 * 101.0
    b = 1.0 - a / 10.0
    metres = np.array([[0.5, 1.0, 2.0, 8.0]])
    stored = np.append(a / metres + b, [[0.0]], axis=1).astype(np.uint16)
    depth = depth_from_message(compressed_depth(stored, "32FC1", a, b))
    np.testing.assert_allclose(depth[0, :4], metres[0], rtol=0.01)
    assert math.isnan(depth[0, 4])


@pytest.mark.parametrize(
    ("form", "data", "text"),
    [
        ("16UC1; jpeg compressed", b"\xff\xd8", "JPEG is lossy"),
        ("16UC1; compressedDepth rvl", b"0" * 99, "is not supported"),
        ("16UC1; compressedDepth png", b"0" * 12, "truncated"),
        ("16UC1; compressedDepth png", b"0" * 99, "truncated or has another format"),
        ("mono16; compressedDepth png", b"0" * 99, "is not supported"),
        (
            "32FC1; png compressed",
            cv2.imencode(".png", np.ones((2, 2), np.uint16))[1].tobytes(),
            "has no compressedDepth header",
        ),
    ],
)
def test_compressed_depth_that_cannot_be_decoded_is_refused(
    form: str, data: bytes, text: str
) -> None:
    with pytest.raises(DepthError, match=text):
        depth_from_message(CompressedImage(format=form, data=data))


@pytest.mark.parametrize("form", ["", "tiff", "h264", "16UC1; compressedDepth png"])
def test_compressed_colour_of_another_format_is_refused_by_name(form: str) -> None:
    with pytest.raises(FrameError, match=f"format '{form}'"):
        color_from_message(CompressedImage(format=form, data=b"0" * 99))


@given(st.binary(max_size=200))
def test_no_input_bytes_crash_the_decoders(data: bytes) -> None:
    with pytest.raises(FrameError):
        color_from_message(CompressedImage(format="jpeg", data=data))
    with pytest.raises(DepthError):
        depth_from_message(CompressedImage(format="16UC1; compressedDepth png", data=data))


def test_intrinsics_are_those_of_the_rectified_image_if_available() -> None:
    message = camera_info_message(INTRINSICS)
    assert calibration_from_message(message).intrinsics(Projection.RECTIFIED) == INTRINSICS
    message.k[0] = 99.0
    assert calibration_from_message(message).intrinsics(Projection.RECTIFIED).fx == 60.0
    message.p = [0.0] * 12
    assert calibration_from_message(message).intrinsics(Projection.RECTIFIED).fx == 99.0


def test_binning_and_region_of_interest_move_the_intrinsics() -> None:
    message = camera_info_message(INTRINSICS)
    message.binning_x = message.binning_y = 2
    message.roi.x_offset, message.roi.y_offset = 8, 4
    message.roi.width, message.roi.height = 32, 24
    intrinsics = calibration_from_message(message).intrinsics(Projection.RECTIFIED)
    assert (intrinsics.width, intrinsics.height) == (16, 12)
    assert (intrinsics.fx, intrinsics.fy) == (30.0, 30.5)
    assert (intrinsics.cx, intrinsics.cy) == (11.75, 9.75)


def test_an_uncalibrated_camera_is_refused() -> None:
    message = camera_info_message(INTRINSICS)
    message.k, message.p = [0.0] * 9, [0.0] * 12
    with pytest.raises(IntrinsicsError, match="not calibrated"):
        calibration_from_message(message).intrinsics(Projection.RECTIFIED)


def messages(depth: npt.NDArray, stamp_ns: int = 5):
    rgb = np.zeros((48, 64, 3), np.uint8)
    return (
        image_message(rgb, "rgb8", stamp_ns, "optical"),
        image_message(depth, "32FC1" if depth.dtype == np.float32 else "16UC1", stamp_ns),
        camera_info_message(INTRINSICS, stamp_ns),
    )


def test_a_frame_has_the_colour_images_stamp_and_frame() -> None:
    stamp_ns = 1_700_000_000_123_456_789
    frame = frame_from_messages(*messages(np.full((48, 64), 1500, np.uint16), stamp_ns))
    assert frame.stamp_ns == stamp_ns
    assert frame.frame_id == "optical"
    assert frame.depth_source == "sensor"
    assert float(frame.depth[0, 0]) == pytest.approx(1.5)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_depth_without_a_reading_is_refused(value: float) -> None:
    with pytest.raises(DepthError, match="all 3072 pixels"):
        frame_from_messages(*messages(np.full((48, 64), value, np.float32)))


def test_depth_of_another_size_is_refused_with_both_sizes() -> None:
    with pytest.raises(DepthError, match=r"depth is 32x24 but colour is 64x48"):
        frame_from_messages(*messages(np.ones((24, 32), np.float32)))


@given(st.integers(0, 2**31 - 1), st.integers(0, 10**9 - 1), st.text(max_size=20))
def test_the_stamp_is_read_from_serialized_bytes(sec: int, nanosec: int, frame_id: str) -> None:
    message = Image(encoding="rgb8")
    message.header.frame_id = frame_id.replace("\0", "")
    message.header.stamp.sec, message.header.stamp.nanosec = sec, nanosec
    assert serialized_stamp_ns(serialize_message(message)) == sec * 10**9 + nanosec


def test_bytes_too_short_for_a_header_are_refused() -> None:
    with pytest.raises(FrameError, match="11 bytes"):
        serialized_stamp_ns(b"\0\1" + b"\0" * 9)


@given(st.floats(0, 1e6))
def test_seconds_survive_a_duration_to_the_nanosecond(seconds: float) -> None:
    assert nanoseconds(duration_message(seconds)) == round(seconds * 1e9)


def test_an_answer_becomes_a_message_field_by_field() -> None:
    answer = SpatialAnswer(
        question="How tall?",
        text="12 cm",
        asked=CoreAsked(Quantity.HEIGHT, ("mug",), unit="cm"),
        why_none="it is a bound",
        chosen="mug",
        measurements=(
            Measurement(Quantity.HEIGHT, 0.12, 0.01, Source.LANGUAGE, ("mug",), "12 cm"),
        ),
        positions=(Position("mug", 0.1, 0.2, 1.3),),
        verdict=Verdict.HOLDS,
        status=Status.OK,
        confidence=0.5,
        model_id="tiny",
        depth_source="sensor",
        timings=Timings(queue=0.5, encode=1.25, prefill=0.25, decode=0.5, measure=0.0),
    )
    message = answer_message(answer, 3_000_000_004, "optical", "an id")
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (3, 4)
    assert (message.header.frame_id, message.id) == ("optical", "an id")
    measurement = message.measurements[0]
    assert (measurement.kind, measurement.value) == (Asked.HEIGHT, 0.12)
    assert (list(measurement.objects), measurement.text) == (["mug"], "12 cm")
    assert message.asked == Asked(quantity=Asked.HEIGHT, objects=["mug"], unit="cm")
    assert (message.why_none, message.chosen) == ("it is a bound", "mug")
    assert (message.positions[0].z, message.position_labels[0]) == (1.3, "mug")
    assert message.verdict == message.HOLDS
    assert nanoseconds(message.queue_time) == 500_000_000
    assert nanoseconds(message.encode_time) == 1_250_000_000
    assert nanoseconds(message.generate_time) == 750_000_000


def test_an_unknown_number_is_nan_in_the_message() -> None:
    answer = SpatialAnswer("q", "a", measurements=(Measurement(Quantity.DISTANCE, math.nan),))
    message = answer_message(answer, 0, "", "")
    assert math.isnan(message.measurements[0].value)
    assert math.isnan(message.measurements[0].std_dev)
    assert math.isnan(message.confidence)
