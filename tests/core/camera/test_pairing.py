"""Messages are paired by the nearest header stamp within the slop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdvlm_core.camera.pairing import (
    PARTNER_ERRORS,
    Input,
    StampedMessage,
    missing_partner,
    nearest,
    partner,
)
from sdvlm_core.errors import ErrorCode, error_code

SLOP_NS = 30_000_000


def at(*stamps_ns: int) -> list[StampedMessage]:
    return [StampedMessage(stamp_ns, f"{n}".encode()) for n, stamp_ns in enumerate(stamps_ns)]


@given(st.lists(st.integers(0, 10**9), max_size=20), st.integers(0, 10**9))
def test_no_message_is_nearer_than_the_nearest(stamps_ns: list[int], stamp_ns: int) -> None:
    found = nearest(at(*stamps_ns), stamp_ns, SLOP_NS)
    offsets_ns = [abs(other - stamp_ns) for other in stamps_ns]
    if found is None:
        assert all(offset > SLOP_NS for offset in offsets_ns)
    else:
        assert abs(found.stamp_ns - stamp_ns) == min(offsets_ns) <= SLOP_NS


def test_a_message_at_the_edge_of_the_slop_is_accepted() -> None:
    assert nearest(at(SLOP_NS), 0, SLOP_NS) is not None
    assert nearest(at(SLOP_NS + 1), 0, SLOP_NS) is None


def test_the_newer_of_two_messages_with_equal_stamps_is_used() -> None:
    found = nearest(at(5, 5), 5, SLOP_NS)
    assert found is not None
    assert found.data == b"1"


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=20), st.integers(0, 10**9))
def test_every_image_has_a_camera_info_once_one_has_arrived(
    stamps_ns: list[int], stamp_ns: int
) -> None:
    messages = at(*stamps_ns)
    found = partner(Input.INFO, messages, stamp_ns, SLOP_NS)
    assert found is nearest(messages, stamp_ns, 10**9)
    close = nearest(messages, stamp_ns, SLOP_NS)
    assert partner(Input.DEPTH, messages, stamp_ns, SLOP_NS) is close


def test_without_any_camera_info_no_image_has_one() -> None:
    assert partner(Input.INFO, at(), 5, SLOP_NS) is None


BOOT_NS = 1_700_000_000 * 10**9


@pytest.mark.parametrize(("offset_s", "side"), [(-78_643_199, "before"), (78_643_199, "after")])
def test_depth_stamped_by_another_clock_is_reported_with_the_difference(
    offset_s: int, side: str
) -> None:
    depth = at(BOOT_NS + offset_s * 10**9)
    text = missing_partner(Input.DEPTH, depth, BOOT_NS, SLOP_NS, "--sync-slop")
    assert "the clocks differ: the nearest stamp of depth is 78643199 s " + side in text


@pytest.mark.parametrize(
    ("stamps_ns", "reason"),
    [
        ((), "none arrived"),
        ((0, 400_000_000), "the nearest is 0.100 s away"),
        ((540_000_000,), "the nearest is 0.040 s away"),
    ],
)
def test_a_missing_message_is_reported_with_slop_option_and_distance(
    stamps_ns: tuple[int, ...], reason: str
) -> None:
    text = missing_partner(Input.DEPTH, at(*stamps_ns), 500_000_000, SLOP_NS, "--sync-slop")
    assert text == f"no depth within 0.03 s (--sync-slop) of the colour image: {reason}"


def test_each_missing_input_has_a_different_error_code() -> None:
    codes = [error_code(error("")) for error in PARTNER_ERRORS.values()]
    assert codes == [ErrorCode.BAD_DEPTH, ErrorCode.BAD_CAMERA_INFO]
