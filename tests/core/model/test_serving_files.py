"""What vLLM is given to read: links into the model, and never in place of anything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdvlm_core.cli.serve import _cache
from sdvlm_core.errors import CheckpointError
from sdvlm_core.model.checkpoint import NANO_DIRECTORY
from sdvlm_core.model.image_half import write_image_half
from sdvlm_core.model.serving_files import serving_directory


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of nano's directory, made of links."""
    directory = tmp_path / "models" / "nano"
    directory.mkdir(parents=True)
    for file in Path(NANO_DIRECTORY).iterdir():
        (directory / file.name).symlink_to(file)
    return directory


def test_a_directory_of_its_own_is_written_and_written_again(model: Path, tmp_path: Path) -> None:
    out = serving_directory(str(model), tmp_path / "out")
    written = (out / "config.json").stat().st_ino
    assert (out / "sdvlm_chat.jinja").exists()
    assert serving_directory(str(model), out) == out
    assert (out / "config.json").stat().st_ino == written  # kept: it is of the same files
    (model / "README.md").unlink()
    serving_directory(str(model), out)
    assert not (out / "README.md").exists()


def test_nothing_else_is_replaced(model: Path, tmp_path: Path, monkeypatch) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    monkeypatch.chdir(other)
    for out in (other, Path(), model, model / "inside", model.parent, tmp_path):
        with pytest.raises(CheckpointError, match="--out"):
            serving_directory(str(model), out)
    assert (other / "notes.txt").read_text() == "mine"
    assert (model / "tokenizer.json").exists()


def test_the_image_half_of_a_model_is_not_served(tmp_path: Path) -> None:
    half = tmp_path / "half"
    write_image_half(Path(NANO_DIRECTORY), half)
    with pytest.raises(CheckpointError, match="image half"):
        serving_directory(str(half), tmp_path / "out")


def test_two_models_of_one_name_have_two_folders_in_the_cache(monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    one, other = _cache(Path("/a/merged")), _cache(Path("/b/merged"))
    assert one != other
    assert one.parent == other.parent == Path("/cache/sdvlm/serving")
