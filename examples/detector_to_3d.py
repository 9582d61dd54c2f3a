#!/usr/bin/env python3
"""2-D boxes of any detector -> 3-D boxes: one request to ~/measure_regions for each image.

Reads one JSON document a line with the fields of vision_msgs/Detection2DArray, as
`ros2 topic echo` or a bridge writes them, and prints one line with those of Detection3DArray, and
with standard deviations and warnings, which that message does not have. Needs no vision_msgs; where
it is installed, `boxes_of` takes the message itself, and the node's parameter `measure_detections`
does all of this without a client (docs/node.md).

    echo '{"detections": [{"bbox": {"center": {"position": {"x": 228, "y": 246}},
      "size_x": 77, "size_y": 107}, "results": [{"hypothesis": {"class_id": "mug",
      "score": 0.9}}]}]}' | tr -d '\\n' | python3 examples/detector_to_3d.py

Without a stamp in the header, or with 0, the boxes are measured in the node's newest frame: right
only for a scene that stands still. Exit status 1 after a refused line.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from types import SimpleNamespace
from typing import Any

from sdvlm.msg import RegionMeasurement
from sdvlm.srv import MeasureRegions
from sdvlm_ros.client import UNFIT, SpatialClient, SpatialQueryFailed


def boxes_of(detections: Any) -> dict[str, tuple[float, float, float, float]]:
    """Box (x1, y1, x2, y2) in pixels by a unique label, of a Detection2DArray or its likeness."""
    boxes = {}
    for number, detection in enumerate(detections.detections):
        box, centre = detection.bbox, detection.bbox.center.position
        x, y = box.size_x / 2, box.size_y / 2
        label = f"{number} {best(detection).class_id}"
        # A detector's box may extend beyond the image; a region starts at 0.
        boxes[label] = (max(0, centre.x - x), max(0, centre.y - y), centre.x + x, centre.y + y)
    return boxes


def best(detection: Any) -> Any:
    """The hypothesis with the highest score."""
    return max((one.hypothesis for one in detection.results), key=lambda one: one.score)


def stamp_ns(detections: Any) -> int:
    """The stamp of the image in which the boxes were detected; 0 = not given."""
    header = getattr(detections, "header", None)
    return 0 if header is None else header.stamp.sec * 10**9 + header.stamp.nanosec


def detection_3d(measured: RegionMeasurement, found: Any) -> dict[str, Any]:
    """The fields of a Detection3D; null = unknown. The box is unfit if `unfit` is not empty."""
    position, turned = measured.pose.position, measured.pose.orientation
    size = (measured.length, measured.width, measured.height)
    deviations = (measured.length_std_dev, measured.width_std_dev, measured.height_std_dev)
    return {
        "results": [{"hypothesis": {"class_id": found.class_id, "score": found.score}}],
        "bbox": {
            "center": {"position": _xyz(position), "orientation": _xyz(turned, "xyzw")},
            # Along the axes of the pose: length, width, height.
            "size": {axis: _known(side) for axis, side in zip("xyz", size, strict=True)},
        },
        "position_std_dev": _known(measured.position_std_dev),
        "size_std_dev": {axis: _known(one) for axis, one in zip("xyz", deviations, strict=True)},
        "warnings": list(measured.warnings),
        "unfit": sorted(UNFIT.intersection(measured.warnings)),
    }


def _xyz(message: Any, axes: str = "xyz") -> dict[str, float | None]:
    return {axis: _known(getattr(message, axis)) for axis in axes}


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def detections_3d(client: SpatialClient, detections: Any, frame: str) -> dict[str, Any]:
    """Measure all boxes of one image; raises SpatialQueryFailed."""
    boxes = boxes_of(detections)
    if not boxes:
        return {"detections": []}
    response: MeasureRegions.Response = client.measure(
        boxes, stamp_ns=stamp_ns(detections), target_frame=frame
    )
    stamp = response.header.stamp
    return {
        "header": {
            "stamp": {"sec": stamp.sec, "nanosec": stamp.nanosec},
            "frame_id": response.header.frame_id,
        },
        "detections": [
            detection_3d(measured, best(detection))
            for measured, detection in zip(response.regions, detections.detections, strict=True)
        ],
    }


def main() -> int:
    """Answer every line of stdin with one line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--server", default="/spatial_query", help="name of the node")
    parser.add_argument("--target-frame", default="", help='"" = the node\'s')
    arguments = parser.parse_args()
    status = 0
    with SpatialClient(arguments.server) as client:
        for line in sys.stdin:
            try:
                array = json.loads(line, object_hook=lambda fields: SimpleNamespace(**fields))
                print(json.dumps(detections_3d(client, array, arguments.target_frame)), flush=True)
            except SpatialQueryFailed as refused:
                print(f"detector_to_3d: {refused}", file=sys.stderr)
                status = 1
            except (ValueError, AttributeError, TypeError) as error:
                print(f"detector_to_3d: the line is no Detection2DArray: {error}", file=sys.stderr)
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
