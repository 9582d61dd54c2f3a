"""Text from outside is shown clipped, and cannot forge a line of a log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdvlm_core.errors import shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("red mug", "red mug"),
        ("Größe 'x' \\ 杯", "Größe 'x' \\ 杯"),
        ("a\n[ERROR] forged", "a\\n[ERROR] forged"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\u202egnp\u2028", "\\u202egnp\\u2028"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_is_not_printable_is_escaped_and_the_rest_is_kept(text: str, expected: str) -> None:
    assert shown(text) == expected


@given(
    st.text(st.characters(codec=None, categories=None), max_size=300),
    st.integers(min_value=3, max_value=250),
)
def test_shown_text_is_one_printable_line_of_limited_length(text: str, limit: int) -> None:
    once = shown(text, limit)
    assert len(once) <= limit
    assert once.isprintable()
    once.encode("utf-8")
    assert shown(once, limit) == once


def test_a_clipped_text_ends_in_dots() -> None:
    assert shown("x" * 10_000_000) == "x" * 197 + "..."
