#!/usr/bin/env python3
"""Queries of a pick planner: the object's size and position, and whether it may be grasped.

Measures the detector's box in the depth image, asks the model about the object, refuses a
measurement that is unfit to act on, and prints one line of JSON: the grasp pose, the opening of the
gripper, and the object for MoveIt's planning scene. Plans no motion.

    python3 examples/pick_planner.py "red mug" 189 193 266 300 --target-frame base_link

Exit status 0 = may be grasped, 1 = refused, with the reason on stderr.
"""

from __future__ import annotations

import argparse
import json
import sys

from sdvlm.msg import Asked, RegionMeasurement
from sdvlm_ros.client import UNFIT, NoMeasurement, SpatialClient, SpatialQueryFailed
from sdvlm_ros.client.moveit import collision_object


def check_fit(measured: RegionMeasurement) -> None:
    """Raise NoMeasurement for a measurement that a gripper must not act on."""
    unfit = UNFIT.intersection(measured.warnings)
    if unfit:
        codes = ", ".join(sorted(unfit))
        raise NoMeasurement(f"the measurement of {measured.label} is unfit to act on: {codes}")


def plan(client: SpatialClient, arguments: argparse.Namespace) -> dict[str, object]:
    """The grasp; raises NoMeasurement if the object must not be grasped."""
    name = arguments.name
    # Hold the frame, so that the model answers about the same image that is measured.
    stamp_ns = client.capture()
    measured = client.measure(
        {name: arguments.box}, target_frame=arguments.target_frame, stamp_ns=stamp_ns
    )
    target = measured.regions[0]
    check_fit(target)
    # Raises NoMeasurement if the size, the position or the orientation is incomplete.
    collision = collision_object(target, measured.header)
    if not client.exists(name, stamp_ns=stamp_ns):
        raise NoMeasurement(f"the model finds no {name} at this place")
    # If language and depth contradict each other, they may describe different objects.
    question = Asked(quantity=Asked.HEIGHT, objects=[name])
    height = client.ask(question, verify=True, regions={name: arguments.box}, stamp_ns=stamp_ns)
    if height.status == height.DISAGREEMENT:
        raise NoMeasurement(f"the model and the depth image disagree about the {name}", height)
    # The upper end of the 90 % interval: in one of twenty cases the object is wider.
    opening = float(target.width_interval[1])
    if opening > arguments.opening:
        raise NoMeasurement(
            f"{name} is {opening:.3f} m wide, the gripper opens to {arguments.opening:g}"
        )
    return {
        "grasp": collision["pose"],
        "frame_id": measured.header.frame_id,
        "opening_m": round(opening, 4),
        "height_m": round(target.height, 4),
        "said": height.text,
        "collision_object": collision,
    }


def main() -> int:
    """Ask once and print the grasp."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        epilog='example: pick_planner.py "red mug" 189 193 266 300 --target-frame base_link',
    )
    parser.add_argument("name", help="label of the detector")
    # argparse cannot name the four values of a positional argument one by one.
    parser.add_argument(
        "box", type=int, nargs=4, metavar="PIXEL", help="the detector's box: x1 y1 x2 y2"
    )
    parser.add_argument(
        "--opening", type=float, default=0.10, help="largest opening of the gripper, metres"
    )
    parser.add_argument("--target-frame", default="", help='"" = the node\'s parameter')
    parser.add_argument("--server", default="/spatial_query", help="name of the node")
    arguments = parser.parse_args()
    try:
        with SpatialClient(arguments.server) as client:
            client.wait_for_node()
            print(json.dumps(plan(client, arguments)))
    except SpatialQueryFailed as refused:  # NoMeasurement too
        print(f"pick_planner: {refused}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
