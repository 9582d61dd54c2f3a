"""What drivers write into image messages: order of channels, units, quantisation, damage."""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdvlm_core.camera.decoding import color_from_message, depth_from_message
from sdvlm_core.camera.settings import DEFAULT_SETTINGS
from sdvlm_core.errors import DepthError, FrameError
from tests import bags
from tests.bags import START_NS

ORANGE = (230, 120, 20)  # red, green, blue


def color_of(form: str, stored: tuple[int, int, int], suffix: str = ".jpg") -> npt.NDArray[Any]:
    """The decoded colour of an image file that shows `stored` (red, green, blue)."""
    file = np.full((16, 16, 3), stored[::-1], np.uint8)  # OpenCV's order is blue first
    data = cv2.imencode(suffix, file)[1].tobytes()
    return color_from_message(bags.compressed(data, form, START_NS))[8, 8].astype(int)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "rgb16"])
def test_an_image_that_image_transport_converted_to_bgr8_is_an_ordinary_file(
    encoding: str, suffix: str
) -> None:
    coding = "jpeg" if suffix == ".jpg" else "png"
    for form in (f"{encoding}; {coding} compressed bgr8", f"{encoding};{coding} compressed bgr16"):
        assert np.abs(color_of(form, ORANGE, suffix) - ORANGE).max() <= 6


@pytest.mark.parametrize("form", ["jpeg", "jpg", "png", "JPEG"])
def test_an_image_without_a_stated_encoding_is_an_ordinary_file(form: str) -> None:
    assert np.abs(color_of(form, ORANGE) - ORANGE).max() <= 6


@pytest.mark.parametrize("form", ["rgb8; jpeg compressed ", "rgb8; jpeg compressed rgb8"])
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8"])
def test_an_image_that_was_not_converted_has_red_where_a_file_has_blue(
    form: str, encoding: str
) -> None:
    """The rule of image_transport's subscriber: the driver compressed its array as it was."""
    found = color_of(form.replace("rgb8;", f"{encoding};"), ORANGE[::-1])
    assert np.abs(found - ORANGE).max() <= 6


def test_a_grey_image_is_grey_in_either_form() -> None:
    for form in ("mono8; jpeg compressed ", "mono8; jpeg compressed mono8", "jpeg"):
        assert np.abs(color_of(form, (90, 90, 90)) - 90).max() <= 2


@pytest.mark.parametrize(
    "form",
    [
        "bayer_rggb8; jpeg compressed ",
        "yuv422; jpeg compressed ",
        "mono16; png compressed ",
        "8UC3; jpeg compressed ",
        "; jpeg compressed ",
    ],
)
def test_a_compressed_image_of_another_encoding_is_refused_by_name(form: str) -> None:
    with pytest.raises(FrameError, match=f"has encoding '{form.partition(';')[0]}'; supported are"):
        color_of(form, ORANGE)


def depth_message(form: str, header: bytes = b"") -> Any:
    png = cv2.imencode(".png", np.full((4, 5), 3000, np.uint16))[1].tobytes()
    return bags.compressed(header + png, form, START_NS)


@pytest.mark.parametrize("unit_m", [0.001, 0.0001, 0.00025])
def test_the_unit_applies_to_integer_depth_in_every_form(unit_m: float) -> None:
    settings = replace(DEFAULT_SETTINGS, depth_unit_m=unit_m)
    raw = bags.image(np.full((4, 5), 3000, np.uint16), "16UC1", START_NS)
    header = struct.pack("<iff", 0, 0.0, 0.0)
    for message in (
        raw,
        depth_message("16UC1; compressedDepth png", header),
        depth_message("16UC1; compressedDepth", header),
        depth_message("16UC1; png compressed "),
    ):
        np.testing.assert_allclose(depth_from_message(message, settings), 3000 * unit_m, rtol=1e-6)
    metres = bags.image(np.full((4, 5), 1.5, np.float32), "32FC1", START_NS)
    assert (depth_from_message(metres, settings) == 1.5).all()


@pytest.mark.parametrize(
    ("a", "b"), [(0.0, 0.0), (0.0, 5.0), (-1.0, 0.0), (np.nan, 1.0), (np.inf, 1.0), (5.0, np.nan)]
)
def test_quantisation_parameters_without_meaning_are_named(a: float, b: float) -> None:
    message = depth_message("32FC1; compressedDepth png", struct.pack("<iff", 0, a, b))
    with pytest.raises(DepthError, match=f"quantisation parameters A = {a:g} and B = {b:g}"):
        depth_from_message(message)


def test_a_wrong_step_names_its_image() -> None:
    color = replace(bags.image(bags.picture(0), "rgb8", START_NS), step=100)
    with pytest.raises(FrameError, match=r"the colour image \(64x48 rgb8\) has a step of 100 byt"):
        color_from_message(color)
    depth = replace(bags.image(bags.millimetres(0), "16UC1", START_NS), step=0)
    with pytest.raises(DepthError, match=r"the depth image \(64x48 16UC1\) has a step of 0 bytes"):
        depth_from_message(depth)


def test_a_long_name_from_a_peer_is_clipped_and_escaped() -> None:
    for message in (
        replace(bags.image(bags.picture(0), "rgb8", START_NS), encoding="x\n" * 100_000),
        bags.compressed(b"0" * 99, "x\n" * 100_000, START_NS),
    ):
        for decode in (color_from_message, depth_from_message):
            with pytest.raises(FrameError) as caught:
                decode(message)
            assert len(str(caught.value)) < 500
            assert "\n" not in str(caught.value)


FORMS = st.sampled_from(
    [
        "jpeg",
        "png",
        "rgb8; jpeg compressed ",
        "16UC1; compressedDepth png",
        "32FC1; compressedDepth",
    ]
)
PNG = cv2.imencode(".png", np.full((4, 5), 3000, np.uint16))[1].tobytes()
JPEG = cv2.imencode(".jpg", np.full((8, 8, 3), 9, np.uint8))[1].tobytes()


@given(FORMS, st.sampled_from([PNG, JPEG, bytes(12) + PNG]), st.data())
def test_a_damaged_image_is_decoded_or_refused(
    form: str, whole: bytes, data: st.DataObject
) -> None:
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    message = bags.compressed(bytes(damaged), form, START_NS)
    for decode in (color_from_message, depth_from_message):
        with suppress(FrameError):
            decode(message)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["rgb8", "bgra8", "16UC1", "32FC1"]),
    st.binary(max_size=64),
)
def test_fields_that_contradict_each_other_are_refused(
    width: int, height: int, step: int, encoding: str, data: bytes
) -> None:
    pixels = np.frombuffer(data, np.uint8)
    message = replace(
        bags.image(bags.picture(0), encoding, START_NS),
        width=width,
        height=height,
        step=step,
        data=pixels,
    )
    decode = color_from_message if encoding in ("rgb8", "bgra8") else depth_from_message
    with suppress(FrameError):
        assert decode(message).size <= 64
