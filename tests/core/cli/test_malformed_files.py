"""No command prints a traceback for a bad file: status 1 or 2, and one line on stderr."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from sdvlm_core.cli.app import app
from tests.replays import bag_of, write_questions

runner = CliRunner()
QUESTIONS = "questions:\n- question: How tall is it?\n  at: 0.1\n"
#: Damages one file in several ways: text -> content.
Damage = Callable[[bytes], bytes]


def damages() -> Iterator[tuple[str, Damage]]:
    yield "empty", lambda _: b""
    yield "half", lambda data: data[: len(data) // 2]
    yield "first bytes", lambda data: data[:7]
    yield "zeros", lambda data: bytes(len(data))
    yield "deep JSON", lambda _: b'{"fx":' + b"[" * 100_000
    yield "deep objects", lambda _: b'{"a":' * 20_000 + b"1" + b"}" * 20_000
    yield "deep YAML", lambda _: b"questions: " + b"[" * 100_000
    yield "not UTF-8", lambda _: b"\xff\xfe\x00questions"
    yield "JSON of another type", lambda _: b"[1, 2, 3]"
    yield "a number", lambda _: b"7"
    yield "long digits", lambda _: b'{"fx": ' + b"9" * 5000 + b"}"
    yield "not a number", lambda _: b'{"fx": NaN, "fy": 1e999, "cx": null, "cy": {}, "width": []}'
    for seed in range(3):
        rng = np.random.default_rng(seed)
        yield f"random {seed}", lambda _, rng=rng: rng.integers(0, 256, 500, np.uint8).tobytes()

        def spotted(data: bytes, rng: Any = rng) -> bytes:
            changed = np.frombuffer(data, np.uint8).copy()
            changed[rng.integers(0, max(1, changed.size), 20) % max(1, changed.size)] = 255
            return changed.tobytes()

        yield f"spots {seed}", spotted


DAMAGES = dict(damages())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    from tests.tiny_checkpoint import write_tiny_checkpoint

    return write_tiny_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """A folder with a readable file of every kind."""
    folder = tmp_path_factory.mktemp("good")
    noise = np.random.default_rng(0)
    cv2.imwrite(str(folder / "rgb.png"), noise.integers(0, 256, (48, 64, 3), np.uint8))
    depth = np.repeat(np.linspace(900, 2000, 48).astype(np.uint16)[:, None], 64, 1)
    cv2.imwrite(str(folder / "depth.png"), depth)
    values = {"fx": 60, "fy": 60, "cx": 31.5, "cy": 23.5, "width": 64, "height": 48}
    (folder / "k.json").write_text(json.dumps(values))
    write_questions(folder / "q.yaml", QUESTIONS)
    for storage in ("MCAP", "SQLITE3"):
        bag_of(folder / storage, 2, storage=storage)
    replayed = runner.invoke(app, commands(folder, model)["replay"])
    assert replayed.exit_code == 0, replayed.stderr
    return folder


def _asking(folder: Path, model: Path) -> list[str]:
    options = {"--questions": folder / "q.yaml", "--out": folder / "out", "--model": model}
    return [*(word for pair in options.items() for word in map(str, pair)), "--device", "cpu"]


def _images(folder: Path) -> list[str]:
    names = {"--rgb": "rgb.png", "--depth": "depth.png", "--intrinsics": "k.json"}
    return [word for option, name in names.items() for word in (option, str(folder / name))]


def commands(folder: Path, model: Path) -> dict[str, list[str]]:
    """Every command that reads files."""
    box = ["--region", "box=20,10,40,30"]
    return {
        "measure": ["measure", *_images(folder), *box],
        "measure mcap": ["measure", "--bag", str(folder / "MCAP"), *box],
        "measure file": ["measure", "--bag", str(folder / "MCAP" / "MCAP.mcap"), *box],
        "measure db3": ["measure", "--bag", str(folder / "SQLITE3"), *box],
        "ask": ["ask", "How tall?", *_images(folder), "--model", str(model), "--device", "cpu"],
        "replay": ["replay", str(folder / "MCAP"), *_asking(folder, model)],
    }


READ_BY = [
    ("measure", "rgb.png"),
    ("measure", "depth.png"),
    ("measure", "k.json"),
    ("measure mcap", "MCAP/metadata.yaml"),
    ("measure mcap", "MCAP/MCAP.mcap"),
    ("measure file", "MCAP/MCAP.mcap"),
    ("measure db3", "SQLITE3/SQLITE3.db3"),
    ("ask", "rgb.png"),
    ("replay", "q.yaml"),
    ("replay", "out/replay.json"),
    ("replay", "out/answers.jsonl"),
]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(("command", "name"), READ_BY)
def test_a_damaged_file_is_one_line_on_stderr(
    tmp_path: Path, good: Path, model: Path, command: str, name: str, damage: str
) -> None:
    folder = tmp_path / "files"
    shutil.copytree(good, folder)
    (folder / name).write_bytes(DAMAGES[damage]((folder / name).read_bytes()))
    check_refused_or_done(commands(folder, model)[command])


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_damaged_model_is_one_line_on_stderr(
    tmp_path: Path, good: Path, model: Path, name: str, damage: str
) -> None:
    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    if not (copy / name).is_file():
        pytest.skip(f"the small model has no {name}")
    (copy / name).write_bytes(DAMAGES[damage]((copy / name).read_bytes()))
    check_refused_or_done(commands(good, copy)["ask"])


@pytest.mark.parametrize("kind", ["directory", "absent", "text"])
def test_a_path_of_another_kind_is_one_line_on_stderr(
    tmp_path: Path, good: Path, model: Path, kind: str
) -> None:
    for command, name in READ_BY:
        folder = tmp_path / command.replace(" ", "_") / name.replace("/", "_")
        shutil.copytree(good, folder)
        (folder / name).unlink()
        if kind == "directory":
            (folder / name).mkdir()
        elif kind == "text":
            (folder / name).write_text("hello\n")
        check_refused_or_done(commands(folder, model)[command])


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_release_that_cannot_be_converted_is_one_line_on_stderr(
    tmp_path: Path, model: Path, damage: str
) -> None:
    released = tmp_path / "released"
    shutil.copytree(model, released)
    config = released / "config.json"
    config.write_bytes(DAMAGES[damage](config.read_bytes()))
    out = str(tmp_path / "out")
    check_refused_or_done(["convert", str(released), out])
    (tmp_path / "file.pth").write_bytes(DAMAGES[damage](b"PK\x03\x04" + bytes(1000)))
    check_refused_or_done(["convert", str(tmp_path / "file.pth"), out])


def check_refused_or_done(arguments: list[str]) -> None:
    """Some damage is not noticed, or is the error of one question; a refusal is one line."""
    result = runner.invoke(app, arguments)
    unforeseen = result.exception
    assert unforeseen is None or isinstance(unforeseen, SystemExit), repr(unforeseen)
    assert result.exit_code in (0, 1, 2), result.stderr
    assert "Traceback" not in result.stderr
    refusals = [line for line in result.stderr.splitlines() if line.startswith("sdvlm: ")]
    if result.exit_code == 1 and arguments[0] != "replay":
        assert len(refusals) == 1, result.stderr
    if refusals:
        assert result.stderr.splitlines()[-1] == refusals[0], result.stderr
        assert len(refusals[0]) < 1000
