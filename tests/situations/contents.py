"""Situations of content: units and codes of depth, colour formats, stamps, and huge images.

Rows of the table of field situations; each changes the messages of a correct camera. Does not know
how they are sent.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import cache

import cv2
import numpy as np

from tests import bags
from tests.situations.outcome import Cautioned, Refused, Right
from tests.situations.scene import (
    Array,
    Shot,
    info_message,
    send_color,
    send_depth,
    with_stamp,
)
from tests.situations.situation import Situation

RIGHT = (Right(),)
_FLT_MAX = float(np.finfo(np.float32).max)
_HUGE = 14000  # pixels on each side


def depth_situations() -> tuple[Situation, ...]:
    """Units of depth that the message does not state, and values that are no readings."""

    def integer(unit_m: float) -> Callable[[Shot], None]:
        def change(shot: Shot) -> None:
            counts = np.rint(shot.metres / unit_m)
            send_depth(shot, np.where(counts < 65535, counts, 0).astype(np.uint16), "16UC1")

        return change

    def metres(shot: Shot) -> None:
        send_depth(shot, np.where(shot.metres > 0, shot.metres, np.nan).astype("f4"), "32FC1")

    def millimetres_as_float(shot: Shot) -> None:
        send_depth(shot, (shot.metres * 1000).astype(np.float32), "32FC1")

    def saturated(value: float, encoding: str) -> Callable[[Shot], None]:
        """Holes everywhere, also on the objects, with the driver's value for "no reading"."""

        def change(shot: Shot) -> None:
            holes = np.random.default_rng(0).random(shot.metres.shape) < 0.08
            holes[:, :100] = True
            if encoding == "16UC1":
                pixels = np.rint(shot.metres * 1000).astype(np.uint16)
            else:
                pixels = shot.metres.astype(np.float32)
            pixels[holes] = value
            send_depth(shot, pixels, encoding)
            del shot.regions["red box"]  # it lies partly in the columns without readings

        return change

    def only(value: float, encoding: str) -> Callable[[Shot], None]:
        dtype = np.uint16 if encoding == "16UC1" else np.float32

        def change(shot: Shot) -> None:
            send_depth(shot, np.full(shot.metres.shape, value, dtype), encoding)

        return change

    doubtful = (Cautioned("implausible_depth"), Refused("BAD_DEPTH", ("unit|scale",)))
    nothing = (Refused("BAD_DEPTH", ("reading",)),)
    return (
        *(
            Situation(
                f"16UC1 in units of {1000 * unit:g} mm ({camera}), the unit given",
                RIGHT,
                integer(unit),
                options=("--depth-scale", f"{unit:g}"),
                parameters={"depth_unit": f"{unit:g}"},
            )
            for unit, camera in ((0.0001, "D405"), (0.00025, "L515"))
        ),
        Situation("16UC1 in units of 0.1 mm, no unit given", doubtful, integer(0.0001)),
        Situation("16UC1 in units of 0.25 mm, no unit given", doubtful, integer(0.00025), scale=3),
        Situation(
            "16UC1 beyond three times the sensor's range",
            (Refused("BAD_DEPTH", ("unit|scale",)),),
            integer(0.00005),
            scale=3,
        ),
        Situation("32FC1 in metres", RIGHT, metres),
        Situation(
            "32FC1 holding millimetres",
            (Refused("BAD_DEPTH", ("median", "82")),),
            millimetres_as_float,
        ),
        *(
            Situation(f"{encoding} with {name} for no reading", RIGHT, saturated(value, encoding))
            for name, value, encoding in (
                ("3.4e38", _FLT_MAX, "32FC1"),
                ("inf", float("inf"), "32FC1"),
                ("-inf", float("-inf"), "32FC1"),
                ("NaN", float("nan"), "32FC1"),
                ("65535", 65535, "16UC1"),
                ("0", 0, "16UC1"),
            )
        ),
        *(
            Situation(f"{encoding} of nothing but {name}", nothing, only(value, encoding))
            for name, value, encoding in (
                ("3.4e38", _FLT_MAX, "32FC1"),
                ("inf", float("inf"), "32FC1"),
                ("65535", 65535, "16UC1"),
                ("0", 0, "16UC1"),
            )
        ),
        Situation(
            "16UC1 of nothing but 1500",
            (Cautioned("constant_depth"), Refused("BAD_DEPTH", ("constant|same|equal",))),
            only(1500, "16UC1"),
        ),
        Situation(
            "compressedDepth of 32FC1 with quantisation A = B = 0",
            (Refused("BAD_DEPTH", ("quanti", "0")),),
            _unquantised,
        ),
        Situation("compressedDepth of 32FC1", RIGHT, _quantised),
    )


