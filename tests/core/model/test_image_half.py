"""The image half of a model, and the mark by which a robot knows its language model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from sdvlm_core.cli.app import app
from sdvlm_core.errors import CheckpointError
from sdvlm_core.model.checkpoint import NANO_DIRECTORY, load, load_for_server
from sdvlm_core.model.image_half import MARK_FILE, is_language, language_mark, write_image_half


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(NANO_DIRECTORY, tmp_path / "copy"))


def change(directory: Path, name: str) -> None:
    """Another value in the middle of a weight."""
    weights = load_file(directory / "model.safetensors")
    flat = weights[name].view(-1)
    flat[len(flat) // 2] += 1
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


def names_of(directory: Path) -> list[str]:
    with safe_open(directory / "model.safetensors", "pt") as stored:
        return list(stored.keys())


def test_the_mark_differs_for_every_weight_of_the_language_model_and_no_other(copy: Path) -> None:
    own = language_mark(NANO_DIRECTORY)
    assert language_mark(copy) == own
    names = names_of(copy)
    language = [name for name in names if is_language(name)]
    seen = {own}
    for name in language[:: len(language) // 6]:
        change(copy, name)
        seen.add(language_mark(copy))
    assert len(seen) == len(language[:: len(language) // 6]) + 1
    now = language_mark(copy)
    change(copy, next(name for name in names if not is_language(name)))
    assert language_mark(copy) == now


def test_an_image_half_is_small_has_the_mark_and_loads_for_a_server_only(tmp_path: Path) -> None:
    out = tmp_path / "half"
    done = CliRunner().invoke(app, ["encoder", "nano", str(out)])
    assert done.exit_code == 0, done.output
    assert not any(map(is_language, names_of(out)))
    assert language_mark(out) == language_mark(NANO_DIRECTORY)
    assert len({file.stat().st_mode for file in out.iterdir()}) == 1
    half, whole = load_for_server(str(out), "cpu"), load_for_server("nano", "cpu")
    for (name, one), (_, other) in zip(
        half.model.state_dict().items(), whole.model.state_dict().items(), strict=True
    ):
        assert is_language(name) or torch.equal(one, other), name
    with pytest.raises(CheckpointError, match=r"image half of a model.*--server"):
        load(str(out))


def test_what_cannot_be_an_image_half_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "half"
    write_image_half(NANO_DIRECTORY, out)
    with pytest.raises(CheckpointError, match="exists already"):
        write_image_half(NANO_DIRECTORY, out)
    with pytest.raises(CheckpointError, match="is an image half already"):
        write_image_half(out, tmp_path / "again")
    (out / MARK_FILE).write_text('{"mark": "../x"}')
    with pytest.raises(CheckpointError, match="has no mark"):
        language_mark(out)
    assert not (tmp_path / "again").exists()
