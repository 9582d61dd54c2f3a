"""Situations of projection: distortion, camera_info, registration, and how the camera is mounted.

Rows of the table of field situations; each changes the messages of a correct camera. Does not know
how they are sent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from tests import bags
from tests.situations.outcome import Cautioned, Refused, Right
from tests.situations.scene import (
    FOCAL,
    HEIGHT,
    RAW_TOPICS,
    WIDTH,
    Camera,
    Shot,
    info_message,
    send_color,
    send_depth,
    view,
    with_stamp,
)
from tests.situations.situation import Situation

WIDE = Camera(420.0, "plumb_bob", (-0.30, 0.10, 0.0, 0.0, 0.0))
AZURE = Camera(505.0, "rational_polynomial", (0.45, -2.6, 6e-4, -3e-4, 1.5, 0.33, -2.4, 1.43))
FISHEYE = Camera(400.0, "equidistant", (-0.01, 0.02, -0.01, 0.002))
_PRISM = (-0.25, 0.08, 1e-3, -1e-3, 0.0, 0.0, 0.0, 0.0, 0.002, -0.001, 0.001, 0.002)
LENSES = {
    "plumb_bob": WIDE,
    "plumb_bob of 4 coefficients": replace(WIDE, d=WIDE.d[:4]),
    "rational_polynomial of 8 (Azure)": AZURE,
    "rational_polynomial of 12": Camera(420.0, "rational_polynomial", _PRISM),
    "rational_polynomial of 14": Camera(420.0, "rational_polynomial", (*_PRISM, 0.01, -0.01)),
    "equidistant fisheye": FISHEYE,
}
IMPLAUSIBLE = (Cautioned("implausible_intrinsics"), Refused("BAD_CAMERA_INFO"))
RIGHT = (Right(),)


def lens_situations() -> tuple[Situation, ...]:
    """Images with distortion: raw ones, and rectified ones whose camera_info still has D."""
    raw = [
        Situation(f"raw images of a lens: {name}", (Right(0.02),), camera=lens, topics=RAW_TOPICS)
        for name, lens in LENSES.items()
    ]

    def keeps_d(shot: Shot) -> None:
        """As image_proc publishes: K and D of the raw camera, P of the rectified image."""
        shot.info.d = np.array(WIDE.d)
        shot.info.k = Camera(FOCAL - 35).k.reshape(9)

    def rectified_topics(shot: Shot) -> None:
        keeps_d(shot)
        shot.topics = {
            "rgb": "/camera/color/image_rect_color",
            "depth": "/camera/depth_registered/image_rect",
            "info": "/camera/color/camera_info",
        }

    def model(name: str, *d: float) -> Callable[[Shot], None]:
        def change(shot: Shot) -> None:
            shot.info.distortion_model, shot.info.d = name, np.array(d)

        return change

    def compressed(shot: Shot) -> None:
        coding = "rgb8; png compressed bgr8"
        send_color(shot, bags.png_message(shot.rgb, coding, shot.stamp_ns))

    unknown = (Refused("BAD_CAMERA_INFO", ("lens_of_mine",)),)
    short = (Refused("BAD_CAMERA_INFO", ("3",)),)
    return (
        *raw,
        # Rectified, an object has half as many pixels.
        Situation(
            "raw images of a lens: equidistant fisheye of 130 degrees",
            (Right(0.05),),
            camera=replace(FISHEYE, focal=280.0),
            topics=RAW_TOPICS,
        ),
        Situation(
            "raw compressed images of a lens",
            (Right(0.02),),
            compressed,
            camera=WIDE,
            topics=RAW_TOPICS,
        ),
        Situation(
            "raw images on a topic named image_rect, rectify=always",
            (Right(0.02),),
            camera=WIDE,
            options=("--rectify", "always"),
            parameters={"rectify": "always"},
        ),
        Situation("rectified images, camera_info keeps the raw K and D", RIGHT, keeps_d),
        Situation(
            "the same on /camera/color/image_rect_color",
            RIGHT,
            rectified_topics,
            topics={
                "rgb": "/camera/color/image_rect_color",
                "depth": "/camera/depth_registered/image_rect",
                "info": "/camera/color/camera_info",
            },
        ),
        Situation(
            "raw images, D all zero", RIGHT, model("plumb_bob", *(0.0,) * 5), topics=RAW_TOPICS
        ),
        Situation("raw images, D empty", RIGHT, model(""), topics=RAW_TOPICS),
        Situation(
            "raw images of an unknown distortion model",
            unknown,
            model("lens_of_mine", 0.9, 0.1),
            topics=RAW_TOPICS,
        ),
        Situation(
            "raw images, D of 3 coefficients",
            short,
            model("plumb_bob", -0.3, 0.1, 0.02),
            topics=RAW_TOPICS,
        ),
        Situation(
            "raw images, D with NaN",
            (Refused("BAD_CAMERA_INFO", ("nan|finite",)),),
            model("plumb_bob", -0.3, float("nan"), 0.0, 0.0, 0.0),
            topics=RAW_TOPICS,
        ),
    )


def info_situations() -> tuple[Situation, ...]:
    """Intrinsics that are another camera's, another size's, or no calibration."""

    def k_and_p(k: Camera | None, p: Camera | None, **values: float) -> Callable[[Shot], None]:
        """K and P of these cameras, None = all zero; cx, cy replaced by `values`."""

        def change(shot: Shot) -> None:
            shot.info.k = np.zeros(9) if k is None else k.k.reshape(9).copy()
            shot.info.p = np.zeros(12) if p is None else info_message(p, 0).p
            for name, (in_k, in_p) in {"cx": (2, 2), "cy": (5, 6)}.items():
                if name in values:
                    shot.info.k[in_k] = shot.info.p[in_p] = values[name]

        return change

    def focal(pixels: float, **values: float) -> Callable[[Shot], None]:
        return k_and_p(Camera(pixels), Camera(pixels), **values)

    good = Camera()
    return (
        Situation("a correct camera", RIGHT),
        Situation("a correct camera of another driver", RIGHT, topics=RAW_TOPICS),
        Situation("focal length 1.0", (Refused("BAD_CAMERA_INFO", ("focal|fx=1",)),), focal(1.0)),
        Situation("K all zero, P filled", RIGHT, k_and_p(None, good)),
        Situation("P all zero, K filled", RIGHT, k_and_p(good, None)),
        Situation(
            "K and P all zero", (Refused("BAD_CAMERA_INFO", ("focal|calibrat",)),), focal(0.0)
        ),
        Situation(
            "K of 320x240 in a camera_info of 640x480",
            IMPLAUSIBLE,
            focal(FOCAL / 2, cx=159.5, cy=119.5),
        ),
        Situation(
            "the same, principal point a little off",
            IMPLAUSIBLE,
            focal(FOCAL / 2, cx=163.1, cy=121.8),
        ),
        Situation("K six times too large", IMPLAUSIBLE, focal(6 * FOCAL, cx=1919.5, cy=1439.5)),
        Situation("cx, cy as fractions of the image", IMPLAUSIBLE, focal(FOCAL, cx=0.5, cy=0.5)),
        Situation("all of K as fractions of the image", IMPLAUSIBLE, focal(0.94, cx=0.5, cy=0.5)),
        Situation("field of view of 4 degrees", IMPLAUSIBLE, focal(9200.0)),
        Situation("field of view of 156 degrees", IMPLAUSIBLE, focal(68.0)),
        Situation("full resolution and binning 2", RIGHT, _binned),
        Situation("region of interest", RIGHT, _cropped, camera=Camera(420.0)),
        Situation(
            "a region of interest that is not the image's size",
            (Refused("BAD_CAMERA_INFO", ("480x360", "640x480", "roi|region of interest")),),
            _wrong_roi,
        ),
        Situation("camera_info without a stamp", RIGHT, _info_without_stamp),
        Situation("camera_info without a stamp, latched once", RIGHT, _latched),
        Situation(
            "camera_info without a stamp, of another size",
            (Refused("BAD_CAMERA_INFO", ("320x240", "640x480")),),
            _small_info_without_stamp,
        ),
        Situation(
            "camera_info 5 s old",
            (Right(), Refused("BAD_CAMERA_INFO", ("5.0", "camera_info"))),
            _old_info,
        ),
    )


def _binned(shot: Shot) -> None:
    shot.info.width, shot.info.height = 2 * WIDTH, 2 * HEIGHT
    shot.info.binning_x = shot.info.binning_y = 2
    for values, places in ((shot.info.k, (0, 2, 4, 5)), (shot.info.p, (0, 2, 5, 6))):
        for place in places:
            values[place] *= 2


def _cropped(shot: Shot) -> None:
    x, y, width, height = 80, 60, 480, 360
    frame_id = shot.color.header.frame_id
    shot.color = bags.image(shot.rgb[y : y + height, x : x + width], "rgb8", shot.stamp_ns)
    shot.color.header.frame_id = frame_id
    millimetres = np.rint(shot.metres * 1000).astype(np.uint16)
    send_depth(shot, millimetres[y : y + height, x : x + width], "16UC1")
    shot.info.roi = replace(
        shot.info.roi, x_offset=x, y_offset=y, width=width, height=height, do_rectify=False
    )
    shot.regions = {
        label: (x1 - x, y1 - y, x2 - x, y2 - y) for label, (x1, y1, x2, y2) in shot.regions.items()
    }


def _wrong_roi(shot: Shot) -> None:
    shot.info.roi = replace(shot.info.roi, x_offset=80, y_offset=60, width=480, height=360)


def _info_without_stamp(shot: Shot) -> None:
    shot.info.header.stamp = bags.header(0).stamp


def _small_info_without_stamp(shot: Shot) -> None:
    _info_without_stamp(shot)
    shot.info.width, shot.info.height = WIDTH // 2, HEIGHT // 2


def _latched(shot: Shot) -> None:
    """One camera_info first, then more images than any buffer has places."""
    _info_without_stamp(shot)
    first = shot.stamp_ns - 40 * bags.PERIOD_NS
    shot.before = [bags.record(shot.topics["info"], bags.CAMERA_INFO, shot.info, first)]
    for number in range(1, 40):
        stamp_ns = first + number * bags.PERIOD_NS
        for name, message in (("rgb", shot.color), ("depth", shot.depth)):
            earlier = with_stamp(message, stamp_ns)
            record = bags.record(shot.topics[name], bags.IMAGE, earlier, stamp_ns)
            shot.before.append(record)
    shot.info = None


def _old_info(shot: Shot) -> None:
    then_ns = shot.stamp_ns - 5_000_000_000
    old = with_stamp(shot.info, then_ns)
    shot.before = [bags.record(shot.topics["info"], bags.CAMERA_INFO, old, then_ns)]
    shot.info = None


def registration_situations() -> tuple[Situation, ...]:
    """Depth that is not the colour image's: same size, another camera's view."""
    topics = {**RAW_TOPICS, "depth": "/camera/depth/image_rect_raw"}
    depth_camera = Camera(380.0, moved_m=-0.05)

    def unregistered(shot: Shot) -> None:
        metres = view(depth_camera)[1]
        send_depth(shot, np.rint(metres * 1000).astype(np.uint16), "16UC1")
        shot.depth.header.frame_id = "camera_depth_optical_frame"

    def with_depth_info(shot: Shot) -> None:
        unregistered(shot)
        info = info_message(depth_camera, shot.stamp_ns)
        info.header.frame_id = "camera_depth_optical_frame"
        record = bags.record("/camera/depth/camera_info", bags.CAMERA_INFO, info, shot.stamp_ns)
        shot.before.append(record)

    def other_name(shot: Shot) -> None:
        shot.depth.header.frame_id = "camera_depth_optical_frame"

    def half_size(shot: Shot) -> None:
        send_depth(shot, np.rint(shot.metres[::2, ::2] * 1000).astype(np.uint16), "16UC1")

    doubtful = (Cautioned("unregistered_depth"), Refused("BAD_DEPTH", ("regist|align",)))
    return (
        Situation(
            "depth image_rect_raw of the same size, not registered",
            doubtful,
            unregistered,
            topics=topics,
        ),
        Situation(
            "the same with the depth camera's camera_info in the bag",
            doubtful,
            with_depth_info,
            topics=topics,
            # The node has no such subscription; the bag may prove more.
            same=False,
        ),
        Situation(
            "registered depth that keeps the depth camera's frame_id",
            (Right(), Cautioned("unregistered_depth")),
            other_name,
            topics=topics,
        ),
        Situation(
            "depth of half the size",
            (Refused("BAD_DEPTH", ("320x240", "640x480")),),
            half_size,
        ),
    )


def mount_situations() -> tuple[Situation, ...]:
    """Cameras that are turned about their optical axis, with and without a known vertical."""
    no_tf = "the wheels have no tf2_ros; see tests/ros/test_gravity.py"
    rows = []
    for scene, focal in (("table", 420.0), ("from above", FOCAL), ("wall", FOCAL)):
        seen: tuple[str, ...] = ("height",) if scene == "wall" else ()
        for roll in (0, 90, 180, 270):
            camera = Camera(focal, roll_degrees=roll, scene=scene)
            name = f"camera turned by {roll} degrees, {scene}"
            up = ",".join(f"{value:.6f}" for value in camera.up)
            rows.append(
                Situation(
                    f"{name}, --up given",
                    (Right(only=seen),),
                    camera=camera,
                    options=("--up", up),
                    why_no_node=no_tf,
                )
            )
            rows.append(
                Situation(
                    f"{name}, /tf_static given",
                    (Right(only=seen),),
                    _with_transform,
                    camera=camera,
                    options=("--gravity-frame", "base_link"),
                    why_no_node=no_tf,
                )
            )
            either = (Right(only=seen), Cautioned("up_uncertain"))
            rows.append(Situation(f"{name}, up not given", either, camera=camera))
    return tuple(rows)


def _with_transform(shot: Shot) -> None:
    """/tf_static from base_link, whose Z points up, to the optical frame."""
    x, y, z, w = Rotation.from_matrix(shot.camera.pose[:3, :3]).as_quat()
    transform = bags.make(
        "geometry_msgs/msg/TransformStamped",
        header=replace(bags.header(shot.stamp_ns), frame_id="base_link"),
        child_frame_id=shot.color.header.frame_id,
        transform=bags.make(
            "geometry_msgs/msg/Transform",
            translation=bags.make("geometry_msgs/msg/Vector3", x=0.0, y=0.0, z=0.5),
            rotation=bags.make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w),
        ),
    )
    kind = "tf2_msgs/msg/TFMessage"
    message = bags.make(kind, transforms=[transform])
    shot.before.append(bags.record("/tf_static", kind, message, shot.stamp_ns))