def _send_compressed_depth(shot: Shot, a: float, b: float, stored: Array) -> None:
    png = cv2.imencode(".png", stored)[1].tobytes()
    frame_id = shot.depth.header.frame_id
    message = bags.compressed(
        struct.pack("<iff", 0, a, b) + png, "32FC1; compressedDepth png", shot.stamp_ns
    )
    message.header.frame_id = frame_id
    shot.depth = message
    shot.topics["depth"] += "/compressedDepth"


def _unquantised(shot: Shot) -> None:
    _send_compressed_depth(shot, 0.0, 0.0, np.rint(shot.metres * 1000).astype(np.uint16))


def _quantised(shot: Shot) -> None:
    """As compressed_depth_image_transport: value = A / metres + B, 0 = no reading."""
    a, b = 100.0 * 101.0, 1 - 100.0 * 101.0 / 10.0
    valid = shot.metres > 0
    stored = np.where(valid, a / np.where(valid, shot.metres, 1) + b, 0)
    _send_compressed_depth(shot, a, b, stored.astype(np.uint16))


def color_situations() -> tuple[Situation, ...]:
    """`CompressedImage.format` as image_transport and drivers write it.

    compressed_image_transport's subscriber: without ";" the picture is as every viewer shows it;
    with ";" it is so only if "compressed bgr" follows, else red and blue of the JPEG are exchanged.
    """

    def sent(coding: str, exchanged: bool, suffix: str = ".jpg") -> Callable[[Shot], None]:
        def change(shot: Shot) -> None:
            pixels = shot.rgb if exchanged else shot.rgb[..., ::-1]
            data = cv2.imencode(suffix, np.ascontiguousarray(pixels))[1].tobytes()
            send_color(shot, bags.compressed(data, coding, shot.stamp_ns))

        return change

    def grey(shot: Shot) -> None:
        pixels = cv2.cvtColor(shot.rgb, cv2.COLOR_RGB2GRAY)
        data = cv2.imencode(".jpg", pixels)[1].tobytes()
        send_color(shot, bags.compressed(data, "mono8; jpeg compressed ", shot.stamp_ns))

    red = (Right(red=True),)
    return (
        *(
            Situation(f"compressed colour of format {coding!r}", red, sent(coding, exchanged))
            for coding, exchanged in (
                ("jpeg", False),
                ("jpg", False),
                ("rgb8; jpeg compressed bgr8", False),
                ("bgr8; jpeg compressed bgr8", False),
                ("rgb8; jpeg compressed ", True),
                ("rgb8; jpeg compressed rgb8", True),
                ("bgr8; jpeg compressed ", True),
            )
        ),
        Situation(
            "compressed colour of format 'rgb8; png compressed bgr8'",
            red,
            sent("rgb8; png compressed bgr8", False, ".png"),
        ),
        Situation("compressed grey", RIGHT, grey),
        Situation("rgb8", red),
        Situation("bgr8", red, _bgr),
    )


def _bgr(shot: Shot) -> None:
    pixels = np.ascontiguousarray(shot.rgb[..., ::-1])
    send_color(shot, bags.image(pixels, "bgr8", shot.stamp_ns))


