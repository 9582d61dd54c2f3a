"""Tables are written atomically; an unreadable row is refused with its file and number."""

from __future__ import annotations

import pyarrow as pa
import pytest

from training.data.tables import count_rows, parse_nested, read_rows, row_errors, write_table

SCHEMA = pa.schema([("number", pa.int64()), ("text", pa.string())])
GROUPS = [[{"number": 1, "text": "one"}, {"number": 2, "text": "two"}], [{"number": 3}]]


def test_written_rows_are_read_back_in_order(tmp_path):
    write_table(tmp_path / "a.parquet", GROUPS, SCHEMA, "zstd")
    rows = list(read_rows(tmp_path / "a.parquet"))
    assert [row["number"] for row in rows] == [1, 2, 3]
    assert rows[2]["text"] is None
    assert next(read_rows(tmp_path / "a.parquet", columns=["text"])) == {"text": "one"}
    assert count_rows([tmp_path / "a.parquet"] * 2) == 6
    assert count_rows([tmp_path / "a.jsonl"]) is None


def test_a_write_that_fails_leaves_the_old_file_and_no_temporary_file(tmp_path):
    path = tmp_path / "a.parquet"
    write_table(path, GROUPS, SCHEMA, "zstd")
    before = path.read_bytes()

    def groups():
        yield GROUPS[0]
        raise RuntimeError("planted")

    with pytest.raises(RuntimeError, match="planted"):
        write_table(path, groups(), SCHEMA, "zstd")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_hook_sees_the_complete_file_before_it_gets_its_name(tmp_path):
    path = tmp_path / "a.parquet"
    seen = []

    def check(temporary):
        assert not path.exists()
        seen.append(temporary.read_bytes())

    write_table(path, GROUPS, SCHEMA, "none", check)
    assert seen == [path.read_bytes()]


@pytest.mark.parametrize("line", ["{", "[1]", "3"])
def test_a_line_that_is_not_a_json_object_is_refused_with_its_row(tmp_path, line):
    (tmp_path / "a.jsonl").write_text(f'{{"a": 1}}\n{line}\n')
    with pytest.raises(LookupError, match=r"a\.jsonl, row 1"):
        list(read_rows(tmp_path / "a.jsonl", refusal=LookupError))


def test_nested_text_is_parsed_and_never_evaluated():
    assert parse_nested('{"a": [1]}') == {"a": [1]}
    assert parse_nested("[{'a': 1}\n {'a': 2}]") == [{"a": 1}, {"a": 2}]
    assert parse_nested("plain") == "plain"
    with pytest.raises(ValueError, match="malformed"):
        parse_nested("[__import__('os')]")
    with pytest.raises(ValueError, match="characters"):
        parse_nested("[" * (1 << 21))


def test_an_error_in_a_row_names_the_file_and_the_row(tmp_path):
    with (
        pytest.raises(ValueError, match=r"a\.parquet, row 7: KeyError\('x'\)"),
        row_errors(tmp_path / "a.parquet", 7),
    ):
        raise KeyError("x")
