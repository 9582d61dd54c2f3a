"""The same bag gives the same answers by `sdvlm replay` and by the live node, bit for bit.

Also tests the conditions for that: both message libraries decode to equal frames, and both paths
pair messages and name errors in the same way.
"""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Duration
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from typer.testing import CliRunner

rosbag2 = pytest.importorskip("rosbags.rosbag2")

from sdvlm.msg import SpatialAnswer  # noqa: E402
from sdvlm_core import errors  # noqa: E402
from sdvlm_core.camera import bag_frames, pairing  # noqa: E402
from sdvlm_core.camera import bags as core_bags  # noqa: E402
from sdvlm_core.camera.assembly import frame_from_messages  # noqa: E402
from sdvlm_core.camera.messages import nanoseconds  # noqa: E402
from sdvlm_core.cli.app import app  # noqa: E402
from sdvlm_core.replay.journal import ANSWERS, read_entries  # noqa: E402
from sdvlm_ros import frame_buffer  # noqa: E402
from tests import bags  # noqa: E402
from tests.bags import START_NS  # noqa: E402
from tests.ros.conftest import ROOT, running  # noqa: E402
from tests.ros.peer import Peer, Response  # noqa: E402
from tests.waiting import PATIENCE_S  # noqa: E402

FRAMES = 4
QUESTIONS = ("Can you measure the height of the pink can?", "Where is the red book in the image?")
SLOP = 30_000_000


@pytest.fixture(scope="module")
def looks() -> list[tuple[Any, Any]]:
    """Colour and depth (mm) of the demo's table, from a different viewpoint in each frame."""
    with core_bags.open_bag(ROOT / "demo" / "table") as reader:
        camera = bag_frames.open_camera(reader, bag_frames.CameraOptions())
        frame = bag_frames.decode(next(bag_frames.frames(reader, camera.topics, SLOP)), camera)
    assert frame.depth is not None
    millimetres = np.nan_to_num(frame.depth * 1000).round().astype(np.uint16)
    return [
        (np.roll(frame.rgb, 60 * n, 1), np.roll(millimetres, 60 * n, 1) + np.uint16(100 * n))
        for n in range(FRAMES)
    ]


def test_the_same_bag_gives_the_same_answers_through_the_command_and_the_node(
    tmp_path: Path, context: rclpy.Context, looks: list[tuple[Any, Any]]
) -> None:
    bag = bags.write_bag(
        tmp_path / "bag",
        [
            r
            for n, (rgb, depth) in enumerate(looks)
            for r in bags.frame(n, "compressed", rgb, depth)
        ],
    )
    entries = "".join(f"- question: {question}\n  every: frame\n" for question in QUESTIONS)
    (tmp_path / "q.yaml").write_text("questions:\n" + entries)
    # The number of threads determines the order of sums, so both sides use the same number.
    one_thread = {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "sdvlm_core.cli", "replay", str(bag)]
    command += ["--questions", str(tmp_path / "q.yaml"), "--out", str(tmp_path / "out")]
    offline = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | one_thread, stderr=subprocess.PIPE, text=True
    )
    try:
        online = answers_of_the_node(bag, context, one_thread)
        _, said = offline.communicate(timeout=PATIENCE_S)
    finally:
        if offline.poll() is None:
            offline.send_signal(signal.SIGINT)
            offline.wait(PATIENCE_S)
    assert offline.returncode == 0, said
    written = {}
    with rosbag2.Reader(tmp_path / "out" / "answers") as reader:
        for connection, _, data in reader.messages():
            if connection.topic == "/spatial_query/answers":
                answer = deserialize_message(bytes(data), SpatialAnswer)
                written[nanoseconds(answer.header.stamp), answer.question] = answer
    assert len(written) == FRAMES * len(QUESTIONS)
    assert {key: content(answer) for key, answer in written.items()} == {
        key: content(answer) for key, answer in online.items()
    }
    # The comparison is meaningful only if frames differ and answers have numbers and points.
    assert len({answer.text for answer in written.values()}) > 2
    assert any(answer.measurements for answer in written.values())
    assert any(answer.positions for answer in written.values())


def answers_of_the_node(
    bag: Path, context: rclpy.Context, environment: dict[str, str]
) -> dict[tuple[int, str], SpatialAnswer]:
    """(stamp, question) -> the answer of the live node; the bag player waits for each answer."""
    remaps = ["-r", "__ns:=/parity"]
    for topic in (f"{bags.RGB}/compressed", f"{bags.DEPTH}/compressedDepth", bags.INFO):
        remaps += ["-r", f"{topic}:=/parity{topic}"]
    parameters = ["-p", "use_sim_time:=true", "-p", "rgb_transport:=compressed"]
    parameters += ["-p", "depth_transport:=compressedDepth"]
    player = [str(bag), "--as-fast-as-answered", str(len(QUESTIONS)), "--ros-args", *remaps]
    answers: dict[tuple[int, str], SpatialAnswer] = {}
    with (
        running("sdvlm_ros.node", "--ros-args", *remaps, *parameters, **environment),
        running("sdvlm_ros.bag_player", *player) as replay,
    ):
        peer = Peer(context, "/parity")
        assert peer.query.wait_for_service(PATIENCE_S)
        deadline = time.monotonic() + PATIENCE_S
        answered = 0
        while len(answers) < FRAMES * len(QUESTIONS) and replay.poll() is None:
            assert time.monotonic() < deadline, f"{len(answers)} answers in time"
            # The questions alternate, so that two consecutive answers about a frame are to both
            # questions.
            response = peer.ask(QUESTIONS[answered % len(QUESTIONS)])
            if response.error_code == Response.NONE:
                answer = response.answer
                answers[nanoseconds(answer.header.stamp), answer.question] = answer
                answered += 1
            else:
                # The model is loading; messages of the first frame, or the first clock message,
                # have not arrived yet.
                early = (Response.NO_IMAGE, Response.BAD_DEPTH, Response.BAD_CAMERA_INFO)
                early += (Response.STALE_IMAGE, Response.MODEL_NOT_READY)
                assert response.error_code in early, response.error_msg
    return answers


