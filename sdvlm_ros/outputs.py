"""Outputs: what a node publishes about one of its cameras.

The topics of a camera with a name are below it: ~/left/answers, ~/left/markers. Does not know what
each part publishes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rclpy.node import Node

from sdvlm_core.answer import SpatialAnswer
from sdvlm_core.frame import RgbdFrame
from sdvlm_core.geometry.measured import Measured
from sdvlm_core.geometry.pairs import Pair
from sdvlm_ros.detections_out import DetectionsOut
from sdvlm_ros.publishers import Publishers
from sdvlm_ros.transforms import Transforms
from sdvlm_ros.vision_messages import Named
from sdvlm_ros.visualization import Visualization

if TYPE_CHECKING:  # it imports torch
    from sdvlm_core.verification import Check


class Outputs:
    """The publishers of one camera.

    Args:
        name: the camera's; "" = none, and its topics are those of a node with one camera.

    Attributes:
        answers: of the answers.
        detections: of the measured objects.
    """

    def __init__(self, node: Node, transforms: Transforms, name: str = "") -> None:
        prefix = f"~/{name}/" if name else "~/"
        self.answers = Publishers(node, prefix)
        self.detections = DetectionsOut(node, transforms, prefix)
        self._visualization = Visualization(node, prefix)

    @property
    def watched(self) -> bool:
        """Whether somebody subscribes to measured objects."""
        return self._visualization.wanted or self.detections.wanted

    def show(
        self,
        frame: RgbdFrame,
        found: Sequence[Measured],
        pairs: Sequence[Pair],
        names: Sequence[Named] | None = None,
    ) -> None:
        """Publish measured objects, see `DetectionsOut.show`; from any thread."""
        self._visualization.show(frame, found, pairs)
        self.detections.show(frame, found, names)

    def show_checks(self, frame: RgbdFrame, answer: SpatialAnswer, checks: Sequence[Check]) -> None:
        """Publish the objects that verified an answer; from any thread."""
        self._visualization.show_checks(frame, checks)
        self.detections.show_checks(frame, answer, checks)

    def close(self) -> None:
        """End the thread that draws; it starts again when it is needed."""
        self._visualization.close()
