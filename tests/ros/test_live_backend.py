"""The live backend and its server of tools: a real node with remapped topics, over real DDS."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rclpy
from typer.testing import CliRunner

from sdvlm_core.answer import Asked, Quantity
from sdvlm_core.camera.as_taken import project
from sdvlm_core.cli.app import app
from sdvlm_core.errors import ErrorCode, FrameError, QueryCanceled, QueryError, error_code
from sdvlm_core.frame import Region
from sdvlm_core.tabletop import INTRINSICS, TABLE, boxes, to_camera
from sdvlm_ros.live_backend import LiveBackend, connect
from sdvlm_ros.simulated_camera import FRAME_ID
from tests.paths import ROOT
from tests.ros.conftest import running
from tests.ros.peer import DEPTH, INFO, RGB, Peer, depth, frame
from tests.waiting import PATIENCE_S

MUG, BOX, CAN = TABLE
BOXES = boxes()
SERVER = "/watched/spatial_query"
# Names that say nothing about what is sent.
REMAPS = [
    word
    for name, topic in {
        "rgb/image_rect_color": "/first",
        "depth_registered/image_rect": "/second",
        "rgb/camera_info": "/third/info",
    }.items()
    for word in ("-r", f"{name}:={topic}")
]


@pytest.fixture(scope="module")
def node() -> Iterator[str]:
    """The name of a node that sees the simulated table."""
    pytest.importorskip("torch")
    inside = ("-r", "__ns:=/watched")
    options = ("-p", "model:=nano", "-p", "sensor:=simulated", "-p", "max_age:=60.0")
    with (
        running("sdvlm_ros.node", "--ros-args", *inside, *REMAPS, *options),
        running("sdvlm_ros.simulated_camera", "--ros-args", *REMAPS, "-p", "rate:=2.0"),
    ):
        yield SERVER


@pytest.fixture(scope="module")
def backend(node: str) -> Iterator[LiveBackend]:
    backend = connect(node)
    deadline = time.monotonic() + PATIENCE_S
    while True:  # the first frame
        try:
            backend.capture()
            break
        except FrameError:
            assert time.monotonic() < deadline
    yield backend
    backend.close()


def regions(*names: str) -> list[Region]:
    return [Region(name, box=tuple(map(float, BOXES[name]))) for name in names]


def test_the_origin_is_the_node_and_its_model(backend: LiveBackend) -> None:
    assert (backend.origin.kind, backend.origin.name) == ("node", SERVER)
    assert backend.origin.model == "nano"


def test_a_picture_has_the_stamp_that_the_node_holds_and_shows_the_table(backend) -> None:
    shot = backend.capture()
    assert shot.frame_id == FRAME_ID
    assert shot.rgb.shape == (480, 640, 3)
    assert shot.depth is not None
    (u, v) = project(shot.camera, np.array([to_camera(MUG.centre)]))[0].round().astype(int)
    red, green, blue = shot.rgb[v, u].astype(int)
    assert red > green + blue
    assert np.isfinite(shot.depth).mean() > 0.9
    # The node answers about this stamp, and about no other.
    assert backend.measure(shot.stamp_ns, regions("red mug"))["regions"]


def test_a_measurement_is_the_document_of_the_command_for_the_same_frame(
    backend: LiveBackend, tmp_path: Path
) -> None:
    shot = backend.capture()
    found = backend.measure(shot.stamp_ns, regions(*BOXES))
    cv2.imwrite(str(tmp_path / "rgb.png"), shot.rgb[..., ::-1])
    millimetres = np.nan_to_num(shot.depth * 1000).round().astype(np.uint16)
    cv2.imwrite(str(tmp_path / "depth.png"), millimetres)
    values = {key: getattr(INTRINSICS, key) for key in ("fx", "fy", "cx", "cy", "width", "height")}
    (tmp_path / "k.json").write_text(json.dumps(values))
    words = ["--rgb", "rgb.png", "--depth", "depth.png", "--intrinsics", "k.json"]
    words = [str(tmp_path / word) if "." in word else word for word in words]
    for name, box in BOXES.items():
        words += ["--region", f"{name}={','.join(map(str, box))}"]
    done = CliRunner().invoke(app, ["measure", *words, "--sensor", "simulated", "--json"])
    assert done.exit_code == 0, done.output
    expected = json.loads(done.stdout)
    assert found.keys() == expected.keys()
    assert found["regions"][0].keys() == expected["regions"][0].keys()
    assert approximately(found) == approximately(expected)


def approximately(value: Any) -> Any:
    """Numbers to a micrometre."""
    if isinstance(value, dict):
        return {key: approximately(one) for key, one in value.items()}
    if isinstance(value, list):
        return [approximately(one) for one in value]
    return round(value, 6) if isinstance(value, float) else value


def test_questions_of_both_kinds_are_answered_in_order_and_one_may_fail_alone(backend) -> None:
    shot = backend.capture()
    texts: dict[int, str] = {}

    def on_text(index: int, text: str) -> bool:
        texts[index] = texts.get(index, "") + text
        return True

    asked = [
        "How tall is the red mug?",
        Asked(Quantity.POSITION, ("red mug",)),
        Asked(Quantity.GAP, ("red mug",)),  # needs two objects
    ]
    tall, where, wrong = backend.ask(shot.stamp_ns, asked, on_text=on_text, verify=True)
    assert tall["asked"]["quantity"] == "HEIGHT"
    assert {one["source"] for one in tall["measurements"]} >= {"LANGUAGE", "GEOMETRY"}
    assert texts[0] == tall["text"]
    assert texts[1] == where["text"]
    point = [where["positions"][0][axis] for axis in "xyz"]
    assert point == pytest.approx(to_camera(MUG.centre), abs=0.06)
    assert len(where["image_points"]) == 1
    assert wrong["error"]["code"] == "INVALID_QUERY"
    assert "GAP needs 2" in wrong["error"]["message"]


def test_a_caller_cancels_by_not_wanting_more_text(backend: LiveBackend) -> None:
    shot = backend.capture()
    with pytest.raises(QueryCanceled):
        backend.ask(shot.stamp_ns, ["Describe the table."], on_text=lambda *_: False)


def test_another_stamp_or_region_is_refused(backend: LiveBackend) -> None:
    shot = backend.capture()
    with pytest.raises(FrameError, match="capture a frame"):
        backend.measure(shot.stamp_ns + 1, regions("red mug"))
    with pytest.raises(QueryError, match="no other time"):
        backend.capture(1.0)
    with pytest.raises(QueryError, match="mask"):
        backend.measure(shot.stamp_ns, [Region("a", mask=np.ones((480, 640), bool))])
    with pytest.raises(QueryError, match="red mug"):
        backend.ask(shot.stamp_ns, ["How tall is the box?"], regions("red mug"), verify=True)


@pytest.fixture
def cameras(context: rclpy.Context) -> Iterator[str]:
    """The name of a node with two cameras; the topics of each are named as if of the other."""
    namespace, metres = "/two", {"left": 1.5, "right": 2.5}
    peers = {name: Peer(context, namespace, name) for name in metres}
    crossed = [
        word
        for name, other in (("left", "right"), ("right", "left"))
        for topic in (RGB, DEPTH, INFO)
        for word in ("-r", f"{name}/{topic}:={other}/{topic}")
    ]
    ended = threading.Event()

    def publish() -> None:
        while not ended.wait(0.2):
            for name, peer in peers.items():
                stamp_ns = time.time_ns()
                messages = frame(stamp_ns, depth=depth(stamp_ns, metres[name]))
                for topic, message in messages.items():
                    peer.publishers[topic].publish(message)

    publishing = threading.Thread(target=publish)
    publishing.start()
    arguments = ("-r", f"__ns:={namespace}", *crossed, "-p", "cameras:=[left, right]")
    try:
        with running("tests.ros.stub_node", "--ros-args", *arguments, "-p", "max_age:=60.0"):
            yield f"{namespace}/spatial_query"
    finally:
        ended.set()
        publishing.join()


def test_a_backend_shows_and_asks_the_camera_that_it_was_made_for(cameras: str) -> None:
    for name, metres in (("left", 2.5), ("right", 1.5)):
        backend = connect(cameras, name)
        try:
            assert backend.origin.name == f"{cameras}, camera {name}"
            shot = backend.capture()
            assert np.nanmedian(shot.depth) == pytest.approx(metres, abs=0.1)
            wall = [Region("wall", box=(8.0, 8.0, 48.0, 38.0))]
            (measured,) = backend.measure(shot.stamp_ns, wall)["regions"]
            assert measured["camera_distance_m"] == pytest.approx(metres, abs=0.1)
            (told,) = backend.ask(shot.stamp_ns, ["How far is it?"])
            assert told["text"] == "an answer"
        finally:
            backend.close()
    for unknown in ("", "wrist"):
        with pytest.raises(QueryError, match="left, right"):
            connect(cameras, unknown)


def test_a_node_that_does_not_exist_has_an_error_with_a_code(monkeypatch) -> None:
    monkeypatch.setattr("sdvlm_ros.live_backend.READY_S", 1.0)
    with pytest.raises(Exception, match="not available") as refused:
        connect("/nobody")
    assert error_code(refused.value) is ErrorCode.MODEL_NOT_READY


def test_an_agent_measures_the_table_of_the_live_node(node: str) -> None:
    mcp = pytest.importorskip("mcp")
    import os

    server = mcp.StdioServerParameters(
        command=sys.executable,
        args=["-m", "sdvlm_core.cli", "mcp", "--node", node],
        cwd=ROOT,
        env=dict(os.environ),
    )

    async def conversation() -> Any:
        async with mcp.Client(server, read_timeout_seconds=PATIENCE_S) as client:
            captured = (await client.call_tool("capture", {})).structured_content
            stamp = captured["stamp"]
            region = {"label": "red mug", "box": list(BOXES["red mug"])}
            return [
                await client.call_tool(name, {"stamp": stamp, **arguments})
                for name, arguments in {
                    "measure": {"regions": [region]},
                    "locate": {"name": "red mug"},
                    "find_detections": {"names": ["orange ball"]},
                    "ask": {"questions": ["How many mugs are there?"]},
                }.items()
            ]

    results = asyncio.run(conversation())
    refused = [one.structured_content for one in results if one.is_error]
    assert refused == [], refused
    measured, located, found, told = (one.structured_content for one in results)
    (mug,) = measured["regions"]
    assert mug["height_m"] == pytest.approx(MUG.size[2], abs=0.005)
    assert located["position_m"] == pytest.approx(mug["position_m"], abs=0.01)
    assert not found["detections"][0]["found"]
    assert told["answers"][0]["document"]["asked"]["quantity"] == "COUNT"
