"""How every command prints and fails: JSON on stdout, all else on stderr, errors as status 1.

Does not know what a command does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

from sdvlm_core.cautions import Caution
from sdvlm_core.errors import SdvlmError


def print_json(document: dict[str, Any]) -> None:
    """Print one JSON document on stdout; it must not contain NaN."""
    print(json.dumps(document, allow_nan=False, ensure_ascii=False))


def stderr_console() -> Console:
    """A console for progress bars, which must not mix with the JSON on stdout."""
    return Console(stderr=True)


def print_cautions(console: Console, cautions: Sequence[Caution], reasons: Sequence[str]) -> None:
    """Print the cautions of a frame: the codes, and below them the reasons with what to do."""
    if cautions:
        console.print(f"[yellow]cautions: {', '.join(code.value for code in cautions)}[/]")
    for reason in reasons:
        console.print(f"  [yellow]{escape(reason)}[/]")


@contextmanager
def refusals(as_json: bool) -> Iterator[None]:
    """Turn an SdvlmError or OSError into its message on stderr and exit status 1."""
    try:
        yield
    except (SdvlmError, OSError) as error:
        print(f"sdvlm: {error}", file=sys.stderr)
        if as_json:
            print_json({"error": {"type": type(error).__name__, "message": str(error)}})
        raise typer.Exit(1) from error
