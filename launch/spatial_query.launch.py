"""Starts the spatial query node for a camera.

    ros2 launch sdvlm spatial_query.launch.py camera:=realsense python:=$HOME/sdvlm_venv/bin/python3

`camera:=` selects topics, depth noise and transports from config/cameras/. Explicit arguments
(rgb:=, depth:=, info:=, ...) override the preset, and the preset overrides params_file. Sets the
Fast DDS profile for this node; the camera driver's process needs the same profile. A wrong argument
is an error before anything is started.

Several cameras of one kind share the node and its model:

    ros2 launch sdvlm spatial_query.launch.py cameras:=left,right camera:=realsense \
        rgb:=/{camera}/color/image_raw depth:=/{camera}/aligned_depth_to_color/image_raw \
        info:=/{camera}/color/camera_info
"""

from pathlib import Path

import yaml
from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import EnvironmentVariable
from launch_ros.actions import Node

from sdvlm_ros.launch_arguments import (
    camera_names,
    camera_topic,
    check_rviz,
    number,
    params_file,
    token,
    truth,
)

SHARE = Path(get_package_share_directory("sdvlm"))
CAMERAS = {path.stem: path for path in sorted((SHARE / "config/cameras").glob("*.yaml"))}
# Time before the node is started again, seconds: a wrong parameter must not fill the log.
RESPAWN_DELAY_S = 5.0
# Argument -> topic name in the node; a compressed transport is appended to it.
TOPICS = {
    "rgb": "rgb/image_rect_color",
    "depth": "depth_registered/image_rect",
    "info": "rgb/camera_info",
}
# Topics of the node that RViz shows.
VIEWED = ("annotated_image", "markers")
ARGUMENTS = {
    "camera": ("", "Preset of topics, depth noise and transports; '' = none."),
    "cameras": ("", "Names of several cameras, with commas; rgb, depth, info then hold {camera}."),
    "rgb": ("", "Colour image, rectified; '' = the preset's."),
    "depth": ("", "Depth image, registered to colour; '' = the preset's."),
    "info": ("", "Camera info of the colour image; '' = the preset's."),
    "detections": ("", "Detector's Detection2DArray, whose boxes are measured; '' = none."),
    "rgb_transport": ("", "raw or compressed; '' = the preset's."),
    "depth_transport": ("", "raw or compressedDepth; '' = the preset's."),
    "depth_unit": ("", "Metres per unit of 16UC1 depth; '' = the preset's, else params_file's."),
    "params_file": (str(SHARE / "config/spatial_query.params.yaml"), "Parameters, yaml."),
    "model": ("", "nano, a directory, or a downloaded name; '' = params_file's."),
    "use_sim_time": ("", "Use the time of /clock (simulation, bags); '' = params_file's."),
    "autostart": ("", "Configure and activate without a lifecycle manager; '' = params_file's."),
    "respawn": (
        "false",
        "Start the node again if its process has ended, which it then does if its model fails.",
    ),
    "log_level": ("info", "debug, info, warn, error or fatal."),
    "namespace": ("", "Namespace of the node and its relative topics."),
    "node_name": ("spatial_query", "Name of the node: its topics and services are below it."),
    "namespace_tf": (
        "false",
        "Use the namespace's tf and tf_static instead of /tf and /tf_static.",
    ),
    "python": ("", "Python interpreter with torch and transformers, if not the system's."),
    "rviz": ("false", "Show image, markers and answers in RViz."),
    "fixed_frame": (
        "camera_color_optical_frame",
        "Fixed frame of RViz; base_link with a robot description.",
    ),
}
CHOICES = {
    "camera": ["", *CAMERAS],
    "rgb_transport": ["", "raw", "compressed"],
    "depth_transport": ["", "raw", "compressedDepth"],
    "log_level": ["debug", "info", "warn", "error", "fatal"],
}


def nodes(context: LaunchContext) -> list[Node]:
    """The node and RViz; built at launch time, because '' stands for the preset's value.

    Raises:
        ValueError: an argument or params_file is wrong, or RViz is not installed.
    """
    value = {name: context.launch_configurations[name] for name in ARGUMENTS}
    preset = {"topics": {}, "parameters": {}}
    if value["camera"]:
        preset = yaml.safe_load(CAMERAS[value["camera"]].read_text())
    strings = ("model", "rgb_transport", "depth_transport")
    explicit = {name: value[name] for name in strings if value[name]}
    if value["depth_unit"]:
        explicit["depth_unit"] = number("depth_unit", value["depth_unit"])
    # An argument without a value must not be set: it would override params_file.
    switches = {
        name: truth(name, value[name]) for name in ("use_sim_time", "autostart") if value[name]
    }
    respawn, rviz, namespace_tf = (
        truth(name, value[name]) for name in ("respawn", "rviz", "namespace_tf")
    )
    name = token("node_name", value["node_name"])
    if respawn:
        switches["exit_on_failure"] = True
    if rviz:
        check_rviz()
    remappings = [("/tf", "tf"), ("/tf_static", "tf_static")] if namespace_tf else []
    cameras = camera_names(value["cameras"])
    if cameras:
        explicit["cameras"] = cameras
    for argument, topic in TOPICS.items():
        theirs = preset["topics"].get(argument, "")
        remappings += camera_topic(argument, topic, value[argument], theirs, cameras)
    if value["detections"]:
        switches["measure_detections"] = True
        remappings += camera_topic("detections", "detections", value["detections"], "", cameras)
    node = Node(
        package="sdvlm",
        executable="sdvlm_node",
        name=name,
        namespace=value["namespace"],
        prefix=value["python"] or None,
        output="screen",
        emulate_tty=True,
        parameters=[
            params_file(value["params_file"], f"{value['namespace'].strip('/')}/{name}"),
            preset["parameters"],
            explicit | switches,
        ],
        remappings=remappings,
        ros_arguments=["--log-level", value["log_level"]],
        respawn=respawn,
        respawn_delay=RESPAWN_DELAY_S,
        # A running question ends at its next token, which may take seconds on a busy machine.
        sigterm_timeout="20",
    )
    if not rviz:
        return [node]
    viewer = Node(
        package="rviz2",
        executable="rviz2",
        namespace=value["namespace"],
        arguments=["-d", str(SHARE / "config/sdvlm.rviz"), "-f", value["fixed_frame"]],
        parameters=[{key: on for key, on in switches.items() if key == "use_sim_time"}],
        remappings=[
            *remappings,
            # The topics of config/sdvlm.rviz have the default name. Of several cameras, the first
            # is shown.
            *(
                (f"spatial_query/{topic}", "/".join((name, *cameras[:1], topic)))
                for topic in VIEWED
            ),
        ],
    )
    return [node, viewer]


def generate_launch_description() -> LaunchDescription:
    """The arguments, the environment, the node, and RViz if requested."""
    profile = EnvironmentVariable(
        "FASTDDS_DEFAULT_PROFILES_FILE", default_value=str(SHARE / "config/fastdds.xml")
    )
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(
                    name,
                    default_value=default,
                    description=description,
                    choices=CHOICES.get(name),
                )
                for name, (default, description) in ARGUMENTS.items()
            ),
            SetEnvironmentVariable("FASTDDS_DEFAULT_PROFILES_FILE", profile),
            OpaqueFunction(function=nodes),
        ]
    )
