"""Procedural textures: wood, checks, weaves, noise and prints, as materials of the renderer.

Drawn once, with fixed seeds: all frames share them. Does not know what wears them.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from training.data.images import encode_png
from training.simulate.renderer import Assets

Picture = npt.NDArray[np.uint8]
Share = npt.NDArray[np.float64]

_SIZE = 256


def _octaves(rng: np.random.Generator, coarsest: int) -> Share:
    """Cloudy noise (S, S) in 0 to 1: the sum of noises from `coarsest` cells on."""
    total, cells, weight = np.zeros((_SIZE, _SIZE)), coarsest, 1.0
    while cells <= _SIZE:
        layer = rng.standard_normal((cells, cells))
        total += weight * cv2.resize(layer, (_SIZE, _SIZE), interpolation=cv2.INTER_CUBIC)
        cells, weight = cells * 2, weight * 0.6
    total -= total.min()
    return np.asarray(total / total.max())


def _blend(share: Share, dark: tuple[int, ...], light: tuple[int, ...]) -> Picture:
    mixed = share[..., None] * np.array(light) + (1 - share[..., None]) * np.array(dark)
    return np.clip(mixed, 0, 255).astype(np.uint8)


def _wood(rng: np.random.Generator, dark: tuple[int, ...], light: tuple[int, ...]) -> Picture:
    rows = np.linspace(0, 1, _SIZE)[:, None]
    bend = 0.15 * _octaves(rng, 4)
    grain = 0.5 + 0.5 * np.sin(2 * np.pi * 14 * (rows + bend))
    fibre = cv2.resize(rng.random((_SIZE, 8)), (_SIZE, _SIZE))
    return _blend(0.6 * grain + 0.4 * fibre, dark, light)


def _cloud(rng: np.random.Generator, coarsest: int, dark: int, light: int) -> Picture:
    return _blend(_octaves(rng, coarsest), (dark,) * 3, (light,) * 3)


def _checks(cells: int, dark: int) -> Picture:
    steps = np.arange(_SIZE) * cells // _SIZE
    odd = ((steps[:, None] + steps[None, :]) % 2).astype(np.float64)
    return _blend(odd, (dark,) * 3, (250, 250, 250))


def _weave(rng: np.random.Generator) -> Picture:
    steps = np.arange(_SIZE)
    threads = 0.5 + 0.25 * np.sin(steps * 0.9)[:, None] + 0.25 * np.sin(steps * 0.9)[None, :]
    return _blend(0.8 * threads + 0.2 * rng.random((_SIZE, _SIZE)), (110,) * 3, (250,) * 3)


def _print(rng: np.random.Generator) -> Picture:
    """A package: fields of colour, lines of letters, a bar code."""
    picture = np.full((_SIZE, _SIZE, 3), 245, np.uint8)
    for _ in range(4):
        x, y, wide, tall = (int(value) for value in rng.integers(20, 140, 4))
        tint = tuple(int(value) for value in rng.integers(60, 240, 3))
        cv2.rectangle(picture, (x, y), (x + wide, y + tall), tint, -1)
    for _ in range(14):
        text = "".join(chr(code) for code in rng.integers(65, 91, 9))
        at = (int(rng.integers(-30, 200)), int(rng.integers(10, _SIZE)))
        size = float(rng.uniform(0.4, 1.3))
        shade = (int(rng.integers(0, 90)),) * 3
        cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, shade, 2, cv2.LINE_AA)
    for x in range(150, 240, 4):
        cv2.line(picture, (x, 200), (x, 240), (20, 20, 20), int(rng.integers(1, 4)))
    return picture


def pictures() -> dict[str, Picture]:
    """Texture images (S, S, 3) by name; the same in every run."""
    rng = np.random.default_rng(17)
    return {
        "oak": _wood(rng, (150, 110, 70), (225, 190, 140)),
        "walnut": _wood(rng, (90, 60, 40), (160, 115, 80)),
        "plaster": _cloud(rng, 32, 215, 245),
        "marble": _cloud(rng, 4, 120, 250),
        "carpet": _cloud(rng, 64, 90, 240),
        "coarse_checks": _checks(4, 130),
        "fine_checks": _checks(16, 190),
        "weave": _weave(rng),
        "print_a": _print(rng),
        "print_b": _print(rng),
        "print_c": _print(rng),
    }


#: Materials of tables, floors, boards and walls; of things. Tinted by the colour of the solid.
GROUNDS = ("oak", "walnut", "plaster", "marble", "carpet", "fine_checks", "weave")
COATS = ("print_a", "print_b", "print_c", "weave", "marble", "coarse_checks", "oak", "plaster")
#: Metres that one repetition of a texture covers.
_GROUND_M, _COAT_M = 0.5, 0.12


@cache
def texture_assets() -> Assets:
    """The materials `GROUNDS` (ground_NAME) and `COATS` (coat_NAME) for a renderer."""
    files = {f"{name}.png": encode_png(picture) for name, picture in pictures().items()}
    lines = []
    # A cube texture fits any solid, but is drawn out over the middle of a slab.
    for prefix, names, kind, metres in (
        ("ground", GROUNDS, "2d", _GROUND_M),
        ("coat", COATS, "cube", _COAT_M),
    ):
        for name in names:
            both = f"{prefix}_{name}"
            lines += [
                f'<texture name="{both}" type="{kind}" file="{name}.png"/>',
                f'<material name="{both}" texture="{both}" texuniform="true" '
                f'texrepeat="{1 / metres} {1 / metres}"/>',
            ]
    return Assets("\n".join(lines), files)
