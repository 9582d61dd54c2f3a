"""FrameBuffer with a simulated clock: pairing, counting, error messages, staleness."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdvlm_core.camera.pairing import Input
from sdvlm_core.errors import DepthError, IntrinsicsError, StaleFrameError
from sdvlm_ros.frame_buffer import (
    USED_FRAMES,
    BufferedMessage,
    ClockState,
    FrameBuffer,
    NoImageError,
    RawFrame,
    check_age,
)

MS = 1_000_000


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def buffer(clock: Clock) -> FrameBuffer:
    return FrameBuffer(4, 30 * MS, lambda kind: f"offer of {kind.value}", clock=clock)


def add(buffer: FrameBuffer, stamp_ms: int, *kinds: Input) -> None:
    for kind in kinds or Input:
        buffer.add(kind, stamp_ms * MS, b"%d" % stamp_ms)


def stamps_ms(frame: RawFrame) -> tuple[int, ...]:
    return tuple(part.stamp_ns // MS for part in (frame.color, frame.depth, frame.info))


def test_the_newest_complete_frame_is_found(buffer: FrameBuffer) -> None:
    add(buffer, 0)
    add(buffer, 33)
    assert stamps_ms(buffer.newest()) == (33, 33, 33)


def test_a_colour_image_waits_for_its_own_depth(buffer: FrameBuffer) -> None:
    # 20 ms is within the slop, but the older image has a depth with an equal stamp.
    add(buffer, 0)
    add(buffer, 20, Input.COLOR, Input.INFO)
    assert stamps_ms(buffer.newest()) == (0, 0, 0)
    add(buffer, 20, Input.DEPTH)
    assert stamps_ms(buffer.newest()) == (20, 20, 20)


def test_stamps_that_differ_within_the_slop_pair_with_the_nearest(buffer: FrameBuffer) -> None:
    for stamp in (80, 105, 140):
        add(buffer, stamp, Input.DEPTH)
    add(buffer, 100, Input.COLOR, Input.INFO)
    assert stamps_ms(buffer.newest()) == (100, 105, 100)


def test_after_a_jump_back_in_time_the_newest_is_the_last_that_arrived(
    buffer: FrameBuffer,
) -> None:
    add(buffer, 5000)
    add(buffer, 10)
    assert stamps_ms(buffer.newest()) == (10, 10, 10)


def test_a_slow_depth_camera_pairs_with_an_older_colour_image(buffer: FrameBuffer) -> None:
    add(buffer, 0)
    add(buffer, 100, Input.COLOR, Input.INFO)
    assert stamps_ms(buffer.newest()) == (0, 0, 0)


def test_without_messages_the_error_lists_the_publishers_of_every_input(
    buffer: FrameBuffer,
) -> None:
    with pytest.raises(NoImageError) as refusal:
        buffer.newest()
    for kind in Input:
        assert f"{kind.value}: nothing has arrived; offer of {kind.value}" in str(refusal.value)


@pytest.mark.parametrize(
    ("absent", "error"), [(Input.DEPTH, DepthError), (Input.INFO, IntrinsicsError)]
)
def test_a_missing_input_is_named_with_the_rate_of_the_others(
    buffer: FrameBuffer, clock: Clock, absent: Input, error: type[Exception]
) -> None:
    for tick in range(3):
        clock.now = 100.0 + tick * 0.1
        add(buffer, tick * 100, *(kind for kind in Input if kind is not absent))
    clock.now += 0.5
    with pytest.raises(error) as refusal:
        buffer.newest()
    assert f"no {absent.value} message" in str(refusal.value)
    assert "colour: 10.0 Hz until 0.50 s ago" in str(refusal.value)


def test_inputs_with_distant_stamps_are_reported_with_the_distance(buffer: FrameBuffer) -> None:
    add(buffer, 1000, Input.COLOR, Input.INFO)
    add(buffer, 1250, Input.DEPTH)
    with pytest.raises(DepthError, match=r"no depth within 0\.03 s .* nearest is 0\.250 s away"):
        buffer.newest()


def test_a_frame_is_found_by_its_stamp(buffer: FrameBuffer) -> None:
    for stamp in (0, 33, 66):
        add(buffer, stamp)
    assert stamps_ms(buffer.at(35 * MS)) == (33, 33, 33)
    with pytest.raises(NoImageError, match=r"stamp 0\.500; the buffer has 0\.000 to 0\.066"):
        buffer.at(500 * MS)


def test_a_held_frame_is_kept_after_it_leaves_the_ring_buffer(buffer: FrameBuffer) -> None:
    add(buffer, 7)
    held = buffer.newest()
    buffer.hold(held)
    for stamp in range(1000, 2000, 100):
        add(buffer, stamp)
    assert buffer.at(7 * MS) is held
    assert stamps_ms(buffer.newest()) == (1900, 1900, 1900)


def test_the_frames_used_last_are_kept_after_they_leave_the_ring_buffer(
    buffer: FrameBuffer,
) -> None:
    used = []
    for stamp in range(USED_FRAMES + 1):
        add(buffer, 1000 + stamp * 100)
        used.append(buffer.newest())
    for stamp in range(5000, 6000, 100):
        add(buffer, stamp)
    assert all(buffer.at(frame.color.stamp_ns) is frame for frame in used[1:])
    with pytest.raises(NoImageError):
        buffer.at(used[0].color.stamp_ns)
    # The frame was used again, so it is not the next one to be removed.
    buffer.at(used[1].color.stamp_ns)
    buffer.newest()
    assert buffer.at(used[1].color.stamp_ns) is used[1]


def test_the_stamp_of_a_used_frame_returns_that_frame(buffer: FrameBuffer) -> None:
    add(buffer, 1000)
    used = buffer.newest()
    for stamp in range(1016, 1200, 16):  # 60 Hz
        add(buffer, stamp)
    assert buffer.at(1000 * MS) is used
    add(buffer, 1000, Input.DEPTH)  # a newer depth must not replace the depth of the used frame
    assert buffer.at(1000 * MS) is used


def test_a_stamp_between_two_images_returns_the_nearest_image_with_its_stamp(
    buffer: FrameBuffer,
) -> None:
    add(buffer, 1000)
    buffer.hold(buffer.newest())
    add(buffer, 1016)
    assert stamps_ms(buffer.at(1015 * MS)) == (1016, 1016, 1016)


def test_a_frame_from_before_a_bag_restart_is_not_returned_for_a_new_stamp(
    buffer: FrameBuffer,
) -> None:
    add(buffer, 1000)
    before = buffer.newest()
    add(buffer, 0)
    add(buffer, 1000)
    again = buffer.at(1000 * MS)
    assert again is not before
    assert again.color is not before.color


def test_a_held_frame_ends_with_a_restart_of_the_stamps(buffer: FrameBuffer) -> None:
    add(buffer, 1000)
    buffer.hold(before := buffer.newest())
    add(buffer, 0)
    add(buffer, 1000)
    assert buffer.find(1000 * MS).color is not before.color


def test_an_image_whose_own_depth_has_not_arrived_is_not_given_the_one_before(
    buffer: FrameBuffer,
) -> None:
    for stamp in (0, 16, 32):
        add(buffer, stamp)
    add(buffer, 48, Input.COLOR, Input.INFO)
    with pytest.raises(DepthError, match=r"has not arrived; the newest is 0\.016 s older"):
        buffer.find(48 * MS)
    add(buffer, 64)  # its depth was lost: the nearest within the slop is taken
    assert stamps_ms(buffer.find(48 * MS)) == (48, 64, 48)


def test_depth_with_a_constant_offset_is_paired_at_once(buffer: FrameBuffer) -> None:
    for stamp in (0, 33, 66):
        add(buffer, stamp, Input.DEPTH)
        add(buffer, stamp + 12, Input.COLOR, Input.INFO)
        assert stamps_ms(buffer.find((stamp + 12) * MS))[1] == stamp


def test_a_frame_without_a_stamp_cannot_be_held(buffer: FrameBuffer) -> None:
    add(buffer, 0)
    with pytest.raises(StaleFrameError, match=r"header\.stamp is 0 cannot be held"):
        buffer.hold(buffer.newest())


def test_received_and_paired_are_counted_for_each_input(buffer: FrameBuffer) -> None:
    for stamp in range(10):
        add(buffer, stamp * 100)
    add(buffer, 1000, Input.COLOR)
    buffer.newest()
    assert buffer.counters[Input.COLOR].received == 11
    assert buffer.counters[Input.DEPTH].received == 10
    assert {counters.paired for counters in buffer.counters.values()} == {1}


def test_unpaired_colour_images_are_counted_once_each(
    buffer: FrameBuffer,
) -> None:
    for stamp in range(10):
        add(buffer, stamp * 100)
    assert buffer.unpaired == 0
    for stamp in range(10, 20):
        add(buffer, stamp * 100, Input.COLOR, Input.INFO)
    # The last two images of a ring of four may still receive depth and info.
    assert buffer.unpaired == 8


def test_the_problem_is_empty_while_frames_arrive_and_does_not_count_as_use(
    buffer: FrameBuffer, clock: Clock
) -> None:
    assert "no colour message" in buffer.problem(2.0)
    add(buffer, 0)
    assert buffer.problem(2.0) == ""
    assert buffer.counters[Input.COLOR].paired == 0
    clock.now += 0.5
    add(buffer, 500, Input.DEPTH)
    clock.now += 3.0
    add(buffer, 500, Input.COLOR, Input.INFO)
    stopped = "has the driver stopped? depth: 2.0 Hz until 3.00 s ago; offer of depth"
    assert buffer.problem(2.0) == stopped


@given(
    st.lists(st.tuples(st.sampled_from(Input), st.integers(0, 200)), max_size=60),
    st.integers(0, 40),
)
def test_whatever_arrives_a_frame_is_within_the_slop_or_refused(
    arrivals: list[tuple[Input, int]], slop_ms: int
) -> None:
    buffer = FrameBuffer(4, slop_ms * MS, lambda kind: "", clock=Clock())
    for kind, stamp in arrivals:
        buffer.add(kind, stamp * MS, b"")
    try:
        color, depth, _ = stamps_ms(buffer.newest())
    except (NoImageError, DepthError, IntrinsicsError):
        return
    assert abs(depth - color) <= slop_ms


def frame_at(stamp_ns: int) -> RawFrame:
    part = BufferedMessage(stamp_ns, b"", 0.0)
    return RawFrame(part, part, part)


def test_an_image_of_exactly_max_age_is_taken() -> None:
    check_age(frame_at(10**9), ClockState(2 * 10**9), max_age_ns=10**9)


@pytest.mark.parametrize(
    ("stamp_s", "text"),
    [(0, r"header\.stamp is 0"), (90, r"10\.000 s old"), (200, r"100\.000 s in the future")],
)
def test_the_error_for_a_stale_image_has_its_age_and_the_usual_cause(
    stamp_s: int, text: str
) -> None:
    with pytest.raises(StaleFrameError, match=text):
        check_age(frame_at(stamp_s * 10**9), ClockState(100 * 10**9), max_age_ns=10**9)


def test_without_a_depth_input_a_frame_is_complete_without_depth(clock: Clock) -> None:
    inputs = (Input.COLOR, Input.INFO)
    buffer = FrameBuffer(4, 30 * MS, lambda kind: "", inputs, clock)
    add(buffer, 0, *inputs)
    assert buffer.newest().depth is None
    empty = FrameBuffer(4, 30 * MS, lambda kind: "", inputs, clock)
    add(empty, 100, Input.COLOR)
    with pytest.raises(IntrinsicsError, match=r"no camera_info message"):
        empty.at(100 * MS)


@pytest.mark.parametrize("info_stamp_ms", [0, 100_000], ids=["no stamp", "5 s old"])
def test_a_camera_info_without_a_stamp_or_latched_once_belongs_to_every_image(
    buffer: FrameBuffer, clock: Clock, info_stamp_ms: int
) -> None:
    add(buffer, info_stamp_ms, Input.INFO)
    clock.now += 5.0
    for stamp in (105_000, 105_033):
        add(buffer, stamp, Input.COLOR, Input.DEPTH)
    assert stamps_ms(buffer.newest()) == (105_033, 105_033, info_stamp_ms)
    assert stamps_ms(buffer.at(105_000 * MS)) == (105_000, 105_000, info_stamp_ms)
    assert buffer.problem(2.0) == "", "a camera_info may be published once"


def test_a_frame_that_is_only_found_does_not_replace_one_that_was_used(
    buffer: FrameBuffer,
) -> None:
    add(buffer, 0)
    buffer.at(0)
    for number in range(1, 10):
        add(buffer, 100 * number)
        assert stamps_ms(buffer.find(100 * number * MS)) == (100 * number,) * 3
    assert buffer.newest_stamp_ns == 900 * MS
    assert stamps_ms(buffer.at(0)) == (0, 0, 0)
