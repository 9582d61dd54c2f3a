"""The readings of a structured-light or stereo depth camera, from exact depth.

Knows noise, quantization, range and holes. Does not know scenes, colour or file formats.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class DepthSensor:
    """Parameters of one sensor.

    noise_floor: standard deviation at zero depth, metres.
    noise_square: growth of the standard deviation with z^2, per metre.
    step: quantization step of the stored value, metres.
    step_square: growth of the quantization step with z^2 (disparity steps), per metre.
    near, far: range in metres; no reading outside.
    edge: relative depth jump above which pixels may have no reading.
    edge_loss: probability of no reading beside such a jump.
    speckle: probability of no reading elsewhere.
    """

    noise_floor: float
    noise_square: float
    step: float
    step_square: float
    near: float
    far: float
    edge: float
    edge_loss: float
    speckle: float


def sample_sensor(rng: np.random.Generator) -> DepthSensor:
    """A random sensor, between a good time-of-flight camera and a poor stereo camera."""
    return DepthSensor(
        noise_floor=rng.uniform(0.0003, 0.002),
        noise_square=rng.uniform(0.0005, 0.003),
        step=0.001,
        step_square=rng.uniform(0.0, 0.002),
        near=rng.uniform(0.15, 0.30),
        far=rng.uniform(6.0, 10.0),
        edge=0.03,
        edge_loss=rng.uniform(0.3, 0.95),
        speckle=rng.uniform(0.0, 0.02),
    )


def read_depth(
    exact: npt.NDArray[np.float32], sensor: DepthSensor, rng: np.random.Generator
) -> npt.NDArray[np.uint16]:
    """Exact depth (H, W) metres -> sensor depth (H, W) uint16 millimetres, 0 = no reading."""
    sigma = sensor.noise_floor + sensor.noise_square * exact**2
    noisy = exact + sigma * rng.standard_normal(exact.shape, dtype=np.float32)
    step = np.maximum(sensor.step, sensor.step_square * exact**2)
    quantised = np.round(noisy / step) * step
    kernel = np.ones((3, 3), np.uint8)
    jump = cv2.dilate(exact, kernel) - cv2.erode(exact, kernel)
    chance = np.where(jump > sensor.edge * exact, sensor.edge_loss, sensor.speckle)
    lost = rng.random(exact.shape, dtype=np.float32) < chance
    lost |= (exact < sensor.near) | (exact > sensor.far)
    return np.where(lost, 0, np.clip(np.round(quantised * 1000), 0, 65535)).astype(np.uint16)