def content(answer: SpatialAnswer) -> str:
    """All fields of an answer except its id and its timings, to the last bit.

    Not its serialized bytes: those between the fields are not set.
    """
    answer.id = ""
    answer.queue_time = answer.encode_time = answer.generate_time = Duration()
    return repr(answer)


@pytest.mark.parametrize("form", ["raw", "compressed"])
def test_messages_of_both_libraries_decode_to_the_same_frame(
    looks: list[tuple[Any, Any]], form: str
) -> None:
    records = bags.frame(1, form, *looks[1])
    kinds = {bags.IMAGE: Image, bags.COMPRESSED: CompressedImage, bags.CAMERA_INFO: CameraInfo}
    live = frame_from_messages(*(deserialize_message(r.data, kinds[r.kind]) for r in records))
    read = frame_from_messages(*(core_bags.deserialize(r.data, r.kind) for r in records))
    assert live.rgb.tobytes() == read.rgb.tobytes()
    assert live.depth is not None
    assert read.depth is not None
    assert live.depth.tobytes() == read.depth.tobytes()
    assert (live.intrinsics, live.stamp_ns, live.frame_id) == (
        read.intrinsics,
        read.stamp_ns,
        read.frame_id,
    )


@pytest.mark.parametrize("quantised", [False, True])
def test_depth_in_32_bits_decodes_to_the_same_frame_too(quantised: bool) -> None:
    depth = np.linspace(0.4, 5.0, 48 * 64, dtype=np.float32).reshape(48, 64)
    depth[3, 4] = np.nan
    color, _, info = bags.frame(1)
    if quantised:
        stored = np.nan_to_num(100.0 / depth + 3.0).astype(np.uint16)
        png = cv2.imencode(".png", stored)[1].tobytes()
        packed = struct.pack("<iff", 0, 100.0, 3.0) + png
        coding = "32FC1; compressedDepth png"
        message: Any = bags.compressed(packed, coding, START_NS)
        kind: str = bags.COMPRESSED
        live_type: Any = CompressedImage
    else:
        message, kind, live_type = bags.image(depth, "32FC1", START_NS), bags.IMAGE, Image
    record = bags.record(bags.DEPTH, kind, message, START_NS)
    live = frame_from_messages(
        deserialize_message(color.data, Image),
        deserialize_message(record.data, live_type),
        deserialize_message(info.data, CameraInfo),
    )
    read = frame_from_messages(
        *(core_bags.deserialize(r.data, r.kind) for r in (color, record, info))
    )
    assert live.depth is not None
    assert read.depth is not None
    assert live.depth.tobytes() == read.depth.tobytes()


JITTER = st.integers(-50_000_000, 50_000_000)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.just(0), JITTER, JITTER), min_size=1, max_size=12),
    st.sets(st.integers(0, 11)),
    st.sets(st.integers(0, 11), max_size=7),  # a bag's image waits for eight newer ones at most
)
def test_a_bag_is_paired_as_the_node_pairs(
    frames: list[tuple[int, int, int]], no_depth: set[int], no_info: set[int]
) -> None:
    """Stamps may differ by more than the slop, and messages may be missing."""
    buffer = frame_buffer.FrameBuffer(100, SLOP, lambda kind: "offered")
    messages: list[tuple[pairing.Input, pairing.StampedMessage]] = []
    absent = {pairing.Input.DEPTH: no_depth, pairing.Input.INFO: no_info}
    for number, offsets in enumerate(frames):
        for kind, offset in zip(pairing.Input, offsets, strict=True):
            if number in absent.get(kind, ()):
                continue
            stamp_ns = START_NS + number * bags.PERIOD_NS + offset
            name = f"{kind.value} {number}".encode()
            messages.append((kind, bag_frames.BagMessage(stamp_ns, name, stamp_ns, "")))
            buffer.add(frame_buffer.Input(kind.value), stamp_ns, name)
    for frame in bag_frames.pair(messages, SLOP):
        partners = frame.depth and frame.info and (frame.depth.data, frame.info.data)
        code = frame.refusal and int(errors.error_code(frame.refusal))
        assert (partners, code) == paired_live(buffer, frame.color.stamp_ns)


