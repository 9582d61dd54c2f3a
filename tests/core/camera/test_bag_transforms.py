"""The direction against gravity from a bag's transforms, or an error that lists its frames."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdvlm_core.camera.bag_frames import CameraOptions, decode, frames, open_camera
from sdvlm_core.camera.bag_transforms import BagTransforms, gravity_hint, read_transforms
from sdvlm_core.camera.bags import open_bag
from sdvlm_core.cautions import Caution
from sdvlm_core.errors import BagError, TransformError
from tests import bags
from tests.bags import START_NS
from tests.replays import SLOP_NS

Quaternion = tuple[float, float, float, float]
NONE: Quaternion = (0.0, 0.0, 0.0, 1.0)
#: REP-103: the optical frame (z forward, y down) in a body frame (x forward, z up).
OPTICAL: Quaternion = (-0.5, 0.5, -0.5, 0.5)
TF = "tf2_msgs/msg/TFMessage"


def turn(axis: str, degrees: float) -> Quaternion:
    half = math.radians(degrees) / 2
    x, y, z = (math.sin(half) * (name == axis) for name in "xyz")
    return x, y, z, math.cos(half)


def edge(parent: str, child: str, rotation: Quaternion = NONE, stamp_ns: int = 0) -> Any:
    header = bags.header(stamp_ns)
    header.frame_id = parent
    x, y, z, w = rotation
    transform = bags.make(
        "geometry_msgs/msg/Transform",
        translation=bags.make("geometry_msgs/msg/Vector3", x=0.3, y=-0.2, z=1.0),
        rotation=bags.make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w),
    )
    kind = "geometry_msgs/msg/TransformStamped"
    return bags.make(kind, header=header, child_frame_id=child, transform=transform)


def record(*edges: Any, topic: str = "/tf_static", bag_ns: int = START_NS) -> bags.Record:
    return bags.record(topic, TF, bags.make(TF, transforms=[*edges]), bag_ns)


def transforms(path: Path, *records: bags.Record) -> BagTransforms:
    with open_bag(bags.write_bag(path, records)) as reader:
        return read_transforms(reader)


def test_a_camera_that_looks_forward_has_up_against_its_y_axis(tmp_path: Path) -> None:
    found = transforms(tmp_path / "bag", record(edge("base", "optical", OPTICAL)))
    np.testing.assert_allclose(found.up("optical", "base", 0), (0, -1, 0), atol=1e-12)


@pytest.mark.parametrize("degrees", [0.0, 30.0, 90.0, 180.0])
def test_the_tilt_of_a_mount_is_the_tilt_of_up(tmp_path: Path, degrees: float) -> None:
    """The camera looks down by `degrees`: the body turns about its y axis."""
    chain = [
        edge("/world", "/base_link"),
        edge("/base_link", "mount", turn("y", degrees)),
        edge("mount", "optical", OPTICAL),
    ]
    found = transforms(tmp_path / "bag", record(*chain))
    angle = math.radians(degrees)
    expected = (0, -math.cos(angle), -math.sin(angle))
    np.testing.assert_allclose(found.up("optical", "world", 0), expected, atol=1e-12)
    # The frame of gravity may be a side branch.
    side = transforms(
        tmp_path / "side", record(*chain), record(edge("base_link", "imu", turn("x", 180.0)))
    )
    np.testing.assert_allclose(side.up("/optical", "/imu", 0), -np.array(expected), atol=1e-12)


UNIT = (
    st.tuples(*[st.floats(-1, 1)] * 4)
    .filter(lambda q: math.hypot(*q) > 0.1)
    .map(lambda q: tuple(value / math.hypot(*q) for value in q))
)


@settings(max_examples=50, deadline=None)
@given(rotations=st.lists(UNIT, min_size=1, max_size=5))
def test_up_is_a_unit_vector_that_the_rotations_bring_back_to_z(
    tmp_path_factory: pytest.TempPathFactory, rotations: list[Quaternion]
) -> None:
    chain = [edge(f"f{n}", f"f{n + 1}", q) for n, q in enumerate(rotations)]
    found = transforms(tmp_path_factory.mktemp("bag") / "bag", record(*chain))
    vector = np.array(found.up(f"f{len(rotations)}", "f0", 0))
    assert np.linalg.norm(vector) == pytest.approx(1)
    for x, y, z, w in reversed(rotations):
        # v + 2 w (q x v) + 2 q x (q x v)
        q = np.array([x, y, z])
        vector = vector + 2 * w * np.cross(q, vector) + 2 * np.cross(q, np.cross(q, vector))
    np.testing.assert_allclose(vector, (0, 0, 1), atol=1e-9)


def moving(*samples: tuple[float, float]) -> list[bags.Record]:
    """/tf of a pan-tilt unit: (seconds after the start, degrees)."""
    return [
        record(edge("base", "head", turn("y", degrees), START_NS + round(s * 1e9)), topic="/tf")
        for s, degrees in samples
    ]


def test_a_moving_camera_is_interpolated_at_the_images_stamp(tmp_path: Path) -> None:
    static = record(edge("head", "optical", OPTICAL))
    found = transforms(tmp_path / "bag", static, *moving((1.0, 40.0), (0.0, 0.0), (1.0, 40.0)))
    for seconds, degrees in ((0.0, 0.0), (0.25, 10.0), (0.5, 20.0), (1.0, 40.0)):
        angle = math.radians(degrees)
        up = found.up("optical", "base", START_NS + round(seconds * 1e9))
        np.testing.assert_allclose(up, (0, -math.cos(angle), -math.sin(angle)), atol=1e-9)


@pytest.mark.parametrize("seconds", [-0.001, 1.001])
def test_a_moving_camera_is_never_extrapolated(tmp_path: Path, seconds: float) -> None:
    static = record(edge("head", "optical", OPTICAL))
    found = transforms(tmp_path / "bag", static, *moving((0.0, 0.0), (1.0, 40.0)))
    with pytest.raises(TransformError, match="'base' -> 'head' is recorded from"):
        found.up("optical", "base", START_NS + round(seconds * 1e9))


def test_a_moving_part_beside_the_chain_does_not_matter(tmp_path: Path) -> None:
    drive = record(edge("odom", "base", turn("z", 5.0), START_NS), topic="/tf")
    found = transforms(tmp_path / "bag", drive, record(edge("base", "optical", OPTICAL)))
    np.testing.assert_allclose(found.up("optical", "base", 0), (0, -1, 0), atol=1e-12)


@pytest.mark.parametrize(
    ("edges", "reason"),
    [
        ([edge("base", "optical")], "--gravity-frame 'map' is not a frame .* base, optical"),
        ([edge("map", "base")], "frame_id 'optical' is not a frame .* frames are base, map"),
        (
            [edge("map", "base"), edge("camera", "optical")],
            "do not connect 'optical' \\(under 'camera'\\) with 'map'",
        ),
        (
            [edge("map", "base"), edge("a", "optical"), edge("b", "a"), edge("a", "b")],
            "form a cycle: optical -> a -> b -> a",
        ),
        ([], "there are none; give the option --up x,y,z"),
    ],
)
def test_a_broken_chain_is_refused_with_the_frames(
    tmp_path: Path, edges: list[Any], reason: str
) -> None:
    found = transforms(tmp_path / "bag", record(*edges))
    with pytest.raises(BagError, match=reason):
        found.chains("optical", "map")
    with pytest.raises(TransformError, match=reason):
        found.up("optical", "map", 0)


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([record(edge("a", "b", (0.0, 0.0, 0.0, 0.0)))], "not of length 1"),
        ([record(edge("a", "b", (math.nan, 0.0, 0.0, 1.0)))], "not of length 1"),
        ([record(edge("a", "b", (1e300, 0.0, 0.0, 1.0)))], "not of length 1"),
        ([record(edge("a", "b"), edge("c", "b"))], "contradicts the earlier parent 'a'"),
        ([record(edge("a", "b"), edge("a", "b", turn("x", 1.0)))], "two values"),
        ([record(edge("a", "b")), record(edge("a", "b"), topic="/tf")], "/tf and on /tf_static"),
    ],
)
def test_transforms_that_contradict_are_refused(
    tmp_path: Path, records: list[bags.Record], reason: str
) -> None:
    with pytest.raises(BagError, match=reason):
        transforms(tmp_path / "bag", *records)


def test_a_static_transform_may_be_repeated(tmp_path: Path) -> None:
    x, y, z, w = OPTICAL
    same = [edge("base", "optical", q) for q in (OPTICAL, OPTICAL, (-x, -y, -z, -w))]
    found = transforms(tmp_path / "bag", *(record(one) for one in same))
    assert found.frames == ["base", "optical"]


def test_names_of_frames_are_escaped_and_bounded(tmp_path: Path) -> None:
    edges = [edge("map", f"frame_{n}\n\x1b[31m" + "x" * 500) for n in range(100)]
    found = transforms(tmp_path / "bag", record(*edges))
    with pytest.raises(BagError, match="and 81 more") as refused:
        found.chains("optical", "map")
    assert "\n" not in str(refused.value)
    assert "\x1b" not in str(refused.value)
    assert len(str(refused.value)) < 3000


def test_the_frames_of_a_bag_have_their_up(tmp_path: Path) -> None:
    """Recorded after the first images, as /tf_static of a late node is."""
    records = [*bags.frame(0), *bags.frame(1), record(edge("base_link", "optical", OPTICAL))]
    with open_bag(bags.write_bag(tmp_path / "bag", records)) as reader:
        camera = open_camera(reader, CameraOptions(gravity_frame="base_link"))
        ups = [decode(one, camera).up for one in frames(reader, camera.topics, SLOP_NS)]
        np.testing.assert_allclose(ups, [(0, -1, 0)] * 2, atol=1e-12)
        assert camera.describe()["gravity_frame"] == "base_link"
        with pytest.raises(BagError, match="'map' is not a frame"):
            open_camera(reader, CameraOptions(gravity_frame="map"))


def test_a_frame_whose_up_is_not_recorded_has_a_caution_with_the_reason(tmp_path: Path) -> None:
    """As in the node: the answer is kept, and carries the doubt."""
    static = record(edge("head", "optical", OPTICAL))
    # The images are at 0.0 and 0.1 s; /tf begins at 0.05 s.
    records = [*bags.frame(0), *bags.frame(1), static, *moving((0.05, 0.0), (1.0, 0.0))]
    with open_bag(bags.write_bag(tmp_path / "bag", records)) as reader:
        camera = open_camera(reader, CameraOptions(gravity_frame="base"))
        first, second = (decode(one, camera) for one in frames(reader, camera.topics, SLOP_NS))
    assert first.up is None
    assert Caution.UP_UNCERTAIN in first.cautions
    assert "is recorded from" in first.reasons[-1]
    assert second.up is not None
    assert Caution.UP_UNCERTAIN not in second.cautions


def test_a_usual_frame_of_gravity_is_named_and_never_assumed(tmp_path: Path) -> None:
    chain = record(edge("/odom", "base_link"), edge("base_link", "optical", OPTICAL))
    with open_bag(bags.write_bag(tmp_path / "bag", [*bags.frame(0), chain])) as reader:
        assert "--gravity-frame base_link" in gravity_hint(reader)
        camera = open_camera(reader, CameraOptions())
        assert decode(next(frames(reader, camera.topics, SLOP_NS)), camera).up is None
    other = record(edge("rail", "optical", OPTICAL))
    with open_bag(bags.write_bag(tmp_path / "other", [*bags.frame(0), other])) as reader:
        assert gravity_hint(reader) == ""
