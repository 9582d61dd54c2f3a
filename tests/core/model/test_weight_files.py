"""Weight files that are written can be read by whoever may read other new files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from sdvlm_core.model import weight_files


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_a_weight_file_has_the_mode_of_any_new_file(tmp_path: Path, mask: int) -> None:
    weights = {"one": torch.arange(6.0).reshape(2, 3)}
    before = os.umask(mask)
    try:
        weight_files.save(weights, tmp_path / "model.safetensors", {"format": "pt"})
        (tmp_path / "other").write_text("")
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode
    found = weight_files.tensors(tmp_path / "model.safetensors")
    assert torch.equal(found["one"], weights["one"])
