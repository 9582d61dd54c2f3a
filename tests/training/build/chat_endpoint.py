"""What the tests of model endpoints share: a client of the chat server, an image, an object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.training.chat_server import Chat
from training.build.endpoint import Endpoint

RNG = np.random.default_rng(0)
RGB = np.kron(RNG.integers(0, 255, (6, 8, 3)), np.ones((20, 20, 1))).astype(np.uint8)


def endpoint_of(server: Chat, cache: Path, **more: Any) -> Endpoint:
    options = {"model": "qwen", "timeout": 2.0, "retries": 2} | more
    return Endpoint(server.address, cache=cache, **options)


def object_entry(instance: int, label: str, **more: Any) -> dict[str, Any]:
    """An entry as `selection.select` returns it: ambiguous, unless `more` says otherwise."""
    return {
        "instance": instance,
        "label": label,
        "category": label.split()[-1],
        "colour": "",
        "name": "",
        "unnamed": "ambiguous",
        "length_m": 1.2,
        "width_m": 0.6,
        "height_m": 0.752,
        "centre_camera_m": [0.0, 0.0, 2.0],
        "centre_world_m": [0.0, 0.0, 0.4],
        "centre_uv": [0.5, 0.5],
        "visible_pixels": 900,
        "visible_fraction": 1.0,
        "truncated": False,
        "box_xyxy": [20 * instance, 30, 20 * instance + 20, 50],
    } | more
