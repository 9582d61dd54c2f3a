"""The ROS 2 node and its clients.

Needs rclpy and the interfaces of the package `sdvlm`; everything that needs no ROS is in
`sdvlm_core`.
"""

# Checked here, before a module of this package imports them, so that the error states what to do.
# Its name is this package's, so that `python -m sdvlm_ros.node` prints the message without a
# traceback.
try:
    import rclpy  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"sdvlm_ros needs ROS 2, rclpy cannot be imported ({error}). With an installed ROS: "
        "source /opt/ros/$ROS_DISTRO/setup.bash. Without: run `make setup` in the checkout and "
        "use its .venv/bin/python",
        name=__name__,
    ) from None
try:
    import sdvlm.srv  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"sdvlm_ros needs the interfaces of the package sdvlm, which cannot be imported ({error}). "
        "In a colcon workspace: colcon build --packages-select sdvlm, then source "
        "install/setup.bash. In the checkout: make setup",
        name=__name__,
    ) from None
