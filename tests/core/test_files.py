"""Files and directories are replaced in one step, or stay as they were."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from sdvlm_core.files import (
    atomic_directory,
    atomic_file,
    read_json,
    read_yaml,
    remove_temporaries,
    sha256,
    temporary_path,
    write_json,
    write_text,
)


def fail_after_writing(path: Path) -> None:
    path.write_text("half")
    raise RuntimeError


def test_a_failed_write_keeps_the_old_file_and_leaves_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_file(path) as temporary:
        fail_after_writing(temporary)
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_a_failed_write_keeps_the_old_directory_and_leaves_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "directory"
    with atomic_directory(path) as temporary:
        assert temporary.name == path.name
        (temporary / "old").touch()
    with pytest.raises(RuntimeError), atomic_directory(path) as temporary:
        fail_after_writing(temporary / "half")
    assert [file.name for file in path.iterdir()] == ["old"]
    assert [*tmp_path.iterdir()] == [path]


def test_a_directory_is_replaced_not_merged(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with atomic_directory(tmp_path / "directory") as temporary:
            (temporary / name).touch()
    assert [file.name for file in (tmp_path / "directory").iterdir()] == ["new"]


def test_temporaries_of_killed_processes_are_removed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "name"
    (tmp_path / ".name.123.tmp").mkdir()
    temporary_path(path).touch()
    (tmp_path / ".other.123.tmp").touch()
    path.touch()
    remove_temporaries(path)
    assert {file.name for file in tmp_path.iterdir()} == {"name", ".other.123.tmp"}


def test_nan_is_not_written_as_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "values.json", {"value": float("nan")})
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff"])
def test_a_file_that_is_not_a_json_object_is_refused_by_name(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "values.json"
    path.write_bytes(content)
    with pytest.raises(KeyError, match=r"values\.json"):
        read_json(path, KeyError)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_json(tmp_path / "values.json", {"value": [1, None, "ü"]})
    assert read_json(tmp_path / "values.json") == {"value": [1, None, "ü"]}
    assert json.loads((tmp_path / "values.json").read_bytes())["value"][2] == "ü"
    expected = hashlib.sha256((tmp_path / "values.json").read_bytes()).hexdigest()
    assert sha256(tmp_path / "values.json") == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 60 + "]" * 60, "nested more than"),
        ("a: [" * 100_000, "nested more than"),
        ("".join(f"l{n + 1}: &l{n + 1} [{f'*l{n},' * 9}]\n" for n in range(1, 12)), "alias"),
        (
            "l1: &l1 [x]\n"
            + "".join(f"l{n + 1}: &l{n + 1} [{f'*l{n},' * 9}]\n" for n in range(1, 12)),
            "more than 500000 values",
        ),
        ("a: &a [*a]", "has no value before it"),
        ("x" * (9 << 20), "bytes"),
        ("a: !!int x", "cannot read"),
        ("a: !!timestamp x", "cannot read"),
        ("a: !!python/object:os.system x", "cannot read"),
        ("a: 2001-99-99", "cannot read"),
        ("[a", "cannot read"),
        ("\x00", "cannot read"),
    ],
)
def test_yaml_that_is_too_large_or_damaged_is_refused_in_one_line(
    tmp_path: Path, text: str, reason: str
) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=reason) as refused:
        read_yaml(path)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400
    assert str(path) in str(refused.value)


def test_yaml_with_aliases_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: &a [1, {b: 2}]\nc: *a\nd: {<<: {e: 5}, f: *a}\n")
    found = read_yaml(tmp_path / "x.yaml")
    assert found == {"a": [1, {"b": 2}], "c": [1, {"b": 2}], "d": {"e": 5, "f": [1, {"b": 2}]}}
