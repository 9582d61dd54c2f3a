"""What the tasks call: a row of a table -> images, words and marks.

A task's `control` changes depth, intrinsics or the whole frame as `training.evaluate` does: by the
same function with the same seeds. `depth_as` is how a model is given depth: "metres" as a second
image of mode F, metres, NaN = no reading, with the intrinsics in `info` of the first (the model
`sdvlm`); "picture" or "text" as `training.evaluate.endpoint_model` shows it; "none" for models of
colour images, whose answers no control of depth can change. Does not know models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from PIL import Image

from sdvlm_core.frame import RgbdFrame
from training.evaluate.controls import Controls, shown
from training.evaluate.endpoint_model import shown_to_model
from training.evaluate.flat import frame_of, item_of
from training.evaluate.judges import rules_judge
from training.evaluate.official import official
from training.evaluate.report import summarise
from training.evaluate.score import strict

Row = Mapping[str, Any]
#: Name of a control in the name of its task -> frames, depth and intrinsics of `Controls.parse`.
CONTROLS = {
    "own": ("own", "own", "own"),
    "none": ("own", "none", "own"),
    "shuffled": ("own", "shuffled", "own"),
    "constant": ("own", "constant", "own"),
    "inverted": ("own", "inverted", "own"),
    "noise": ("own", "noise:0.1", "own"),
    "wrong_intrinsics": ("own", "own", "wrong"),
    "other_frame": ("shuffled", "own", "own"),
    "blank": ("blank", "own", "own"),
}
_FRAME = ("rgb", "depth", "depth_source", "intrinsics")
#: Controls that show something of the next picture.
OF_NEXT = ("shuffled", "other_frame")


def with_next(rows: Any) -> Any:
    """The data set with the columns of the next picture, as `next_rgb` and so on.

    The picture after the last is the first. Made of indices: no image is copied.
    """
    from datasets import concatenate_datasets

    frames = rows["frame"]
    firsts = [n for n in range(len(frames)) if n == 0 or frames[n] != frames[n - 1]]
    follows = {frames[a]: b for a, b in zip(firsts, [*firsts[1:], *firsts[:1]], strict=True)}
    behind = rows.select([follows[frame] for frame in frames]).select_columns(list(_FRAME))
    named = behind.rename_columns({name: f"next_{name}" for name in _FRAME})
    return concatenate_datasets([rows, named], axis=1)


def seen(row: Row, control: str) -> RgbdFrame:
    """The picture of a row under a control."""
    frame = other = frame_of(row)
    if control in OF_NEXT:
        other = frame_of({name: row[f"next_{name}"] for name in _FRAME})
    return shown(frame, other, Controls.parse(*CONTROLS[control]), int(row["number"]))


def images(row: Row, options: Mapping[str, str] | None = None) -> list[Image.Image]:
    """The images of a request; `options` has `control` and `depth_as`."""
    control, depth_as = _read(options)
    frame = seen(row, control)
    if depth_as != "metres":
        return [Image.fromarray(image) for image in shown_to_model(frame, depth_as)[0]]  # type: ignore[arg-type]
    rgb = Image.fromarray(frame.rgb)
    rgb.info["frame"] = row["frame"]
    if frame.intrinsics is not None:
        rgb.info["intrinsics"] = json.dumps(asdict(frame.intrinsics))
    if frame.depth is None:
        return [rgb]
    depth = Image.fromarray(np.asarray(frame.depth, np.float32))
    depth.info["depth_source"] = frame.depth_source
    return [rgb, depth]


def words(row: Row, options: Mapping[str, str] | None = None) -> str:
    """The text of a request."""
    control, depth_as = _read(options)
    if depth_as in ("metres", "none"):
        return str(row["question"])
    return shown_to_model(seen(row, control), depth_as)[1] + str(row["question"])  # type: ignore[arg-type]


def _read(options: Mapping[str, str] | None) -> tuple[str, str]:
    known = options or {}
    return known.get("control", "own"), known.get("depth_as", "none")


def marks(row: Row, results: Sequence[str]) -> dict[str, Any]:
    """Both scorings of one answer, by the rules judge."""
    item = item_of(row)
    judgement = rules_judge(item, results[0])
    metres = item.reference if isinstance(item.reference, float) else float("nan")
    common = {
        "frame": row["frame"],
        "type": item.type,
        "types": row["types"],
        "divisor": row["divisor"],
    }
    scores = {
        "strict": strict(item.rule, judgement, metres),
        "official": official(item.rule, judgement, None, metres),
    }
    return {name: common | {"correct": score.correct} for name, score in scores.items()}


def macro(results: Sequence[Mapping[str, Any]]) -> float:
    """The mean over types in percent, as `training.evaluate` computes it."""
    types = json.loads(results[0]["types"])
    return float(summarise([dict(row) for row in results], types, results[0]["divisor"])["macro"])
