"""Small bags for tests, written by `rosbags`; every frame has a different picture."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sdvlm_core.camera.messages import header_message
from sdvlm_core.replay.answer_bag import typestore

START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 100_000_000
LATENCY_NS = 5_000_000  # from stamp to the bag's time
RGB, DEPTH, INFO = "/rgb/image_rect_color", "/depth_registered/image_rect", "/rgb/camera_info"
WIDTH, HEIGHT = 64, 48
IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"


@dataclass(frozen=True)
class Record:
    """One message of a bag."""

    topic: str
    kind: str
    bag_ns: int
    data: bytes


def make(kind: str, /, **fields: Any) -> Any:
    return typestore().types[kind](**fields)


def header(stamp_ns: int) -> Any:
    return header_message(make, stamp_ns, "optical")


def record(topic: str, kind: str, message: Any, bag_ns: int) -> Record:
    return Record(topic, kind, bag_ns, bytes(typestore().serialize_cdr(message, kind)))


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> Any:
    """Noise that differs for each number."""
    noise = np.random.default_rng(number)
    return noise.integers(0, 256, (height, width, 3), np.uint8)


def millimetres(number: int, width: int = WIDTH, height: int = HEIGHT) -> Any:
    """A tilted plane with holes; its distance increases with the number."""
    rows = np.linspace(900 + 40 * number, 2000 + 40 * number, height).astype(np.uint16)
    depth = np.repeat(rows[:, None], width, 1)
    depth[np.random.default_rng(number).random(depth.shape) < 0.05] = 0
    return depth


def image(pixels: Any, encoding: str, stamp_ns: int) -> Any:
    return make(
        IMAGE,
        header=header(stamp_ns),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=pixels.nbytes // pixels.shape[0],
        data=np.frombuffer(pixels.tobytes(), np.uint8),
    )


def compressed(data: bytes, coding: str, stamp_ns: int) -> Any:
    pixels = np.frombuffer(data, np.uint8)
    return make(COMPRESSED, header=header(stamp_ns), format=coding, data=pixels)


def png_message(pixels: Any, coding: str, stamp_ns: int) -> Any:
    """A CompressedImage that holds an (H, W, 3) RGB image without loss."""
    return compressed(cv2.imencode(".png", pixels[..., ::-1])[1].tobytes(), coding, stamp_ns)


def camera_info(stamp_ns: int, width: int = WIDTH, height: int = HEIGHT) -> Any:
    f, cx, cy = float(width), (width - 1) / 2, (height - 1) / 2
    roi = make(
        "sensor_msgs/msg/RegionOfInterest",
        x_offset=0,
        y_offset=0,
        height=0,
        width=0,
        do_rectify=False,
    )
    return make(
        CAMERA_INFO,
        header=header(stamp_ns),
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=np.array([f, 0, cx, 0, f, cy, 0, 0, 1.0]),
        r=np.eye(3).reshape(9),
        p=np.array([f, 0, cx, 0, 0, f, cy, 0, 0, 0, 1.0, 0]),
        binning_x=0,
        binning_y=0,
        roi=roi,
    )


def frame(number: int, form: str = "raw", rgb: Any = None, depth: Any = None) -> list[Record]:
    """The three messages of a frame, raw or as image_transport compresses them."""
    stamp_ns = START_NS + number * PERIOD_NS
    bag_ns = stamp_ns + LATENCY_NS
    rgb = picture(number) if rgb is None else rgb
    depth = millimetres(number) if depth is None else depth
    if form == "raw":
        color = record(RGB, IMAGE, image(rgb, "rgb8", stamp_ns), bag_ns)
        metres = record(DEPTH, IMAGE, image(depth, "16UC1", stamp_ns), bag_ns)
    else:
        png = cv2.imencode(".png", depth)[1].tobytes()
        jpeg = cv2.imencode(".jpg", rgb[..., ::-1])[1].tobytes()
        color = record(f"{RGB}/compressed", COMPRESSED, compressed(jpeg, "jpeg", stamp_ns), bag_ns)
        packed = struct.pack("<iff", 0, 0.0, 0.0) + png
        coding = "16UC1; compressedDepth png"
        message = compressed(packed, coding, stamp_ns)
        metres = record(f"{DEPTH}/compressedDepth", COMPRESSED, message, bag_ns)
    size = (rgb.shape[1], rgb.shape[0])
    return [color, metres, record(INFO, CAMERA_INFO, camera_info(stamp_ns, *size), bag_ns)]


def write_bag(
    path: Path, records: Iterable[Record], storage: str = "MCAP", compression: str = "NONE"
) -> Path:
    """A bag of these messages in this order."""
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

    writer = Writer(path, version=9, storage_plugin=StoragePlugin[storage])
    writer.set_compression(CompressionMode[compression], CompressionFormat.ZSTD)
    with writer:
        connections: dict[str, Any] = {}
        for one in records:
            if one.topic not in connections:
                connections[one.topic] = writer.add_connection(
                    one.topic, one.kind, typestore=typestore()
                )
            writer.write(connections[one.topic], one.bag_ns, one.data)
    return path
