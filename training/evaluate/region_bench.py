"""SpatialRGPT-Bench: questions about numbered regions, which are not an input of our models.

The regions are drawn into the image with their names, or described in text before the question.
Knows its rows and categories; does not know how answers are judged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2

from sdvlm_core.frame import RgbdFrame
from training.data.images import read_rgb
from training.data.tables import (
    count_rows,
    files_of_test_split,
    parse_nested,
    read_rows,
    row_errors,
)
from training.evaluate import stated
from training.evaluate.items import Benchmark, BenchmarkError, Item, Picture
from training.evaluate.references import clock_hours

_QUANTITIES = {
    "distance_data": "direct_distance",
    "horizontal_distance_data": "horizontal_distance",
    "vertical_distance_data": "vertical_distance",
    "width_data": "width",
    "height_data": "height",
    "direction": "direction",
}
# In the order in which the script looks: "tall" and "short" before all others.
_QUALITIES = ("tall/short", "left/right", "below/above", "behind/front", "big/small", "wide/thin")
_REGION = re.compile(r"Region \[(\d+)\]")
#: Bytes; the release has some tens of megabytes.
_MAX_ARRAY = 1 << 29
_COLOURS = ((220, 40, 40), (40, 90, 220), (30, 150, 60), (200, 130, 0), (140, 40, 170))


def spatialrgpt(path: Path, regions: str) -> Benchmark:
    """The release's JSON array, a jsonl, or parquet or Arrow files with the images inside.

    The release's images are those of Omni3D, apart from its JSON: `file_path` is looked up below
    the folder of the JSON.
    """
    files = [path] if path.is_file() else _files(path)
    if not files:
        raise BenchmarkError(
            f"{path} holds no SpatialRGPT-Bench*.json, .jsonl, .parquet or .arrow files"
        )
    root = path.parent if path.is_file() else path

    def pictures() -> Iterator[Picture]:
        for file in files:
            for number, row in enumerate(_rows(file)):
                with row_errors(file, number, BenchmarkError):
                    row = {key: parse_nested(value) for key, value in row.items()}
                    # Ids repeat; row numbers do not.
                    key = f"{file.stem}/{number}"
                    item = _region_item(key, row)
                    where = str((row.get("image_info") or {}).get("file_path", ""))
                    rgb = read_rgb(row.get("image"), where, root)
                    rgb, item = _with_regions(rgb, item, row, regions)
                yield Picture(key, RgbdFrame(rgb), (item,))

    types = (*_QUALITIES, *_QUANTITIES.values())
    return Benchmark("spatialrgpt", types, 0, pictures, count_rows(files))


def _files(folder: Path) -> list[Path]:
    """The annotations in a folder, which may hold other JSON files, as Omni3D's does."""
    own = sorted([*folder.glob("SpatialRGPT-Bench*.json"), *folder.glob("*.jsonl")])
    return own or sorted([*folder.rglob("*.jsonl"), *files_of_test_split(folder)])


def _rows(file: Path) -> Iterator[Mapping[str, Any]]:
    """The rows of a JSON array, or of any other format."""
    if file.suffix == ".json" and _starts_an_array(file):
        if file.stat().st_size > _MAX_ARRAY:
            raise BenchmarkError(f"{file} has {file.stat().st_size} bytes, at most {_MAX_ARRAY}")
        try:
            rows = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise BenchmarkError(f"{file} is no JSON array: {error}") from error
        for number, row in enumerate(rows):
            if not isinstance(row, dict):
                raise BenchmarkError(f"{file}, row {number}: no object but {type(row).__name__}")
            yield row
    else:
        yield from read_rows(file, refusal=BenchmarkError)


def _starts_an_array(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(64).lstrip().startswith(b"[")


def _region_item(key: str, row: Mapping[str, Any]) -> Item:
    said = row["conversations"]
    if len(said) != 2:
        raise ValueError(f"a conversation of {len(said)} turns; text_q is one question")
    asked, answer = str(row["text_q"]).strip(), str(said[1]["value"]).strip()
    question = asked.replace("<image>", "").strip()
    category = str(row["qa_info"]["category"])
    if row["qa_info"]["type"] == "qualitative":
        kinds = [kind for kind in _QUALITIES if any(w in category for w in kind.split("/"))]
        if not kinds:
            raise ValueError(f"unknown category {category!r}")
        return Item(key, kinds[0], "any mark", question, answer, answer)
    if category not in _QUANTITIES:
        raise ValueError(f"unknown category {category!r}")
    if category == "direction":
        hours = clock_hours(answer)
        return Item(
            key, "direction", "clock", question, answer, float(hours[-1]) if hours else None
        )
    typed = stated.asked_in(stated.with_letters(question))
    metres = stated.length(stated.with_letters(answer), typed)
    return Item(key, _QUANTITIES[category], "quarter", question, answer, metres)


def _with_regions(rgb: Any, item: Item, row: Mapping[str, Any], regions: str) -> tuple[Any, Item]:
    """The item with its boxes drawn into the image, or described before the question."""
    height, width = rgb.shape[:2]
    boxes = [[float(side) for side in box] for box in row.get("bbox") or ()]
    missing = {int(n) for n in _REGION.findall(item.question)} - set(range(len(boxes)))
    if missing or any(len(box) != 4 for box in boxes):
        raise ValueError(f"{len(boxes)} boxes for {item.question!r}")
    if regions == "drawn":
        rgb = rgb.copy()
        for number, box in enumerate(boxes):
            x1, y1, x2, y2 = (round(side) for side in box)
            colour = _COLOURS[number % len(_COLOURS)]
            thick = max(2, width // 320)
            cv2.rectangle(rgb, (x1, y1), (x2, y2), colour, thick)
            at = (max(x1, 0) + thick, max(y1, 0) + 10 * thick)
            cv2.putText(
                rgb, f"Region [{number}]", at, cv2.FONT_HERSHEY_SIMPLEX, thick / 4, colour, thick
            )
        return rgb, item
    words = " ".join(
        f"Region [{n}] is the box from ({x1 / width:.2f},{y1 / height:.2f}) to "
        f"({x2 / width:.2f},{y2 / height:.2f})."
        for n, (x1, y1, x2, y2) in enumerate(boxes)
    )
    question = f"{words} {item.question}".strip()
    return rgb, replace(item, question=question)
