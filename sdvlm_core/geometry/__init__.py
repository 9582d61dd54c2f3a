"""Region of a frame -> 3-D measurements, from depth alone.

`measure` is the entry point; `scene` shares a frame's point cloud and support planes; `drawing`
draws the result. Does not know models, messages or ROS.
"""
