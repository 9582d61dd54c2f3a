"""What the things in a run's folder were made with: kept there, and anything else refused.

A run that goes on where it stopped must not go on with other settings, nor show what old settings
made as made by new ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RECIPE = "recipe.json"


def keep_to(out: Path, recipe: Mapping[str, Any]) -> None:
    """Write down the recipe of a new run in folder `out`; of one that goes on, compare.

    Raises:
        ValueError: the folder was made with another one; names what differs, both values, and what
            to do.
    """
    path = out / RECIPE
    wanted = json.loads(json.dumps(recipe))
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
        temporary.replace(path)
        return
    stored = json.loads(path.read_text(encoding="utf-8"))
    refuse_another(out, stored, wanted)


def refuse_another(place: Path, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Compare what is kept in `place` with what is asked for now.

    Raises:
        ValueError: they differ; as `keep_to`.
    """
    differing = [
        f"{key} was {stored.get(key)!r} and is {wanted.get(key)!r}"
        for key in sorted({*stored, *wanted})
        if stored.get(key) != wanted.get(key)
    ]
    if differing:
        raise ValueError(
            f"{place} is of other settings: {'; '.join(differing)}. Put back what was, or choose "
            "another folder"
        )
