"""Benchmarks on disk -> images with questions: published benchmarks and local folders.

Every reader streams, downloads nothing, and refuses what it does not understand with the file and
the row. Knows the benchmarks and how their rows are to be scored (`Item.rule`); does not know
models, nor whether an answer is right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from sdvlm_core.frame import RgbdFrame, depth_in_metres
from training.build.phrasing import Style
from training.build.questions import MORE_TYPES, TYPES, Question, ask_all, make_view
from training.build.wordings import HELD_OUT
from training.data.conversations import Sample, load
from training.data.images import read_rgb
from training.data.tables import Row, count_rows, files_of_test_split, read_rows, row_errors
from training.evaluate.items import Benchmark, BenchmarkError, Item, Picture
from training.evaluate.references import RULES, reference_of, type_of
from training.evaluate.region_bench import spatialrgpt
from training.evaluate.score import UNITS
from training.simulate.catalogue import CATEGORIES, COLOURS
from training.simulate.frames import SimulatedFrame, read_frames, rgbd_frame, shard_paths

NAMES = ("msmu", "q-spatial", "spatialrgpt")
#: Maximum number of questions of each type about a simulated frame.
PER_TYPE = 2
_SEED = 20251


def open_benchmark(name: str, data: Path | None, regions: str = "drawn") -> Benchmark:
    """A published benchmark from its local copy, or a folder made by `training`.

    Args:
        name: one of `NAMES`, or a folder of training.simulate or training.build.
        data: the local copy; only for names.
        regions: for SpatialRGPT-Bench: "drawn" into the image, or given as "text".

    Raises:
        BenchmarkError, FileNotFoundError: nothing to read there.
    """
    try:
        if name not in NAMES:
            return _folder(Path(name))
        if data is None:
            raise BenchmarkError(f"{name} needs --data with a local copy; nothing is downloaded")
        if not data.exists():
            raise FileNotFoundError(f"{data} does not exist")
        if name == "msmu":
            return _msmu(data, name)
        return _q_spatial(data) if name == "q-spatial" else spatialrgpt(data, regions)
    except pa.ArrowInvalid as error:
        raise BenchmarkError(f"{data or name}: a damaged file: {error}") from error


# --- local folders --------------------------------------------------------------------------------


def questions_of(
    frame: SimulatedFrame, style: Style = HELD_OUT, types: Sequence[str] = (*TYPES, *MORE_TYPES)
) -> list[Question]:
    """The questions of a benchmark about a simulated frame; deterministic.

    The default asks in words that nano's training does not have.
    """
    k = frame.intrinsics
    view = make_view(frame.objects, k.width * k.height, list(COLOURS), CATEGORIES)
    rng = np.random.default_rng([_SEED, frame.scene])
    return ask_all(view, rng, dict.fromkeys(types, PER_TYPE), style=style)


def question_item(key: str, question: Question) -> Item:
    """A generated question as an item."""
    q = question
    return Item(key, q.type, RULES[q.type], q.question, q.answer, q.reference, q.asked)


def _folder(folder: Path) -> Benchmark:
    shards = shard_paths(folder)
    if not shards and files_of_test_split(folder):
        return _msmu(folder, "folder")

    def pictures() -> Iterator[Picture]:
        for frame in read_frames(folder):
            items = tuple(
                question_item(f"{frame.scene}/{number}", question)
                for number, question in enumerate(questions_of(frame))
            )
            yield Picture(frame.scene, rgbd_frame(frame), items)

    next(read_frames(folder, 1), None)  # raises, with the remedy, if there are none
    return Benchmark("folder", TYPES, len(TYPES), pictures, count_rows(shards), more=MORE_TYPES)


# --- MSMU -----------------------------------------------------------------------------------------


def _msmu(path: Path, name: str) -> Benchmark:
    """MSMU in any of its schemas; type names are those of the release or of the scorer."""
    files = files_of_test_split(path)
    if not files:
        raise BenchmarkError(f"{path} holds no .parquet or .arrow files")

    def pictures() -> Iterator[Picture]:
        for file in files:
            for row, sample in enumerate(_samples(file)):
                key = f"{file.stem}/{row}"
                if sample.types and len(sample.types) != len(sample.turns):
                    raise BenchmarkError(
                        f"{file}, row {row}: {len(sample.types)} types for {len(sample.turns)}"
                    )
                types = sample.types or ("",) * len(sample.turns)
                items = []
                for turn, (raw, said) in enumerate(zip(types, sample.turns, strict=True)):
                    try:
                        items.append(msmu_item(f"{key}/{turn}", raw, *said))
                    except ValueError as error:
                        raise BenchmarkError(f"{file}, row {row}: {error}") from error
                depth = sample.depth_mm
                metres = None if depth is None else depth_in_metres(depth, 0.001)
                frame = RgbdFrame(sample.rgb, metres, sample.intrinsics)
                yield Picture(key, frame, tuple(items))

    return Benchmark(name, TYPES, len(TYPES), pictures, count_rows(files))


def _samples(file: Path) -> Iterator[Sample]:
    try:
        yield from load(file)
    except ValueError as error:
        raise BenchmarkError(str(error)) from error


def msmu_item(key: str, raw: str, question: str, answer: str) -> Item:
    """A row of MSMU as an item; ValueError if its type is unknown."""
    kind = type_of(raw or "", question, answer)
    reference = reference_of(kind, question, answer)
    return Item(key, kind, RULES[kind], question, answer, reference)


# --- Q-Spatial ------------------------------------------------------------------------------------

_SPLITS = ("QSpatial_plus", "QSpatial_scannet")


def _q_spatial(path: Path) -> Benchmark:
    """Parquet or Arrow files of the two splits, which their paths name.

    The release of QSpatial_scannet has paths instead of images, which need ScanNet's permission. A
    split of which no image exists is left out; one of which some exist is asked in part, and the
    name of its type says of how many questions ("QSpatial_scannet, 83 of 170").

    Raises:
        BenchmarkError: no file of a split, or no image at all.
    """
    files = [path] if path.is_file() else [*path.rglob("*.parquet"), *path.rglob("*.arrow")]
    root = path.parent if path.is_file() else path
    split = {f: s for f in sorted(files) for s in _SPLITS if s in str(f.relative_to(root))}
    if not split:
        raise BenchmarkError(f"{path} holds no parquet or Arrow files named after {_SPLITS}")
    missing: set[tuple[Path, int]] = set()
    total, found, example = Counter[str](), Counter[str](), ""
    for file, kind in split.items():
        for number, row in enumerate(read_rows(file)):
            total[kind] += 1
            if _has_image(row, root):
                found[kind] += 1
            else:
                missing.add((file, number))
                example = example or str(root / str(row["image_path"]))
    names = {
        kind: kind if found[kind] == total[kind] else f"{kind}, {found[kind]} of {total[kind]}"
        for kind in _SPLITS
        if found[kind]
    }
    if not names:
        raise BenchmarkError(
            f"{path} has no image of any question; for example {example} is missing"
        )

    def pictures() -> Iterator[Picture]:
        for file, kind in split.items():
            for number, row in enumerate(read_rows(file)):
                if (file, number) in missing:
                    continue
                with row_errors(file, number, BenchmarkError):
                    key = f"{kind}/{file.stem}/{number}"
                    item = _distance_item(key, names[kind], row)
                    rgb = read_rgb(row.get("image"), str(row.get("image_path") or ""), root)
                yield Picture(key, RgbdFrame(rgb), (item,))

    count = count_rows(list(split))
    size = None if count is None else count - len(missing)
    return Benchmark("q-spatial", tuple(names.values()), 0, pictures, size)


def _has_image(row: Row, root: Path) -> bool:
    """Whether a row has an image, or a path to a file that exists."""
    image = row.get("image")
    stored = image.get("bytes") if isinstance(image, Mapping) else image
    where = str(row.get("image_path") or "")
    return stored is not None or not where or (root / where).is_file()


def _distance_item(key: str, kind: str, row: Row) -> Item:
    """A row of Q-Spatial as an item; ValueError or KeyError if its answer is no length."""
    unit = str(row["answer_unit"]).strip().lower()
    metres = float(row["answer_value"]) * UNITS[unit]
    if not 0 < metres < float("inf"):
        raise ValueError(f"an answer of {metres} m")
    answer = f"{row['answer_value']} {unit}"
    return Item(key, kind, "factor", str(row["question"]), answer, metres)