def paired_live(buffer: frame_buffer.FrameBuffer, stamp_ns: int) -> tuple[Any, int | None]:
    """Depth and info of the frame at a stamp, or the error code."""
    try:
        live = buffer.at(stamp_ns)
    except errors.FrameError as error:
        return None, errors.error_code(error)
    assert live.depth is not None
    return (live.depth.data, live.info.data), None


def test_codes_in_files_are_those_of_the_service() -> None:
    assert {code.name: int(code) for code in errors.ErrorCode} == {
        code.name: getattr(Response, code.name) for code in errors.ErrorCode
    }


def test_the_inputs_have_the_same_names() -> None:
    assert {kind.value for kind in pairing.Input} == {kind.value for kind in frame_buffer.Input}


def faulty(number: int) -> list[bags.Record]:
    """One frame with several faults at once, of which none can be repaired; else a good frame."""
    rgb, depth = bags.picture(number, 320, 240), bags.millimetres(number, 320, 240)
    stamp_ns = START_NS + number * bags.PERIOD_NS
    color, metres, _ = bags.frame(number, rgb=rgb, depth=depth)
    info = bags.camera_info(stamp_ns, 320, 240)
    message = bags.image(depth, "16UC1", stamp_ns)
    if number == 1:  # another frame_id; K of an image of half the size; distortion coefficients
        message.header.frame_id = "depth_optical"
        info.k = np.array([160.0, 0, 79.5, 0, 160.0, 59.5, 0, 0, 1.0])
        info.p = np.array([160.0, 0, 79.5, 0, 0, 160.0, 59.5, 0, 0, 0, 1.0, 0])
        info.d = np.array([-0.3, 0.1, 0.0, 0.0, 0.0])
    elif number == 2:  # units of 0.1 mm, and saturated codes
        depth = (depth.astype(np.uint32) * 20).clip(0, 65534).astype(np.uint16)
        depth[::3] = 65535
        message = bags.image(depth, "16UC1", stamp_ns)
        message.header.frame_id = "depth_optical"
    elif number == 3:  # readings of a driver that has none
        message = bags.image(np.full_like(depth, 65535), "16UC1", stamp_ns)
    elif number == 4:
        info.k = info.k * 0
        info.p = info.p * 0
    elif number == 5:
        message = bags.image(np.full_like(depth, 1234), "16UC1", stamp_ns)
    metres = bags.record(bags.DEPTH, bags.IMAGE, message, metres.bag_ns)
    return [color, metres, bags.record(bags.INFO, bags.CAMERA_INFO, info, metres.bag_ns)]


FAULTY_FRAMES = 6


def test_a_faulty_bag_has_the_same_cautions_codes_and_texts_in_both(
    tmp_path: Path, tiny_model: Path, context: rclpy.Context
) -> None:
    bag = bags.write_bag(tmp_path / "bag", [r for n in range(FAULTY_FRAMES) for r in faulty(n)])
    questions = tmp_path / "q.yaml"
    questions.write_text(f"questions:\n- question: {QUESTIONS[0]}\n  every: frame\n")
    command = ["replay", str(bag), "--questions", str(questions), "--out", str(tmp_path / "out")]
    command += ["--model", str(tiny_model), "--device", "cpu", "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.stderr
    offline = {
        entry["stamp_ns"]: (
            entry["error"]["code"] if entry["error"] else 0,
            entry["error"]["message"] if entry["error"] else "",
            tuple(entry["answer"]["cautions"]) if entry["answer"] else (),
        )
        for entry in read_entries(tmp_path / "out" / ANSWERS)
    }
    assert offline == faults_of_the_node(context, tiny_model)
    assert len({code for code, _, _ in offline.values()}) >= 3
    assert {code for _, _, cautions in offline.values() for code in cautions} >= {
        "unregistered_depth"
    }
    # The reasons are printed, not only their counts.
    for code, text, _ in offline.values():
        assert not code or errors.shown(text) in result.stderr


def faults_of_the_node(
    context: rclpy.Context, model: Path
) -> dict[int, tuple[int, str, tuple[str, ...]]]:
    """Stamp -> error code, text and cautions of the live node for the same messages."""
    kinds = {bags.RGB: Image, bags.DEPTH: Image, bags.INFO: CameraInfo}
    found: dict[int, tuple[int, str, tuple[str, ...]]] = {}
    parameters = ["-p", f"model:={model}", "-p", "device:=cpu"]
    with running("sdvlm_ros.node", "--ros-args", "-r", "__ns:=/faulty", *parameters):
        peer, any_age = Peer(context, "/faulty"), Duration(sec=10**9)
        peer.connect()
        for number in range(FAULTY_FRAMES):
            stamp_ns = START_NS + number * bags.PERIOD_NS
            messages = {
                r.topic.removeprefix("/"): deserialize_message(r.data, kinds[r.topic])
                for r in faulty(number)
            }
            response = peer.ask_about(messages, stamp_ns, question=QUESTIONS[0], max_age=any_age)
            cautions = () if response.error_code else tuple(response.answer.cautions)
            found[stamp_ns] = (response.error_code, response.error_msg, cautions)
    return found
