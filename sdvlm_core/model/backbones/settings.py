"""Values of a model's config and of its preprocessor_config.json, checked before they are used.

Both files come from a stranger. Knows no family: a module of this package names its keys, bounds,
and published defaults.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from sdvlm_core.errors import CheckpointError, shown
from sdvlm_core.model.backbones.picture import Filter, Normalization

#: Pillow's numbers of resampling filters, as `resample` states them.
_FILTERS: dict[int, Filter] = {1: "lanczos", 2: "bilinear", 3: "bicubic"}


class PixelRule(NamedTuple):
    """How a picture is resized and normalised."""

    filter: Filter
    normalization: Normalization


def whole(name: str, value: Any, low: int, high: int) -> int:
    """The integer of a key; outside low..high, or of another type, it raises CheckpointError."""
    if type(value) is not int or not low <= value <= high:
        raise CheckpointError(f"{name} is {_of(value)}; it must be an integer from {low} to {high}")
    return value


def agreeing(name: str, preprocessor: Mapping[str, Any], wanted: int) -> int:
    """The integer that the model has, checked against a key of the preprocessor.

    A preprocessor without the key agrees. A picture cut otherwise than the model reads it would
    show every token another place, so a different value raises CheckpointError.
    """
    value = preprocessor.get(name)
    if value is not None and (type(value) is not int or value != wanted):
        raise CheckpointError(f"{name} of the preprocessor is {_of(value)}; the model has {wanted}")
    return wanted


def part(name: str, preprocessor: Mapping[str, Any]) -> Mapping[str, Any]:
    """The mapping of a key, {} without one; another type raises CheckpointError."""
    value = preprocessor.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise CheckpointError(f"{name} is {_of(value)}; it must be a mapping")
    return value


def pixel_rule(
    preprocessor: Mapping[str, Any], kind: Filter, normalization: Normalization
) -> PixelRule:
    """`resample`, `image_mean` and `image_std` of a preprocessor, or the family's own.

    Raises:
        CheckpointError: a value is impossible; or the preprocessor leaves out resizing, rescaling
            or normalising, or rescales by another factor than 1/255, which no family does.
    """
    for step in ("do_resize", "do_rescale", "do_normalize"):
        if preprocessor.get(step) not in (None, True):
            raise CheckpointError(f"{step} is {_of(preprocessor[step])}; only true is supported")
    factor = preprocessor.get("rescale_factor")
    # An integer may be too large for a float.
    if factor is not None and not (type(factor) is float and math.isclose(factor, 1 / 255)):
        raise CheckpointError(f"rescale_factor is {_of(factor)}; only 1/255 is supported")
    resample = preprocessor.get("resample")
    if resample is not None:
        if type(resample) is not int or resample not in _FILTERS:
            raise CheckpointError(
                f"resample is {_of(resample)}; 1 (Lanczos), 2 (bilinear) and 3 (bicubic) are "
                "supported"
            )
        kind = _FILTERS[resample]
    mean = _channels("image_mean", preprocessor, normalization.mean, -10.0)
    return PixelRule(
        kind, Normalization(mean, _channels("image_std", preprocessor, normalization.std, 1e-3))
    )


def _channels(
    name: str, preprocessor: Mapping[str, Any], default: tuple[float, ...], low: float
) -> tuple[float, ...]:
    """Three numbers from `low` to 10."""
    value = preprocessor.get(name)
    if value is None:
        return default
    valid = isinstance(value, (list, tuple)) and len(value) == 3
    if not valid or not all(_is_number(one) and low <= one <= 10 for one in value):
        raise CheckpointError(f"{name} is {_of(value)}; it must be three numbers from {low} to 10")
    return tuple(map(float, value))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _of(value: Any) -> str:
    return shown(repr(value), 60)
