"""Starts the spatial query node on a recorded bag, played as a live camera with its own clock.

    ros2 launch sdvlm replay.launch.py bag:=/path/to/bag camera:=realsense

Topics keep their recorded names: set them with camera:= or rgb:=, depth:= and info:=. Other
arguments are those of spatial_query.launch.py, which it includes.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import Node

from sdvlm_ros.launch_arguments import truth


def player(context: LaunchContext) -> list[Node]:
    """The process that plays the bag."""
    value = context.launch_configurations
    loop = ["--loop"] if truth("loop", value["loop"]) else []
    return [
        Node(
            package="sdvlm",
            executable="sdvlm_replay",
            prefix=value["python"] or None,
            output="screen",
            arguments=[value["bag"], "--rate", value["rate"], *loop],
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """The node with use_sim_time, and the player that publishes /clock."""
    share = Path(get_package_share_directory("sdvlm"))
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(share / "launch/spatial_query.launch.py")),
        launch_arguments={"use_sim_time": "true"}.items(),
    )

    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="Directory of the bag."),
            DeclareLaunchArgument("rate", default_value="1.0", description="Speed of the bag."),
            DeclareLaunchArgument("loop", default_value="true", description="Restart at the end."),
            # The node comes first, because it sets the Fast DDS profile that the player also needs.
            node,
            OpaqueFunction(function=player),
        ]
    )
