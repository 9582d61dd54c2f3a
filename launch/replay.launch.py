"""Starts the spatial query node on a recorded bag, played as a live camera with its own clock.

    ros2 launch sdvlm replay.launch.py bag:=/path/to/bag camera:=realsense

Topics keep their recorded names: set them with camera:= or rgb:=, depth:= and info:=. Other
arguments are those of spatial_query.launch.py, which it includes.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.conditions import IfCondition, UnlessCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node


def generate_launch_description() -> LaunchDescription:
    """The node with use_sim_time, and the player that publishes /clock."""
    share = Path(get_package_share_directory("sdvlm"))
    value = LaunchConfiguration
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(share / "launch/spatial_query.launch.py")),
        launch_arguments={"use_sim_time": "true"}.items(),
    )

    def player(condition: object, *options: str) -> Node:
        return Node(
            package="sdvlm",
            executable="sdvlm_replay",
            prefix=value("python"),
            output="screen",
            arguments=[value("bag"), "--rate", value("rate"), *options],
            condition=condition,
        )

    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="Directory of the bag."),
            DeclareLaunchArgument("rate", default_value="1.0", description="Speed of the bag."),
            DeclareLaunchArgument("loop", default_value="true", description="Restart at the end."),
            # The node comes first, because it sets the Fast DDS profile that the player also needs.
            node,
            player(IfCondition(value("loop")), "--loop"),
            player(UnlessCondition(value("loop"))),
        ]
    )
