"""The rows of the ablation: ways of giving depth, and the inputs that each makes of a frame.

All rows see the same colour image; they differ in the code that is added to its tokens, or in the
tokens that follow. Knows frames and depth encodings; does not know training, questions or scores.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from sdvlm_core.frame import RgbdFrame
from sdvlm_core.model.backbones.clip_image import square_picture
from sdvlm_core.model.depth_encoding import EncodingSettings, pool
from sdvlm_core.model.image_tokens import square_tokens
from training.nano.architecture import CELLS, PICTURE

Estimator = Literal["", "fine", "coarse"]

#: Side of the grid of distances that the row `prompt` writes out.
WORDS = 4
#: Error of a coarse estimate: standard deviation of its logarithm, and the grid that it varies on.
_UNEVEN, _UNEVEN_GRID = 0.1, (4, 5)


@dataclass(frozen=True)
class Row:
    """One way of giving depth.

    Attributes:
        name: name of the row.
        says: description in the table.
        encoding: encoding of the depth code that is added to the image tokens.
        extra: how depth is given otherwise: as a second picture, as words, as tokens of its own
            (the code of `encoding` through a linear layer, not added); or `projected`: that code
            through a linear layer that starts at zero, added.
        estimator: depth as a monocular network gives it: complete, smooth, without scale; two
            simulated ones differ in how finely and how evenly. "" = the sensor's depth.
    """

    name: str
    says: str
    encoding: EncodingSettings
    extra: Literal["", "image", "prompt", "token", "projected"] = ""
    estimator: Estimator = ""

    @property
    def sees_depth(self) -> bool:
        """Whether anything of the depth reaches the model."""
        return self.encoding.kind != "none" or bool(self.extra)

    def model_encoding(self, normalize: bool) -> EncodingSettings:
        """The encoding that the model itself has; `none` where a module of its own gives depth.

        Args:
            normalize: scale features to unit variance before a code is added, as nano does:
                without it a code drowns the features of so small a model.
        """
        kind = "none" if self.extra else self.encoding.kind
        return replace(self.encoding, kind=kind, normalize_features=normalize)


_settings = EncodingSettings
_NONE = _settings(kind="none")
ROWS = {
    row.name: row
    for row in (
        Row("none", "colour only", _NONE),
        Row("image", "depth as a second picture, through the same tower", _NONE, "image"),
        Row("prompt", "depth as words: 4 x 4 distances in metres", _NONE, "prompt"),
        Row("token", "metric code as 144 tokens of its own", _settings(kind="metric"), "token"),
        Row(
            "relative_estimated",
            "the paper's code of depth as an estimator gives it (inverse, no scale)",
            _settings(kind="relative", orientation="inverse"),
            estimator="fine",
        ),
        Row(
            "relative_other_estimator",
            "the same of depth as another estimator gives it, coarser and less even",
            _settings(kind="relative", orientation="inverse"),
            estimator="coarse",
        ),
        Row("relative", "the paper's code of the sensor's depth", _settings(kind="relative")),
        Row(
            "relative_reference",
            "the same on the released code's un-padded grid",
            _settings(kind="relative", alignment="reference"),
        ),
        Row("metric", "log depth, absolute", _settings(kind="metric")),
        Row("xyz", "back-projected X, Y, Z in metres", _settings(kind="xyz")),
        Row(
            "projected",
            "X, Y, Z through a learned layer that starts at zero",
            _settings(kind="xyz"),
            "projected",
        ),
        Row(
            "xyz_reference",
            "the same on the un-padded grid",
            _settings(kind="xyz", alignment="reference"),
        ),
    )
}


def as_estimated(
    depth: npt.NDArray[np.float32], estimator: Estimator = "fine"
) -> npt.NDArray[np.float32]:
    """Sensor depth (H, W), metres -> depth like that of a monocular estimator: inverse, complete.

    Holes take their nearest reading, edges are soft; scale and shift are lost to the encoding's
    min-max anyway. "coarse" has edges four times as soft, and an error of about 10 % that varies
    slowly over the image, its own in every image.
    """
    usable = np.isfinite(depth) & (depth > 0)
    if not usable.any():
        return np.full(depth.shape, np.nan, np.float32)
    _, labels = cv2.distanceTransformWithLabels(
        (~usable).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    # Label of a hole = label of the nearest reading.
    of_label = np.zeros(labels.max() + 1, np.float32)
    of_label[labels[usable]] = 1 / depth[usable]
    whole, width = of_label[labels], depth.shape[1]
    if estimator != "coarse":
        return cv2.GaussianBlur(whole, (0, 0), width / 200)
    # Drawn from the depth itself: the same image always gets the same estimate.
    rng = np.random.default_rng(int(1000 * depth[usable].sum(dtype=np.float64)))
    error = np.exp(rng.normal(0, _UNEVEN, _UNEVEN_GRID)).astype(np.float32)
    uneven = cv2.resize(error, depth.shape[::-1], interpolation=cv2.INTER_CUBIC)
    return cv2.GaussianBlur(whole, (0, 0), width / 50) * uneven


@dataclass(frozen=True, eq=False)
class RowInputs:
    """The inputs of a row from one frame, besides its colour image.

    coordinates (144, K) float32 and valid (144,) bool of its code; picture (192, 192, 3) uint8 of
    `image`; metres (16,) float32 of `prompt`, NaN = no reading.
    """

    coordinates: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]
    picture: npt.NDArray[np.uint8] | None = None
    metres: npt.NDArray[np.float32] | None = None


def inputs_of(row: Row, frame: RgbdFrame) -> RowInputs:
    """The inputs of a row; of a frame without any depth reading, those without depth.

    `frame.depth` is in metres; the row computes with `frame.intrinsics`, right or wrong.
    """
    depth = frame.depth
    assert depth is not None
    nothing = not (np.isfinite(depth) & (depth > 0)).any()
    bands = 3 if row.encoding.kind == "xyz" else 1
    empty = RowInputs(np.zeros((CELLS * CELLS, bands), np.float32), np.zeros(CELLS * CELLS, bool))
    if row.encoding.kind == "none" or nothing:
        inputs = empty
    else:
        source: Literal["sensor", "estimated_relative"] = "sensor"
        if row.estimator:
            depth, source = as_estimated(depth, row.estimator), "estimated_relative"
        tokens = square_tokens(frame.width, frame.height, CELLS)
        grid = pool(depth, frame.intrinsics, row.encoding, tokens, source)
        inputs = RowInputs(grid.coordinates, grid.valid)
    if row.extra == "image":
        inputs = replace(inputs, picture=_depth_picture(depth))
    if row.extra == "prompt":
        inputs = replace(inputs, metres=_distances(frame))
    return inputs


def _depth_picture(depth: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Inverse depth from black to white, near is bright, as estimators are shown."""
    near = as_estimated(depth)
    low, high = (float(near.min()), float(near.max())) if np.isfinite(near).any() else (0.0, 0.0)
    scaled = (near - low) * (255 / (high - low) if high > low else 0)
    grey = np.nan_to_num(scaled).astype(np.uint8)
    return square_picture(np.repeat(grey[..., None], 3, 2), PICTURE)


