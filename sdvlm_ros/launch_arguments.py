"""Checks of the launch files' arguments, before anything is started.

An error of a launch file names the argument or file and what to do. Does not know launch.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_prefix

from sdvlm_ros.camera_names import refusal

_TRUE = ("true", "1", "yes", "on")
_FALSE = ("false", "0", "no", "off")
_PARAMETERS = "ros__parameters"


def truth(name: str, text: str) -> bool:
    """The value of a switch: true, 1, yes, on, or false, 0, no, off, in any case.

    Raises:
        ValueError: another text.
    """
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(f"{name}:={text!r} is neither true nor false ({', '.join(_TRUE + _FALSE)})")


def number(name: str, text: str) -> float:
    """The value of a numeric argument.

    Raises:
        ValueError: another text.
    """
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name}:={text!r} is not a number") from None


def token(name: str, text: str) -> str:
    """The value of an argument that is one name of the ROS graph, such as a node's.

    Raises:
        ValueError: another text.
    """
    if re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", text):
        return text
    raise ValueError(
        f"{name}:={text!r} is not a name: use letters, digits and _, a letter first; a namespace "
        "is the argument namespace"
    )


def camera_names(text: str) -> list[str]:
    """The names in the argument `cameras`; [] = one camera without a name.

    Raises:
        ValueError: the node would refuse them.
    """
    names = [name for name in re.split(r"[,\s]+", text.strip("[] ")) if name]
    if names and (reason := refusal(names)):
        raise ValueError(f"cameras:={text!r}: {reason}")
    return names


def camera_topic(
    argument: str, topic: str, given: str, preset: str, cameras: list[str]
) -> list[tuple[str, str]]:
    """Remappings of one input: (its name in the node, topic), for each camera.

    Args:
        argument: name of the launch argument.
        topic: name of the input in a node with one camera.
        given: value of the argument, with {camera} for the name of each of several; "" = none.
        preset: the preset's topic for one camera; "" = none.
        cameras: as `camera_names` returns them.

    Raises:
        ValueError: several cameras would have the same topic.
    """
    if not cameras:
        return [(topic, given or preset or topic)]
    if given and "{camera}" not in given and len(cameras) > 1:
        raise ValueError(
            f"{argument}:={given!r} is one topic for the cameras {', '.join(cameras)}: write "
            "{camera} where their names are, for example /{camera}/color/image_raw"
        )
    if preset and not given:
        raise ValueError(
            f"with cameras:={','.join(cameras)} the preset's topic {preset} is of one camera only: "
            f"set {argument}:= to the topics, with {{camera}} where their names are"
        )
    if not given:
        return []  # <camera>/<topic> already
    return [(f"{name}/{topic}", given.replace("{camera}", name)) for name in cameras]


def params_file(text: str, node: str = "/spatial_query") -> str:
    """The path of a parameters file, checked as far as launch and rcl do not name the mistake.

    Args:
        node: name of the node with its namespace; rcl ignores the values of all other nodes.

    Raises:
        ValueError: there is no such file, it is not YAML, has no `ros__parameters`, or is for
            other nodes only.
    """
    path = Path(text).expanduser()
    if not path.is_file():
        raise ValueError(f"params_file:={text!r}: there is no such file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"params_file {path} is not readable as YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"params_file {path} has no mapping NODE: {_PARAMETERS}: ...")
    nodes: list[str] = []
    for name, below in content.items():
        _check_node(path, str(name), below, nodes)
    wanted = "/" + node.strip("/")
    if nodes and not any(_matches(pattern, wanted) for pattern in nodes):
        raise ValueError(
            f"params_file {path} is for {', '.join(nodes)}, not for the node {wanted} (arguments "
            "namespace and node_name): name that node, or /**"
        )
    return str(path)


def _matches(pattern: str, node: str) -> bool:
    """Whether rcl takes the values of an entry: `*` is one name, `**` any number of names."""
    wildcards = {"*": r"/\w+", "**": r"(/\w+)*"}
    parts = pattern.strip("/").split("/")
    expression = "".join(wildcards.get(part, "/" + re.escape(part)) for part in parts)
    return re.fullmatch(expression, node) is not None


def _check_node(path: Path, name: str, below: Any, nodes: list[str], depth: int = 0) -> None:
    """Every node's mapping ends in `ros__parameters`; namespaces may be nested above it.

    The names of the nodes are appended to `nodes`.
    """
    if not isinstance(below, dict) or depth > 8:
        raise ValueError(f"params_file {path}: {name!r} has no {_PARAMETERS}")
    if _PARAMETERS in below:
        nodes.append(name)
        return
    for key, further in below.items():
        if get_close_matches(str(key), [_PARAMETERS], 1, cutoff=0.8):
            raise ValueError(
                f"params_file {path}: {name!r} has the key {key!r}; it must be {_PARAMETERS} "
                "(two underscores)"
            )
        _check_node(path, f"{name}/{key}", further, nodes, depth + 1)


def check_rviz() -> None:
    """Raise an error unless RViz can be started.

    Raises:
        ValueError: the package rviz2 is not installed.
    """
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError as error:
        raise ValueError(
            "rviz:=true needs the package rviz2, which is not installed: install "
            "ros-$ROS_DISTRO-rviz2, or leave rviz out"
        ) from error
