"""The header of a PNG or JPEG states the size that the decoder finds; other bytes are refused."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdvlm_core.camera.image_header import check_header, check_size, read_header
from sdvlm_core.camera.settings import DEFAULT_SETTINGS
from sdvlm_core.errors import DepthError, FrameError

SIDES = st.integers(1, 70)


def coded(suffix: str, height: int, width: int, dtype: Any = np.uint8, *options: int) -> bytes:
    pixels = np.full((height, width), 7, dtype)
    return cv2.imencode(suffix, pixels, options)[1].tobytes()


@given(SIDES, SIDES, st.sampled_from([np.uint8, np.uint16]))
def test_the_header_of_a_png_is_read(width: int, height: int, dtype: Any) -> None:
    header = read_header(coded(".png", height, width, dtype))
    assert header is not None
    assert (header.coding, header.width, header.height) == ("png", width, height)
    assert header.bits == 8 * np.dtype(dtype).itemsize


@given(SIDES, SIDES, st.booleans())
def test_the_header_of_a_jpeg_is_read(width: int, height: int, progressive: bool) -> None:
    options = (cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive))
    header = read_header(coded(".jpg", height, width, np.uint8, *options))
    assert header is not None
    assert (header.coding, header.width, header.height, header.bits) == ("jpeg", width, height, 8)


def test_the_metadata_of_a_jpeg_and_the_thumbnail_in_it_are_passed_over() -> None:
    thumbnail = coded(".jpg", 16, 16)
    segment = struct.pack(">HH", 0xFFE1, len(thumbnail) + 8) + b"Exif\0\0" + thumbnail
    jpeg = coded(".jpg", 48, 64)
    padded = jpeg[:2] + 3 * segment + b"\xff\xff" + jpeg[2:]
    header = read_header(padded)
    assert header is not None
    assert (header.width, header.height) == (64, 48)
    assert cv2.imdecode(np.frombuffer(padded, np.uint8), cv2.IMREAD_COLOR).shape == (48, 64, 3)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_header_that_is_cut_off_is_no_header(suffix: str) -> None:
    data = coded(suffix, 48, 64)
    complete = next(n for n in range(len(data)) if read_header(data[:n]) is not None)
    assert all(read_header(data[:n]) is None for n in range(complete))
    assert complete < 200


def test_a_jpeg_of_endless_segments_is_given_up() -> None:
    assert read_header(b"\xff\xd8" + b"\xff\xfe\0\2" * 250_000) is None
    assert read_header(b"\xff\xd8" + b"\xff" * 1_000_000) is None
    assert read_header(b"\xff\xd8" + b"\xff\xfe\0\0" * 1000) is None


STARTS = (b"", b"\xff\xd8", b"\xff\xd8\xff\xc0\0\x11", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")


@given(st.sampled_from(STARTS), st.binary(max_size=300))
def test_random_bytes_give_a_size_within_the_limits_or_the_refusal(
    start: bytes, data: bytes
) -> None:
    try:
        header = check_header(start + data, DEFAULT_SETTINGS, "it", DepthError)
    except DepthError:
        return
    assert 0 < header.width * header.height <= DEFAULT_SETTINGS.max_pixels


@pytest.mark.parametrize(
    ("size", "text"),
    [
        ((0, 5), "it is empty: 0x5 pixels"),
        ((7000, 7000), "7000x7000 = 49000000 pixels; at most 40000000 are accepted"),
        ((1, 9), "1x9; a ratio of its sides up to 8 is accepted (parameter max_aspect)"),
        ((2**32 - 1, 2**32 - 1), "(parameter max_pixels)"),
    ],
)
def test_a_size_beyond_the_limits_is_refused_with_value_limit_and_parameter(
    size: tuple[int, int], text: str
) -> None:
    with pytest.raises(FrameError) as caught:
        check_size(*size, DEFAULT_SETTINGS, "it", FrameError)
    assert text in str(caught.value)


def test_the_limits_are_settings() -> None:
    settings = replace(DEFAULT_SETTINGS, max_pixels=10, max_aspect=2.5)
    check_size(5, 2, settings, "it", FrameError)
    for size in ((6, 2), (4, 1)):
        with pytest.raises(FrameError):
            check_size(*size, settings, "it", FrameError)


def test_more_bytes_than_an_image_of_its_size_can_have_are_refused() -> None:
    data = coded(".png", 48, 64)
    check_header(data + bytes(1_000_000), DEFAULT_SETTINGS, "it", FrameError)
    with pytest.raises(FrameError, match=r"it has 50\d* bytes; an image of 64x48 has at most"):
        check_header(data + bytes(50_000_000), DEFAULT_SETTINGS, "it", FrameError)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_short_message_that_states_many_pixels_is_refused_with_both_numbers(suffix: str) -> None:
    data = coded(suffix, 5000, 8000)
    with pytest.raises(FrameError, match=f"40000000 pixels in {len(data)} bytes"):
        check_header(data, DEFAULT_SETTINGS, "colour", FrameError)


def test_a_full_hd_image_of_one_colour_is_accepted() -> None:
    header = check_header(coded(".png", 1080, 1920), DEFAULT_SETTINGS, "colour", FrameError)
    assert (header.width, header.height) == (1920, 1080)
