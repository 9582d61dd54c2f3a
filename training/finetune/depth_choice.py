"""Which depth an image is trained with: the sensor's, an estimator's, or either.

SD-VLM is published with estimated depth; a robot has a sensor's. The choice is made once, when the
data is prepared, so that an estimator runs once per image. Does not know encodings or files.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sdvlm_core.errors import DepthError
from sdvlm_core.frame import RgbdFrame, depth_in_metres
from training.data.conversations import Sample

Depth = Literal["sensor", "estimated", "mixed"]
DEPTHS = get_args(Depth)


@dataclass(frozen=True)
class DepthChoice:
    """The depth of every image.

    Attributes:
        kind: "sensor" = the data's own, estimated only where it has none and there is an estimator;
            "estimated" = always estimated; "mixed" = one or the other, each for about half of the
            images that have their own. Which half depends on the colour image alone: not on the
            order of the data, nor on who prepares it.
        estimator: a `DepthEstimator`; None = there is none.
    """

    kind: Depth = "sensor"
    estimator: Any = None

    def frame(self, sample: Sample, name: str) -> RgbdFrame:
        """The frame that the model is trained on; its `depth_source` names the depth.

        Args:
            name: of the image, for the message.

        Raises:
            DepthError: the image needs an estimated depth and there is no estimator.
        """
        if sample.depth_mm is not None and not self._estimates(sample):
            depth = depth_in_metres(sample.depth_mm, 0.001)
            return RgbdFrame(sample.rgb, depth, sample.intrinsics)
        if self.estimator is None:
            why = "has no depth (the released MSMU has none)"
            if sample.depth_mm is not None:
                why = f"needs an estimated depth (depth: {self.kind})"
            raise DepthError(
                f"{name} {why}: set the key `estimator` to the directory of a depth estimator"
            )
        # Imported here: it takes seconds, and data with depth does not need it.
        from sdvlm_core.model import depth_estimation

        bare = RgbdFrame(sample.rgb, None, sample.intrinsics)
        return depth_estimation.with_estimated_depth(bare, self.estimator)

    def _estimates(self, sample: Sample) -> bool:
        if self.kind != "mixed":
            return self.kind == "estimated"
        return hashlib.sha256(sample.rgb.tobytes()).digest()[0] % 2 == 1
