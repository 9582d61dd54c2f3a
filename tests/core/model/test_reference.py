"""Compares our forward pass with the official computation, reimplemented in NumPy (tests/parity).

Runs everywhere; `test_parity.py` compares with recordings of the official code itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sdvlm_core.engine import SpatialEngine
from sdvlm_core.frame import RgbdFrame
from sdvlm_core.model import conversion_plan, convert
from sdvlm_core.model.checkpoint import assembled, load_model
from sdvlm_core.model.depth_encoding import PARITY
from sdvlm_core.model.devices import resolve
from sdvlm_core.model.prompt import Template
from tests.fixtures.frames import FRAMES, read
from tests.parity import reference
from tests.parity.compare import IMAGE, RecordedIds, embeddings_seen
from tests.released_checkpoint import (
    CONFIG,
    TOWER,
    TOWER_NAME,
    WORDS,
    released_weights,
    write_released_checkpoint,
)
from tests.square_pooling import pool_square

CELLS = 24
IDS = [1, 17, 41, IMAGE, 11, 23, 8, 97]
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """Weights in the release's layout, with its 24 x 24 image tokens; all other sizes are small."""
    weights = released_weights()
    positions = torch.randn((CELLS**2 + 1, TOWER), generator=torch.Generator().manual_seed(7))
    weights[f"{TOWER_NAME}embeddings.position_embedding.weight"] = 0.2 * positions
    weights[f"{TOWER_NAME}embeddings.position_ids"] = torch.arange(CELLS**2 + 1.0)[None]
    return weights


@pytest.fixture(scope="module")
def model(
    weights: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[torch.nn.Module]:
    folder = tmp_path_factory.mktemp("released")
    write_released_checkpoint(folder / "official", weights)
    convert.write(conversion_plan.plan(folder / "official", parity=True), folder / "converted")
    return load_model(folder / "converted", resolve("cpu", "float32"))


def _frames(folder: Path) -> dict[str, RgbdFrame]:
    """The frame for each of the three depth paths of the release."""
    frame, _ = read(folder)
    assert frame.depth is not None
    inverse = (1 / np.nan_to_num(frame.depth, nan=4.0)).astype(np.float32)
    return {
        "est": replace(frame, depth=inverse, depth_source="estimated_relative"),
        "gt": frame,
        "none": replace(frame, depth=None),
    }


@pytest.mark.parametrize("path", ["est", "gt", "none"])
@pytest.mark.parametrize("folder", FRAMES, ids=lambda folder: folder.name)
def test_code_embeddings_and_logits_equal_the_official_computation(
    weights: dict[str, torch.Tensor], model: torch.nn.Module, folder: Path, path: str
) -> None:
    frame = _frames(folder)[path]
    kind = "none" if path == "none" else "relative"
    model.config.depth_encoding = replace(PARITY, kind=kind).to_mapping()
    tokenizer = RecordedIds(IDS, WORDS)
    form = Template("before", "", "")
    checkpoint = assembled("released", model, tokenizer, torch.device("cpu"))
    engine = SpatialEngine(replace(checkpoint, prompt_template=form))
    with embeddings_seen(model) as seen:
        next_token = engine.open(frame).next_token_logits("question")
    ours = torch.cat(seen).numpy()

    known = {name: value.double().numpy() for name, value in weights.items()}
    words = known["model.embed_tokens.weight"]
    image = reference.features(
        known,
        reference.picture(frame.rgb, 14 * CELLS),
        heads=model.config.vision_config.num_attention_heads,
    )
    if frame.depth is not None:
        if path == "est":
            grid = reference.estimated_grid(frame.depth, CELLS)
        else:
            grid = reference.sensor_grid(np.nan_to_num(frame.depth), CELLS)
        code = reference.code(grid, words.shape[1])
        pooled = pool_square(frame.depth, None, PARITY, CELLS, frame.depth_source)
        np.testing.assert_allclose(pooled.coordinates.ravel(), grid.ravel(), atol=TOLERANCE)
        np.testing.assert_allclose(engine.depth_code(frame), code, atol=TOLERANCE)
        image = image + code
    at = IDS.index(IMAGE)
    theirs = np.vstack([words[IDS[:at]], image, words[IDS[at + 1 :]]])
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE)
    expected = reference.logits(
        known, theirs, CONFIG["num_attention_heads"], CONFIG["rms_norm_eps"]
    )
    np.testing.assert_allclose(next_token[:WORDS], expected, atol=TOLERANCE)
