"""Starts the spatial query node with nano and the simulated camera: no hardware, no GPU.

    ros2 launch sdvlm demo.launch.py rviz:=true
    ros2 service call /spatial_query/query sdvlm/srv/SpatialQuery \
        "{question: 'How tall is the red mug?', verify: true}"

Other arguments are those of spatial_query.launch.py, which it includes.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node


def generate_launch_description() -> LaunchDescription:
    """The node with the preset of the simulated camera, and that camera."""
    share = Path(get_package_share_directory("sdvlm"))
    value = LaunchConfiguration
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(share / "launch/spatial_query.launch.py")),
        launch_arguments={"camera": "simulated"}.items(),
    )
    camera = Node(
        package="sdvlm",
        executable="sdvlm_camera",
        namespace=value("namespace"),
        prefix=value("python"),
        output="screen",
    )
    # The node comes first, because it sets the Fast DDS profile that the camera also needs.
    return LaunchDescription([node, camera])