def stamp_situations() -> tuple[Situation, ...]:
    """Depth and colour whose stamps differ."""

    def late(nanoseconds: int) -> Callable[[Shot], None]:
        def change(shot: Shot) -> None:
            shot.depth = with_stamp(shot.depth, shot.stamp_ns + nanoseconds)

        return change

    def since_boot(shot: Shot) -> None:
        shot.depth = with_stamp(shot.depth, 5_000_000_000_000)

    return (
        Situation("depth 10 ms after colour", RIGHT, late(10_000_000)),
        Situation(
            "depth 40 ms after colour", (Refused("BAD_DEPTH", ("0.04|40 ms",)),), late(40_000_000)
        ),
        Situation(
            "depth stamped with the time since boot",
            (Refused("BAD_DEPTH", ("clock", "year|day| s ")),),
            since_boot,
        ),
        Situation(
            "depth stamped by a clock that is an hour off",
            (Refused("BAD_DEPTH", ("clock", "3600|hour|60 min")),),
            late(3600 * 10**9),
        ),
    )


def huge_situations() -> tuple[Situation, ...]:
    """Images that are small as messages and enormous as pixels."""

    def line(shot: Shot) -> None:
        """30000 x 1, all three messages."""
        rgb = np.full((1, 30000, 3), 90, np.uint8)
        send_color(shot, bags.image(rgb, "rgb8", shot.stamp_ns))
        send_depth(shot, np.full((1, 30000), 1500, np.uint16), "16UC1")
        shot.info = info_message(shot.camera, shot.stamp_ns)
        shot.info.width, shot.info.height = 30000, 1
        shot.info.k[2] = shot.info.p[2] = 14999.5
        shot.info.k[5] = shot.info.p[6] = 0.0
        shot.regions = {"red box": (10, 0, 500, 1)}

    def png(shot: Shot) -> None:
        data = huge_png(_HUGE, channels=3, bits=8)
        coding = "rgb8; png compressed bgr8"
        send_color(shot, bags.compressed(data, coding, shot.stamp_ns))

    def jpeg(shot: Shot) -> None:
        data = bytearray(cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes())
        at = data.index(b"\xff\xc0") + 5  # the frame header: height and width, 16 bits each
        data[at : at + 4] = struct.pack(">HH", 60000, 60000)
        send_color(shot, bags.compressed(bytes(data), "jpeg", shot.stamp_ns))

    def depth_png(shot: Shot) -> None:
        data = bytes(12) + huge_png(_HUGE, channels=1, bits=16)
        frame_id = shot.depth.header.frame_id
        shot.depth = bags.compressed(data, "16UC1; compressedDepth png", shot.stamp_ns)
        shot.depth.header.frame_id = frame_id
        shot.topics["depth"] += "/compressedDepth"

    limit = "max_pixels|--max-pixels|limit|at most|larger than"
    return tuple(
        Situation(name, (must,), change, bounded=True)
        for name, must, change in (
            ("an image of 30000 x 1", Refused("", ("30000", "aspect|ratio|sides")), line),
            ("a PNG of 14000 x 14000", Refused("NO_IMAGE", ("14000", limit)), png),
            ("a JPEG of 60000 x 60000", Refused("NO_IMAGE", ("60000", limit)), jpeg),
            ("a depth PNG of 14000 x 14000", Refused("BAD_DEPTH", ("14000", limit)), depth_png),
        )
    )


@cache
def huge_png(side: int, channels: int, bits: int) -> bytes:
    """A black PNG of side x side pixels, made in little memory."""
    row = bytes(1 + side * channels * bits // 8)
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    colour = {1: 0, 3: 2}[channels]
    header = struct.pack(">IIBBBBB", side, side, bits, colour, 0, 0, 0)

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", header), chunk(b"IDAT", packed), chunk(b"IEND", b""))
    )
