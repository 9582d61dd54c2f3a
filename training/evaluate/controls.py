"""Controls: change a model's input, to find out which part of it the answers depend on.

A frame -> the frame under a control. Does not know models or questions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from sdvlm_core.errors import DepthError, IntrinsicsError
from sdvlm_core.frame import RgbdFrame

DEPTHS = ("own", "shuffled", "constant", "inverted", "noise", "none")
INTRINSICS = ("own", "wrong")
FRAMES = ("own", "shuffled", "blank")

#: Constant depth in metres; factor of a wrong focal length.
CONSTANT_M, WRONG_FOCAL = 1.0, 1.5
_GREY = 128
_NEAREST_M = 0.01


@dataclass(frozen=True)
class Controls:
    """How the input of a model is changed.

    Attributes:
        frames: "own"; "shuffled" = another frame; "blank" = a grey image and, unless `depth`
            is "none", a constant depth, so that only the question has information.
        depth: "own"; "shuffled" = another frame's; "constant"; "inverted" = near and far are
            exchanged, over the same range; "noise"; "none".
        sigma: standard deviation of the Gaussian noise, metres.
        intrinsics: "own"; "wrong" = with a wrong focal length; the image is unchanged.
    """

    frames: str = "own"
    depth: str = "own"
    sigma: float = 0.0
    intrinsics: str = "own"

    @classmethod
    def parse(cls, frames: str, depth: str, intrinsics: str) -> Controls:
        """Parse option values; ValueError if one is unknown."""
        name, _, value = depth.partition(":")
        for word, known in ((frames, FRAMES), (name, DEPTHS), (intrinsics, INTRINSICS)):
            if word not in known:
                raise ValueError(f"{word!r} is not one of {', '.join(known)}")
        try:
            sigma = float(value) if name == "noise" else 0.0
        except ValueError:
            sigma = math.nan
        if not (math.isfinite(sigma) and sigma >= 0) or (value and name != "noise"):
            raise ValueError(f"{depth!r}: only noise takes a value, in metres: noise:0.1")
        return cls(frames, name, sigma, intrinsics)


def shown(frame: RgbdFrame, other: RgbdFrame, controls: Controls, seed: int) -> RgbdFrame:
    """The frame under the controls.

    Args:
        other: another frame of the benchmark, which the shuffled controls show.
        seed: seed of the noise; different for each frame.

    Raises:
        DepthError, IntrinsicsError: the frame lacks what a control changes.
    """
    if controls.frames == "shuffled":
        frame = other
    if controls.depth != "none" and controls.frames == "blank":
        flat = np.full((frame.height, frame.width), CONSTANT_M, np.float32)
        frame = replace(frame, depth=flat, depth_source="sensor")
    elif controls.depth != "own":
        frame = _with_depth(frame, other, controls, seed)
    if controls.frames == "blank":
        frame = replace(frame, rgb=np.full_like(frame.rgb, _GREY))
    if controls.intrinsics == "wrong":
        k = frame.intrinsics
        if k is None:
            raise IntrinsicsError("--intrinsics wrong: the benchmark has no intrinsics")
        wrong = replace(k, fx=WRONG_FOCAL * k.fx, fy=WRONG_FOCAL * k.fy)
        frame = replace(frame, intrinsics=wrong)
    return frame


def _with_depth(frame: RgbdFrame, other: RgbdFrame, controls: Controls, seed: int) -> RgbdFrame:
    if controls.depth == "none":
        return replace(frame, depth=None)
    if controls.depth == "constant":
        flat = np.full((frame.height, frame.width), CONSTANT_M, np.float32)
        return replace(frame, depth=flat)
    depth = other.depth if controls.depth == "shuffled" else frame.depth
    if depth is None:
        raise DepthError(f"--depth {controls.depth}: the benchmark has no depth")
    if controls.depth == "shuffled":
        size = (frame.width, frame.height)
        changed = cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST)
        return replace(frame, depth=changed, depth_source=other.depth_source)
    if controls.depth == "inverted":
        if np.isfinite(depth).any():
            depth = np.nanmin(depth) + np.nanmax(depth) - depth
        return replace(frame, depth=depth)
    noise = np.random.default_rng(seed).normal(0, controls.sigma, depth.shape)
    return replace(frame, depth=np.maximum(depth + noise, _NEAREST_M).astype(np.float32))
