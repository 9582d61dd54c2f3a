"""The settings of a run, kept in its folder; a resumed run must have the same.

Otherwise a run would resume with other settings, or show old results as results of new settings.
Does not know what a setting means.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdvlm_core.files import read_json, write_text

FILE_NAME = "recipe.json"


def check_unchanged(out: Path, settings: Mapping[str, Any]) -> None:
    """Store the settings of a new run in folder `out`; compare those of a resumed run.

    Raises:
        ValueError: the folder belongs to a run with other settings; names each difference.
    """
    path = out / FILE_NAME
    wanted = json.loads(json.dumps(settings))
    if path.exists():
        check_equal(out, read_json(path), wanted)
        return
    out.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(wanted, indent=1) + "\n")


def check_equal(place: Path, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Compare the settings stored in `place` with those of this run.

    Raises:
        ValueError: they differ; the message has each difference and the remedy.
    """
    differing = [
        f"{key} was {stored.get(key)!r} and is {wanted.get(key)!r}"
        for key in sorted({*stored, *wanted})
        if stored.get(key) != wanted.get(key)
    ]
    if differing:
        raise ValueError(
            f"{place} belongs to a run with other settings: {'; '.join(differing)}. "
            "Restore the settings or choose another folder"
        )