def _distances(frame: RgbdFrame) -> npt.NDArray[np.float32]:
    """Mean depth of a coarse grid over the padded square, metres."""
    assert frame.depth is not None
    usable = np.isfinite(frame.depth) & (frame.depth > 0)
    if not usable.any():
        return np.full(WORDS * WORDS, np.nan, np.float32)
    # With identity intrinsics the third coordinate is the mean depth for every camera.
    tokens = square_tokens(frame.width, frame.height, WORDS)
    grid = pool(frame.depth, frame.intrinsics, EncodingSettings(kind="xyz"), tokens)
    return np.where(grid.valid, grid.coordinates[:, 2], np.nan).astype(np.float32)


_HEADING = "\ndepth"


def in_words(metres: npt.NDArray[np.float32]) -> str:
    """The text that the row `prompt` puts before a question."""
    return _HEADING + "".join(" -" if np.isnan(m) else f" {m:.1f}" for m in metres)


def cells_in_words(
    text: str, spans: Sequence[tuple[int, int]], length: int
) -> npt.NDArray[np.bool_]:
    """(length, 144): the cells of which each token of a text of `in_words` gives the distance.

    Args:
        spans: characters of each token.
        length: tokens after padding, which shows nothing.
    """
    side = CELLS // WORDS
    coarse = np.arange(WORDS * WORDS).reshape(WORDS, WORDS)
    of_cell = np.kron(coarse, np.ones((side, side), np.int64)).ravel()
    ends = [match.end() for match in re.finditer(r" \S+", text)]
    shows = np.zeros((length, CELLS * CELLS), bool)
    for token, (start, end) in enumerate(spans[:length]):
        if end > max(start, len(_HEADING)):
            shows[token] = of_cell == bisect_left(ends, end)
    return shows
