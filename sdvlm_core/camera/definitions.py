"""The message definitions of the ROS package `sdvlm`, for bags written without ROS.

The text of msg/*.msg without comments, because a pip installation has no msg directory; a test
compares the two. Does not know what the fields mean.
"""

from __future__ import annotations

ASKED = """\
uint8 FREE = 0
uint8 HEIGHT = 1
uint8 WIDTH = 2
uint8 LENGTH = 3
uint8 SIZE = 4
uint8 DISTANCE = 5
uint8 GAP = 6
uint8 CAMERA_DISTANCE = 7
uint8 POSITION = 8
uint8 COUNT = 9
uint8 EXISTS = 10
uint8 COMPARISON = 11
uint8 DIFFERENCE = 12
uint8 quantity
string[] objects
string relation
bool which
string unit
string reference
"""

IMAGE_POINT = """\
float64 u
float64 v
"""

MEASUREMENT = """\
uint8 kind
float64 value
float64 std_dev
uint8 LANGUAGE = 0
uint8 GEOMETRY = 1
uint8 FUSED = 2
uint8 source
string[] objects
string text
"""

SPATIAL_ANSWER = """\
std_msgs/Header header
string camera
string id
string question
Asked asked
uint8 OK = 0
uint8 NO_ANSWER = 1
uint8 NOT_VISIBLE = 2
uint8 NO_DEPTH = 3
uint8 DISAGREEMENT = 4
uint8 TF_UNAVAILABLE = 5
uint8 status
string text
Measurement[] measurements
string why_none
ImagePoint[] image_points
geometry_msgs/Point[] positions
string[] position_labels
uint8 UNDECIDED = 0
uint8 HOLDS = 1
uint8 DOES_NOT_HOLD = 2
uint8 verdict
string chosen
float32 confidence
string model_id
string depth_source
string[] cautions
builtin_interfaces/Duration queue_time
builtin_interfaces/Duration encode_time
builtin_interfaces/Duration generate_time
"""

#: Type name -> definition.
DEFINITIONS = {
    "sdvlm/msg/Asked": ASKED,
    "sdvlm/msg/ImagePoint": IMAGE_POINT,
    "sdvlm/msg/Measurement": MEASUREMENT,
    "sdvlm/msg/SpatialAnswer": SPATIAL_ANSWER,
}
