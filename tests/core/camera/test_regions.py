"""Region messages: shapes, and the limits on their number, labels and masks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from sdvlm_core.camera.regions import MAX_LABEL, MAX_REGIONS, regions_from_messages
from sdvlm_core.errors import QueryError
from tests import bags


def roi(x: int = 0, y: int = 0, width: int = 0, height: int = 0) -> Any:
    return bags.make(
        "sensor_msgs/msg/RegionOfInterest",
        x_offset=x,
        y_offset=y,
        height=height,
        width=width,
        do_rectify=False,
    )


def no_mask() -> Any:
    return replace(bags.image(np.zeros((1, 1), np.uint8), "", 0), data=np.zeros(0, np.uint8))


@dataclass(frozen=True)
class Message:
    """A sdvlm/Region message."""

    label: str = "mug"
    roi: Any = field(default_factory=roi)
    mask: Any = field(default_factory=no_mask)


def test_a_message_is_a_mask_a_box_or_a_point() -> None:
    mask = np.zeros((4, 5), np.uint8)
    mask[1, 2] = 9
    found = regions_from_messages(
        [
            Message("a", roi(3, 4, 10, 20)),
            Message("b", roi(3, 4)),
            Message("c", roi(3, 4, 1, 1), bags.image(mask, "mono8", 0)),
        ]
    )
    assert found[0].box == (3, 4, 13, 24)
    assert found[1].point == (3, 4)
    assert found[2].mask is not None
    assert np.argwhere(found[2].mask).tolist() == [[1, 2]]


def test_more_regions_than_the_limit_are_refused() -> None:
    messages = [Message(str(number)) for number in range(MAX_REGIONS + 1)]
    assert len(regions_from_messages(messages[:-1])) == MAX_REGIONS
    with pytest.raises(QueryError, match=r"65 regions in one request; at most 64 .*max_regions"):
        regions_from_messages(messages)
    with pytest.raises(QueryError, match="3 regions in one request; at most 2"):
        regions_from_messages(messages[:3], 2)


def test_a_long_or_repeated_label_is_refused_clipped_and_escaped() -> None:
    assert regions_from_messages([Message("x" * MAX_LABEL)])
    for messages, text in (
        ([Message("x\n" * 1_000_000)], "has 2000000 characters; at most 200"),
        ([Message("x\n"), Message("x\n")], r"must differ, got 'x\n' twice"),
    ):
        with pytest.raises(QueryError) as caught:
            regions_from_messages(messages)
        assert text in str(caught.value)
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"encoding": "rgb8\n"}, r"has encoding 'rgb8\n', not mono8"),
        ({"step": 3}, "the mask of region 'mug' (5x4 mono8) has a step of 3 bytes"),
        ({"width": 10_000, "height": 10_000}, "at most 40000000 are accepted"),
        ({"width": 40, "height": 4}, "a ratio of its sides up to 8"),
        ({"height": 8}, "truncated: 20 bytes of data"),
    ],
)
def test_a_mask_that_is_no_mask_is_refused_by_its_label(changes: dict[str, Any], text: str) -> None:
    mask = replace(bags.image(np.ones((4, 5), np.uint8), "mono8", 0), **changes)
    with pytest.raises(QueryError) as caught:
        regions_from_messages([Message(mask=mask)])
    assert text in str(caught.value)
    assert "region 'mug'" in str(caught.value)
