"""Colours of a support: what pixels of the same surface look like, in light and in shadow.

A few Gaussians in CIELAB describe a support with a pattern or a grain. Does not know regions,
depth or planes.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from sdvlm_core.geometry.crops import Crop
from sdvlm_core.geometry.point_cloud import DepthImage, Mask

Lab = npt.NDArray[np.float32]

# Colours are CIELAB (lightness 0 to 100). Values without another source are tuned on rendered
# tables and on the development frames of benchmarks/real_frames.py.
#: 1 sigma of one colour of a surface in a compressed image: lightness, a and b.
_COLOUR_NOISE = (2.5, 1.5, 1.5)
#: Number of colours of a support: the two of a pattern, and its lines or grain.
_COLOURS = 3
#: Colours with a smaller fraction of the support's pixels belong to other flat objects around.
_MIN_COLOUR_FRACTION = 0.08
#: Pixels of the support that are sampled for its colours.
_MAX_SAMPLE = 1500
#: A colour is not the support's beyond the distance of 99.9 % of a Gaussian in three dimensions, or
#: beyond this factor times the distance within which 95 % of the support's own pixels are.
_MIN_DISTANCE, _SPREAD_QUANTILE, _SPREAD_FACTOR = 4.0, 0.95, 1.4
#: Lightness + 16 of a shadow over that of the lit surface: the cube root of 0.3 to 1 of the light.
_SHADOW_RATIO = (0.67, 1.0)


def crop_colours(rgb: npt.NDArray[np.uint8], crop: Crop) -> Lab:
    """(h, w, 3) CIELAB of the crop's pixels, each the mean of its surroundings."""
    rows, columns = crop.rows, crop.columns
    block = np.ascontiguousarray(rgb[rows.start : rows.stop, columns.start : columns.stop])
    size = max(3, crop.step | 1)
    mean = cv2.blur(block, (size, size))[:: crop.step, :: crop.step]
    lab: Lab = cv2.cvtColor(mean.astype(np.float32) * np.float32(1 / 255), cv2.COLOR_RGB2LAB)
    return lab


@dataclass(frozen=True, eq=False)
class SupportColours:
    """The colours of a support: a few Gaussians in CIELAB."""

    means: npt.NDArray[np.float64]  # (K, 3)
    covariances: npt.NDArray[np.float64]  # (K, 3, 3)

    @classmethod
    def of(cls, pixels: Lab) -> SupportColours:
        """The colours of pixels (N, 3), by k-means from the ends of their main axis."""
        sample = pixels[:: 1 + len(pixels) // _MAX_SAMPLE]
        main = np.linalg.eigh(np.cov(sample.T))[1][:, -1]
        order = np.argsort(np.argsort(sample @ main.astype(np.float32)))
        start = (order * _COLOURS // len(order)).astype(np.int32)[:, None]
        rule = (cv2.TERM_CRITERIA_MAX_ITER, 8, 0.0)
        _, labels, _ = cv2.kmeans(sample, _COLOURS, start, rule, 1, cv2.KMEANS_USE_INITIAL_LABELS)
        noise = np.diag(np.square(_COLOUR_NOISE))
        means, covariances = [], []
        for label in range(_COLOURS):
            part = sample[labels[:, 0] == label].astype(np.float64)
            if len(part) >= _MIN_COLOUR_FRACTION * len(sample):
                means.append(part.mean(axis=0))
                covariances.append(np.cov(part.T) + noise)
        return cls(np.array(means), np.array(covariances))

    def compared(self, lab: Lab, own: Mask) -> tuple[Mask, Mask]:
        """Pixels (h, w) unlike the support, and pixels that a shadow on it explains.

        The limit is a Mahalanobis distance to the nearest colour that almost no pixel of the
        support (`own`) reaches. Less light scales L + 16, a and b by the same factor, because all
        are differences of cube roots of light (CIE 15:2004, section 8.2.1).
        """
        nearest = _mahalanobis(lab, self.means[0], self.covariances[0])
        for mean, covariance in zip(self.means[1:], self.covariances[1:], strict=True):
            np.minimum(nearest, _mahalanobis(lab, mean, covariance), out=nearest)
        distances = nearest[own]
        spread = float(np.quantile(distances[:: 1 + len(distances) // 4000], _SPREAD_QUANTILE))
        unlike = nearest > max(_MIN_DISTANCE**2, _SPREAD_FACTOR**2 * spread)
        shadow = np.zeros(unlike.shape, bool)
        if unlike.any():
            shadow[unlike] = self._shadowed(lab[unlike][None])[0]
        return unlike, shadow

    def _shadowed(self, lab: Lab) -> Mask:
        """Pixels (h, w) whose colour a shadow on the support explains."""
        shadow = np.zeros(lab.shape[:2], bool)
        low, high = _SHADOW_RATIO
        for mean, covariance in zip(self.means, self.covariances, strict=True):
            ratio = (lab[..., 0] + np.float32(16)) / np.float32(mean[0] + 16)
            chroma = lab[..., 1:] - ratio[..., None] * mean[1:].astype(np.float32)
            hue = _mahalanobis(chroma, np.zeros(2), covariance[1:, 1:])
            shadow |= (ratio > low) & (ratio < high) & (hue < _MIN_DISTANCE**2)
        return shadow


def _mahalanobis(
    values: Lab, mean: npt.NDArray[np.float64], covariance: npt.NDArray[np.float64]
) -> DepthImage:
    """Squared distances (h, w) of values (h, w, C) from a mean, in standard deviations."""
    whitening = np.linalg.inv(np.linalg.cholesky(covariance))
    affine = np.column_stack([whitening, -whitening @ mean])
    white = cv2.transform(values, affine)
    squares: DepthImage = np.einsum("hwc,hwc->hw", white, white)
    return squares
