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
    differing = [
        f"{key} {stored.get(key)} there, {wanted.get(key)} here"
        for key in sorted({*stored, *wanted})
        if stored.get(key) != wanted.get(key)
    ]
    if differing:
        raise ValueError(
            f"{out} was begun with other settings ({'; '.join(differing)}): choose another folder, "
            "or remove this one"
        )
