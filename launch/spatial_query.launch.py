"""Starts the spatial query node beside a camera.

    ros2 launch sdvlm spatial_query.launch.py model:=nano \
        rgb:=/camera/color/image_raw info:=/camera/color/camera_info \
        depth:=/camera/aligned_depth_to_color/image_raw

Sets the Fast DDS profile for this node; the camera driver's process needs the same one.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue


def generate_launch_description() -> LaunchDescription:
    """The node, its arguments, and the environment it needs."""
    share = Path(get_package_share_directory("sdvlm"))
    arguments = {
        "params_file": (str(share / "config/spatial_query.params.yaml"), "Parameters, yaml."),
        "model": ("nano", "nano, a directory, or a downloaded name."),
        "use_sim_time": ("false", "Take the time from /clock (simulation, bags)."),
        "autostart": ("true", "Configure and activate without a lifecycle manager."),
        "log_level": ("info", "debug, info, warn, error or fatal."),
        "namespace": ("", "Namespace of the node and its relative topics."),
        "rgb": ("rgb/image_rect_color", "Colour image, rectified."),
        "depth": ("depth_registered/image_rect", "Depth image, registered to colour."),
        "info": ("rgb/camera_info", "Camera info of the colour image."),
        "python": ("", "Interpreter with torch and transformers, if not the system's."),
    }
    profile = EnvironmentVariable(
        "FASTDDS_DEFAULT_PROFILES_FILE", default_value=str(share / "config/fastdds.xml")
    )
    value = LaunchConfiguration
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, (default, description) in arguments.items()
            ),
            SetEnvironmentVariable("FASTDDS_DEFAULT_PROFILES_FILE", profile),
            Node(
                package="sdvlm",
                executable="sdvlm_node",
                name="spatial_query",
                namespace=value("namespace"),
                prefix=value("python"),
                output="screen",
                emulate_tty=True,
                parameters=[
                    value("params_file"),
                    {
                        "model": ParameterValue(value("model"), value_type=str),
                        "use_sim_time": ParameterValue(value("use_sim_time"), value_type=bool),
                        "autostart": ParameterValue(value("autostart"), value_type=bool),
                    },
                ],
                remappings=[
                    ("rgb/image_rect_color", value("rgb")),
                    ("depth_registered/image_rect", value("depth")),
                    ("rgb/camera_info", value("info")),
                ],
                arguments=["--ros-args", "--log-level", value("log_level")],
            ),
        ]
    )
