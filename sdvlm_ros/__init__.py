"""sdvlm on ROS 2: messages in, messages out. No arithmetic about the world lives here.

Needs rclpy and the interfaces of the ROS package `sdvlm`; the core is imported as `sdvlm_core`.
"""
