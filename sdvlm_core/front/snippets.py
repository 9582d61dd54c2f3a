"""The page's measurement or question elsewhere: a command, a ROS service call, Python.

Text for people to copy. Every value from outside is quoted for its language. Does not run anything.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from sdvlm_core.camera.settings import DEFAULT_SETTINGS
from sdvlm_core.frame import Region
from sdvlm_core.front.backend import Origin
from sdvlm_core.front.source import DEFAULT_SLOP_S, Source
from sdvlm_core.geometry.sensor_noise import DEFAULT_SENSOR

_DEFAULT_NODE = "/spatial_query"
_NANO = Origin("files", "", model="nano")
_NS = 1_000_000_000


def measurement_snippets(
    source: Source,
    regions: Sequence[Region],
    at_s: float | None = None,
    stamp_ns: int = 0,
) -> dict[str, str]:
    """The measurement of some regions, by language: "ros" and "python", and "cli" without a node.

    Args:
        at_s: the time in a bag that the frame was taken at; None = as the source says.
        stamp_ns: of the node's frame; of files and bags the call is for the newest frame.
    """
    if source.node is not None:
        return {
            "ros": _ros(source, regions, stamp_ns),
            "python": _client(source, regions, stamp_ns),
        }
    return {
        "cli": _command(source, regions, at_s),
        "ros": _ros(source, regions, 0),
        "python": _python(source, regions, at_s),
    }


def question_snippets(
    source: Source,
    question: str,
    regions: Sequence[Region],
    verify: bool,
    at_s: float | None = None,
    stamp_ns: int = 0,
    origin: Origin = _NANO,
) -> dict[str, str]:
    """A question, as `measurement_snippets`; "cli" for image files only, which `sdvlm ask` reads.

    Args:
        regions: those that the answer is checked with.
        origin: has the model that answered; of a node, its own.
    """
    if source.node is not None:
        return {
            "ros": _ros_question(source, question, regions, verify, stamp_ns),
            "python": _client_question(source, question, regions, verify, stamp_ns),
        }
    snippets = {
        "ros": _ros_question(source, question, regions, verify, 0),
        "python": _python_question(source, question, regions, verify, at_s, origin),
    }
    if source.rgb is not None:
        words = ["sdvlm", "ask", question, *_options(source, at_s), "--model", origin.model]
        if origin.server:
            words += ["--server", origin.server]
        if origin.served_model:
            words += ["--served-model", origin.served_model]
        words += [*_region_options(regions), *(["--verify"] if verify else []), "--json"]
        snippets["cli"] = shlex.join(words)
    return snippets


def _command(source: Source, regions: Sequence[Region], at_s: float | None) -> str:
    words = ["sdvlm", "measure", *_options(source, at_s), *_region_options(regions), "--json"]
    return shlex.join(words)


def _options(source: Source, at_s: float | None) -> list[str]:
    """The options that name the frame, without those at their defaults."""
    time_s = source.time_s if at_s is None else at_s
    values: dict[str, Any] = {
        "--rgb": source.rgb,
        "--bag": source.bag,
        "--time": None if source.bag is None else time_s,
        "--color": source.color,
        "--depth": source.depth,
        "--info": source.info,
        "--intrinsics": source.intrinsics,
        "--sync-slop": None if source.sync_slop_s == DEFAULT_SLOP_S else source.sync_slop_s,
        "--gravity-frame": source.gravity_frame or None,
        "--depth-scale": source.depth_scale,
        "--up": None if source.up is None else ",".join(map(str, source.up)),
        "--sensor": None if source.sensor == DEFAULT_SENSOR else source.sensor,
        "--rectify": _changed(source),
    }
    words = []
    for option, value in values.items():
        if value is not None:
            # A value that begins with "-" would be taken for an option.
            words += [f"{option}={value}"] if str(value).startswith("-") else [option, str(value)]
    return words


def _region_options(regions: Sequence[Region]) -> list[str]:
    words = []
    for region in regions:
        pixels = ",".join(f"{value:g}" for value in region.box or region.point or ())
        words += ["--region" if region.box is not None else "--point", f"{region.label}={pixels}"]
    return words


def _changed(source: Source) -> str | None:
    rectify = source.settings.rectify
    return None if rectify == DEFAULT_SETTINGS.rectify else rectify


def _ros(source: Source, regions: Sequence[Region], stamp_ns: int) -> str:
    return _call(source, "measure_regions", "sdvlm/srv/MeasureRegions", {}, regions, stamp_ns)


def _ros_question(
    source: Source, question: str, regions: Sequence[Region], verify: bool, stamp_ns: int
) -> str:
    request = {"question": question, "verify": verify}
    return _call(source, "query", "sdvlm/srv/SpatialQuery", request, regions, stamp_ns)


def _call(
    source: Source,
    service: str,
    kind: str,
    request: dict[str, Any],
    regions: Sequence[Region],
    stamp_ns: int,
) -> str:
    request = {**request, "regions": [_region_message(region) for region in regions]}
    if stamp_ns:
        request["stamp"] = {"sec": stamp_ns // _NS, "nanosec": stamp_ns % _NS}
    if source.camera:
        request["camera"] = source.camera
    service = f"{source.node or _DEFAULT_NODE}/{service}"
    # JSON is YAML, which the command reads.
    return shlex.join(["ros2", "service", "call", service, kind, json.dumps(request)])


def _region_message(region: Region) -> dict[str, Any]:
    """A sdvlm/msg/Region: whole pixels, because its ROI has no others."""
    if region.box is not None:
        x1, y1, x2, y2 = (max(0, round(value)) for value in region.box)
        roi = {"x_offset": x1, "y_offset": y1, "width": x2 - x1, "height": y2 - y1}
    else:
        u, v = region.point or (0.0, 0.0)
        roi = {"x_offset": max(0, round(u)), "y_offset": max(0, round(v))}
    return {"label": region.label, "roi": roi}


def _shapes(regions: Sequence[Region]) -> str:
    return repr({region.label: region.box or region.point for region in regions})


def _client(source: Source, regions: Sequence[Region], stamp_ns: int) -> str:
    return _with_client(source, f"client.measure({_shapes(regions)}", stamp_ns)


def _client_question(
    source: Source, question: str, regions: Sequence[Region], verify: bool, stamp_ns: int
) -> str:
    more = f", regions={_shapes(regions)}" if regions else ""
    return _with_client(source, f"client.ask({question!r}, verify={verify}{more}", stamp_ns)


def _with_client(source: Source, call: str, stamp_ns: int) -> str:
    """A program around a call that is still open."""
    camera = f", camera={source.camera!r}" if source.camera else ""
    return (
        "from sdvlm_ros.client import SpatialClient\n\n"
        f"with SpatialClient({source.node!r}) as client:\n"
        "    client.wait_for_node()\n"
        f"    print({call}, stamp_ns={stamp_ns}{camera}))\n"
    )


def _python(source: Source, regions: Sequence[Region], at_s: float | None) -> str:
    imports, frame = _read(source, at_s)
    return (
        f"from pathlib import Path\n\nimport sdvlm_core as sdvlm\n{imports}\n{frame}"
        f"regions = {_region_list(regions)}\n"
        f"found, pairs = sdvlm.measure(frame, regions, {source.sensor!r})\n"
        "for one in found:\n"
        "    print(one.label, one.length_m, one.width_m, one.height_m, one.std_dev, one.warnings)\n"
    )


def _python_question(
    source: Source,
    question: str,
    regions: Sequence[Region],
    verify: bool,
    at_s: float | None,
    origin: Origin,
) -> str:
    imports, frame = _read(source, at_s)
    load = f"sdvlm.load({origin.model!r})"
    if origin.server:
        imports += "from sdvlm_core.engine import LoadOptions, load_engine\n"
        load = (
            f"load_engine(LoadOptions({origin.model!r}, server={origin.server!r}, "
            f"served_model={origin.served_model!r}))"
        )
    check = ""
    if verify:
        imports += "from sdvlm_core.verification import verify\n"
        known = f"{_region_list(regions)}, {source.sensor!r}"
        check = f"answer, checks = verify(session, answer, {known})\n"
    return (
        f"from pathlib import Path\n\nimport sdvlm_core as sdvlm\n{imports}\n{frame}"
        f"session = {load}.open(frame)\n"
        f"answer = session.ask({question!r})\n{check}"
        "print(answer.text, answer.measurements, answer.cautions)\n"
    )


def _region_list(regions: Sequence[Region]) -> str:
    shapes = [
        f"sdvlm.Region({region.label!r}, "
        + (f"box={region.box!r})" if region.box is not None else f"point={region.point!r})")
        for region in regions
    ]
    if len(shapes) < 2:
        return f"[{''.join(shapes)}]"
    return "[\n" + "".join(f"    {shape},\n" for shape in shapes) + "]"


def _read(source: Source, at_s: float | None) -> tuple[str, str]:
    """The lines that import, and those that read the frame."""
    imports, settings = "", ""
    if source.settings != DEFAULT_SETTINGS:
        imports = "from sdvlm_core.camera.settings import CameraSettings\n"
        settings = f"settings={source.settings!r}, "
    up = f"up={source.up!r}, " if source.up is not None else ""
    if source.bag is None:
        depth = None if source.depth is None else f"Path({source.depth!r})"
        intrinsics = None if source.intrinsics is None else f"Path({str(source.intrinsics)!r})"
        files = f"Path({str(source.rgb)!r}), {depth}, {intrinsics}"
        scale = f", {source.depth_scale!r}" if source.depth_scale is not None else ""
        more = f", {settings}{up}".rstrip(", ")
        return imports, f"frame = sdvlm.read_frame({files}{scale}{more})\n"
    imports += (
        "from sdvlm_core.camera.bag_frames import CameraOptions\n"
        "from sdvlm_core.camera.bag_moment import read_bag_frame\n"
    )
    topics = {"color": source.color, "depth": source.depth, "info": source.info}
    named = "".join(f"{key}={value!r}, " for key, value in topics.items() if value is not None)
    if source.gravity_frame:
        named += f"gravity_frame={source.gravity_frame!r}, "
    options = f"CameraOptions({named}{settings}{up}".rstrip(", ") + ")"
    time_s = source.time_s if at_s is None else at_s
    bag = f"Path({str(source.bag)!r})"
    return (
        imports,
        f"frame = read_bag_frame({bag}, {options}, {source.sync_slop_s!r}, {time_s!r})\n",
    )
