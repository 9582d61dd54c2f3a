"""Writes the demo's bag and its questions: demo/table/ (mcap) and demo/questions.yaml.

    python -m demo.record

Renders one simulated table that nano was not trained on (its seed is used only here), and stores
two seconds of it as a camera driver with image_transport does: JPEG colour, compressed depth,
camera info. The true values come from the scene graph. The scene and the questions are selected
from the content of the scene only, before any model answers. Needs no ROS: `rosbags` writes the
bag.
"""

from __future__ import annotations

import shutil
import struct
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from training.build.questions import TYPES, Question, View, ask_all, make_view
from training.simulate.catalogue import CATEGORIES, COLOURS, LARGE, SMALL
from training.simulate.frames import SimulatedFrame
from training.simulate.renderer import Renderer
from training.simulate.world import make_frame

HERE = Path(__file__).parent
BAG = HERE / "table"
QUESTIONS = HERE / "questions.yaml"

SEED = 20_250_917
WIDTH, HEIGHT = 640, 480
MIN_MEAN_GREY = 110  # in [0, 255]; a darker image is hard to see in the documentation
RATE_HZ, DURATION_S = 5, 2
START_NS = 1_700_000_000_000_000_000
FRAME_ID = "camera_color_optical_frame"
JPEG_QUALITY = 95
# Header of image_transport's compressedDepth: format, and two parameters that only 32FC1 uses.
DEPTH_HEADER = struct.pack("<iff", 0, 0.0, 0.0)

COLOR_TOPIC = "/rgb/image_rect_color/compressed"
DEPTH_TOPIC = "/depth_registered/image_rect/compressedDepth"
INFO_TOPIC = "/rgb/camera_info"

_types = get_typestore(Stores.ROS2_JAZZY)


def choose(renderer: Renderer) -> tuple[SimulatedFrame, list[Question]]:
    """The first bright 4:3 table with five nameable objects, two of them of one category."""
    for scene in range(1000):
        frame = make_frame(renderer, SEED, scene, WIDTH)
        if (
            frame.intrinsics.height != HEIGHT
            or not _is_table(frame)
            or frame.rgb.mean() < MIN_MEAN_GREY
        ):
            continue
        view = make_view(frame.objects, WIDTH * HEIGHT, list(COLOURS), CATEGORIES)
        if len(view.named) < 5 or max(view.counts.values(), default=0) < 2:
            continue
        questions = _one_of_each(view)
        if len(questions) == len(TYPES):
            return frame, questions
    raise RuntimeError(f"none of the first 1000 scenes of seed {SEED} is suitable")


def _is_table(frame: SimulatedFrame) -> bool:
    """Whether all objects are small and one has a category that does not occur on floors."""
    seen = {item["category"] for item in frame.objects}
    return seen <= SMALL.keys() and not seen <= LARGE.keys()


def _one_of_each(view: View) -> list[Question]:
    return ask_all(view, np.random.default_rng(SEED), dict.fromkeys(TYPES, 1))


def write_bag(frame: SimulatedFrame, path: Path) -> None:
    """Write the frame `RATE_HZ` x `DURATION_S` times as a bag; replaces `path`."""
    shutil.rmtree(path, ignore_errors=True)
    color = _encoded(".jpg", frame.rgb[..., ::-1], cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY)
    depth = _encoded(".png", frame.depth_mm, cv2.IMWRITE_PNG_COMPRESSION, 9)
    # Identical images compress to one per chunk; players read them as usual messages.
    writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        image_type, info_type = "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/CameraInfo"
        connections = {
            topic: writer.add_connection(topic, kind, typestore=_types)
            for topic, kind in (
                (COLOR_TOPIC, image_type),
                (DEPTH_TOPIC, image_type),
                (INFO_TOPIC, info_type),
            )
        }
        for index in range(RATE_HZ * DURATION_S):
            stamp_ns = START_NS + index * 10**9 // RATE_HZ
            messages = {
                COLOR_TOPIC: _image("jpeg", color, stamp_ns),
                DEPTH_TOPIC: _image("16UC1; compressedDepth png", depth, stamp_ns),
                INFO_TOPIC: _camera_info(frame, stamp_ns),
            }
            for topic, message in messages.items():
                connection = connections[topic]
                data = _types.serialize_cdr(message, connection.msgtype)
                writer.write(connection, stamp_ns, data)


def _encoded(suffix: str, image: Any, option: int, value: int) -> bytes:
    done, data = cv2.imencode(suffix, image, [option, value])
    if not done:
        raise RuntimeError(f"OpenCV could not encode a {suffix}")
    return bytes(data) if suffix == ".jpg" else DEPTH_HEADER + bytes(data)


def _header(stamp_ns: int) -> Any:
    seconds, nanosec = divmod(stamp_ns, 10**9)
    stamp = _types.types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanosec)
    return _types.types["std_msgs/msg/Header"](stamp=stamp, frame_id=FRAME_ID)


def _image(coding: str, data: bytes, stamp_ns: int) -> Any:
    return _types.types["sensor_msgs/msg/CompressedImage"](
        header=_header(stamp_ns), format=coding, data=np.frombuffer(data, np.uint8)
    )


def _camera_info(frame: SimulatedFrame, stamp_ns: int) -> Any:
    k = frame.intrinsics
    roi = _types.types["sensor_msgs/msg/RegionOfInterest"](
        x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    return _types.types["sensor_msgs/msg/CameraInfo"](
        header=_header(stamp_ns),
        height=k.height,
        width=k.width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=np.array([k.fx, 0, k.cx, 0, k.fy, k.cy, 0, 0, 1.0]),
        r=np.eye(3).reshape(9),
        p=np.array([k.fx, 0, k.cx, 0, 0, k.fy, k.cy, 0, 0, 0, 1.0, 0]),
        binning_x=0,
        binning_y=0,
        roi=roi,
    )


def write_questions(frame: SimulatedFrame, questions: list[Question], path: Path) -> None:
    """Write the questions with their true values, in metres."""
    entries = []
    for question in questions:
        entry = asdict(question)
        reference = question.reference
        entry["reference"] = [*reference] if isinstance(reference, tuple) else reference
        entries.append(
            {key: entry[key] for key in ("type", "question", "reference")}
            | {"truth": question.answer, "names": [*question.names]}
            | {"boxes": _boxes(frame, question)}
        )
    head = f"# Written by `python -m demo.record`: seed {SEED}, scene {frame.scene}; metres.\n"
    text = yaml.safe_dump(entries, sort_keys=False, default_flow_style=None, width=100)
    path.write_text(head + text, encoding="utf-8")


def _boxes(frame: SimulatedFrame, question: Question) -> dict[str, list[int]]:
    """Pixel boxes of the objects that a question names, for the report's picture only."""
    by_instance = {item["instance"]: item.get("box_xyxy") for item in frame.objects}
    named = zip(question.names, question.instances, strict=True)
    return {name: [*box] for name, instance in named if (box := by_instance.get(instance))}


def main() -> None:
    """Write both files."""
    renderer = Renderer(WIDTH, HEIGHT)
    frame, questions = choose(renderer)
    renderer.close()
    write_bag(frame, BAG)
    write_questions(frame, questions, QUESTIONS)
    size = sum(file.stat().st_size for file in BAG.iterdir())
    print(f"scene {frame.scene}: {size / 1e6:.2f} MB in {BAG}, {len(questions)} questions")


if __name__ == "__main__":
    main()
