"""Measures the regions of a frame in 3-D, from depth alone.

`measure` is the entry point; `scene` shares a frame's point cloud and support planes; `drawing`
draws the result. Does not know models, messages or ROS.
"""
