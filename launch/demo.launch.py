"""Starts the spatial query node on a recorded bag, played in a loop with its own clock.

    ros2 launch sdvlm demo.launch.py bag:=/path/to/bag

Other arguments are those of spatial_query.launch.py, which it includes.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node


def generate_launch_description() -> LaunchDescription:
    """The node with use_sim_time, and the player that makes the time."""
    share = Path(get_package_share_directory("sdvlm"))
    value = LaunchConfiguration
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(share / "launch/spatial_query.launch.py")),
        launch_arguments={"use_sim_time": "true"}.items(),
    )
    player = Node(
        package="sdvlm",
        executable="sdvlm_replay",
        namespace=value("namespace"),
        prefix=value("python"),
        output="screen",
        arguments=[value("bag"), "--loop", "--rate", value("rate")],
        # A bag's names are absolute; these bring them into the node's namespace.
        remappings=[
            ("/rgb/image_rect_color", value("rgb")),
            ("/depth_registered/image_rect", value("depth")),
            ("/rgb/camera_info", value("info")),
        ],
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="A bag's directory."),
            DeclareLaunchArgument("rate", default_value="1.0", description="Speed of the bag."),
            # First, because it sets the Fast DDS profile that the player needs too.
            node,
            player,
        ]
    )
