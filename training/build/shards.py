"""Scenes -> rows -> one shard: the unit of work, of resuming, and of what a worker holds in memory.

Deterministic: the bytes of a shard follow from its scenes and the recipe, whoever writes it and
whenever. Atomic: a shard is there whole, with its report beside it, or not at all. Knows readers,
graphs, selection and questions; does not know processes, clusters or progress bars.

A row is one picture with its conversation: image (JPEG) and conversations as the released MSMU
has them, `type` of every turn, then what it lacks: depth (PNG, uint16 millimetres, 0 = none),
intrinsics, camera_to_world, scene_graph (JSON, `graph`), thoughts (chains of thought, rejected ones
with the reason), source, scene and view.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from sdvlm_core.files import sha256, write_text
from training.build import scannet, scannetpp, simulated
from training.build.graph import Rasterizer, depth_of, describe
from training.build.phrasing import STYLES
from training.build.questions import TYPES, Balance, Question, ask_all, named_view
from training.build.relabel import relabel
from training.build.roles import Role, ask_of, usage_of
from training.build.scene import Scene, SceneError, View
from training.build.selection import KeyFrames, Rules, categories, select, sharpness
from training.build.thought import Thought, think
from training.data.images import encode_jpeg, encode_png
from training.data.schemas import CONVERSATIONS
from training.data.tables import Row, write_table

SOURCES: dict[str, ModuleType] = {
    module.SOURCE: module for module in (scannet, scannetpp, simulated)
}
#: Scenes of a shard: about as many pictures each.
SCENES_PER_SHARD = {"scannet": 8, "scannetpp": 8, "simulated": 64}
REPORTS, ANSWERS = "reports", "answers"
_JPEG_QUALITY = 95
#: No type is asked more often than so many times the rarest: then each has at least 5 %.
_MAX_SHARE = 2.4


@dataclass(frozen=True)
class Recipe:
    """Everything the content of a data set follows from, besides the scans.

    Attributes:
        style: a name of `phrasing.STYLES`.
        per_type: questions of each type asked about a picture, where it has that many.
        seed: of all choices.
        roles: (name, model) of `roles.ROLES`; none = no relabelling, no chains of thought.
    """

    style: str = "msmu"
    per_type: int = 4
    seed: int = 0
    rules: Rules = field(default_factory=Rules)
    roles: tuple[tuple[str, Role], ...] = ()

    def described(self) -> dict[str, Any]:
        """As JSON; of a role only which model it is, for a server may move."""
        models = {name: role.model or role.directory for name, role in self.roles}
        return asdict(self) | {"roles": models}


@dataclass(frozen=True)
class Task:
    """One shard to write: `name` such as train-00003, and the scenes it is made of."""

    name: str
    source: str
    scenes: tuple[Path, ...]


@dataclass(eq=False)
class Report:
    """What became of a shard's scenes; written beside it as JSON.

    `relabelled` and `thoughts` count what models did and was believed, `refused` what was not;
    `usage` is what each role cost, which a second run with the same answers does not.
    """

    rows: int = 0
    scenes: int = 0
    objects: int = 0
    relabelled: int = 0
    thoughts: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    usage: dict[str, Counter[str]] = field(default_factory=dict)
    questions: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    failures: list[list[str]] = field(default_factory=list)
    values: dict[str, Counter[str]] = field(default_factory=dict)
    sha256: str = ""


def shard_path(out: Path, name: str) -> Path:
    """Where a shard lies."""
    return out / f"{name}.parquet"


def report_path(out: Path, name: str) -> Path:
    """Where its report lies."""
    return out / REPORTS / f"{name}.json"


def write_shard(task: Task, recipe: Recipe, out: Path) -> Report:
    """Make one shard and its report; afterwards both are there, the shard last.

    A scene that fails is tried once more, then reported and left out.
    """
    report, balance = Report(), Balance()
    answers = out / ANSWERS
    before = {name: vars(usage_of(role, answers)) for name, role in recipe.roles}

    def row_groups() -> Iterator[list[Row]]:
        for path in task.scenes:
            rows = _scene_rows(task.source, path, recipe, answers, report, balance)
            report.rows += len(rows)
            if rows:
                yield rows

    def write_report(shard: Path) -> None:
        report.sha256 = sha256(shard)
        for name, role in recipe.roles:
            after = vars(usage_of(role, answers))
            report.usage[name] = Counter({k: after[k] - before[name][k] for k in after})
        path = report_path(out, task.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(vars(report), indent=1, sort_keys=True) + "\n")

    write_table(shard_path(out, task.name), row_groups(), CONVERSATIONS, "zstd", write_report)
    return report


def _scene_rows(
    source: str, path: Path, recipe: Recipe, answers: Path, report: Report, balance: Balance
) -> list[dict[str, Any]]:
    """The rows of one scene; [] with the reason in the report where there are none."""
    for last in (False, True):
        # What a failed try has counted must not stay.
        trial, kept = Report(), Balance({k: Counter(c) for k, c in balance.counts.items()})
        try:
            scene = SOURCES[source].read_scene(path)
            rows = list(_rows(scene, recipe, answers, trial, kept))
        except SceneError as error:
            report.skipped[f"scene: {error.reason}"] += 1
            logging.getLogger(__name__).warning("%s left out: %s", path, error)
            return []
        except Exception as error:
            logging.getLogger(__name__).exception("%s failed%s", path, ", twice" if last else "")
            if last:
                report.failures.append([str(path), f"{type(error).__name__}: {error}"])
            continue
        report.scenes += 1
        report.objects += trial.objects
        report.relabelled += trial.relabelled
        report.thoughts += trial.thoughts
        report.refused += trial.refused
        report.questions += trial.questions
        report.dropped += trial.dropped
        report.skipped += trial.skipped + Counter(
            {f"view: {reason}": number for reason, number in scene.skipped.items()}
        )
        for kind, values in trial.values.items():
            report.values.setdefault(kind, Counter()).update(values)
        balance.counts = kept.counts
        return rows
    return []


def _rows(
    scene: Scene, recipe: Recipe, answers: Path, report: Report, balance: Balance
) -> Iterator[dict[str, Any]]:
    frames = KeyFrames(recipe.rules)
    asks = {name: ask_of(role, answers) for name, role in recipe.roles}
    rasterizer = Rasterizer(scene.mesh) if scene.mesh is not None else None
    for number, view in enumerate(scene.views(frames.wanted)):
        if view.objects is None and sharpness(view.rgb) < recipe.rules.min_sharpness:
            report.skipped["view: blurred"] += 1
            continue
        frames.keep(view.camera_to_world)
        entries = select(describe(scene, view, rasterizer), view.rgb, recipe.rules, report.dropped)
        if "relabel" in asks:
            ambiguous = sum(entry["unnamed"] == "ambiguous" for entry in entries)
            entries = relabel(entries, view.rgb, asks["relabel"], report.refused)
            left = sum(entry["unnamed"] == "ambiguous" for entry in entries)
            report.relabelled += ambiguous - left
            report.dropped["ambiguous"] -= ambiguous - left
        questions = _ask(scene, number, entries, recipe, balance)
        if not questions:
            report.skipped["view: nothing to ask"] += 1
            continue
        report.objects += sum(bool(entry["name"]) for entry in entries)
        for question in questions:
            report.questions[question.type] += 1
            _count_value(report, question)
        thoughts = []
        if "thought" in asks:
            # One of a picture: reasoning about the same objects over and over teaches little.
            asked = [q for q in questions if q.type == "refer_obj_estimation"][:1]
            thoughts = [
                think(question, entries, view.rgb, asks["thought"], asks["judge"])
                for question in asked
            ]
        for thought in thoughts:
            report.thoughts += thought.accepted
            if not thought.accepted:
                report.refused[f"thought: {thought.reason.partition(':')[0]}"] += 1
        yield _row(scene, view, rasterizer, entries, questions, thoughts)


def _ask(
    scene: Scene, number: int, entries: list[dict[str, Any]], recipe: Recipe, balance: Balance
) -> list[Question]:
    """The conversation about a view, its order drawn; types that came short are asked more."""
    rng = np.random.default_rng([recipe.seed, zlib.crc32(scene.name.encode()), number])
    made = {kind: sum(balance.counts.get(kind, Counter()).values()) for kind in TYPES}
    most, least = max(made.values()), min(made.values())
    wanted = {
        # At least one, so that a type that cannot be asked here does not silence the others.
        kind: 1
        if made[kind] > _MAX_SHARE * least + 4 * recipe.per_type
        else recipe.per_type + min(recipe.per_type, (most - made[kind]) // 4)
        for kind in TYPES
    }
    view = named_view(entries, recipe.rules.min_pixels, categories())
    questions = ask_all(view, rng, wanted, style=STYLES[recipe.style], balance=balance)
    return [questions[i] for i in rng.permutation(len(questions))]


def _count_value(report: Report, question: Question) -> None:
    """Histograms for the statistics page: metres in half octaves, counts, words."""
    reference = question.reference
    if question.type == "grounding":
        return
    if isinstance(reference, str):
        keys = [reference if reference in ("yes", "no", "absent") else "name"]
    else:
        numbers = [reference] if isinstance(reference, float) else list(reference)
        digits = 0 if question.type == "count" else 1
        keys = [f"{round(2 * np.log2(n)) / 2 if digits else n:.{digits}f}" for n in numbers]
    report.values.setdefault(question.type, Counter()).update(keys)


def _row(
    scene: Scene,
    view: View,
    rasterizer: Rasterizer | None,
    entries: list[dict[str, Any]],
    questions: list[Question],
    thoughts: list[Thought],
) -> dict[str, Any]:
    turns = []
    for index, question in enumerate(questions):
        # The picture belongs to the conversation: it is shown once, before the first question.
        mark = "<image>\n" if index == 0 else ""
        turns.append({"from": "human", "value": mark + question.question})
        turns.append({"from": "gpt", "value": question.answer})
    name = f"{scene.source}/{scene.name}/{view.name}"
    jpeg = encode_jpeg(view.rgb, _JPEG_QUALITY)
    depth = depth_of(view, rasterizer)
    png = None if depth is None else {"bytes": encode_png(depth), "path": f"{name}.png"}
    return {
        "image": {"bytes": jpeg, "path": f"{name}.jpg"},
        "conversations": turns,
        "type": [question.type for question in questions],
        "depth": png,
        "intrinsics": asdict(view.intrinsics),
        "camera_to_world": view.camera_to_world.ravel().tolist(),
        "scene_graph": json.dumps(entries),
        "thoughts": [asdict(thought) for thought in thoughts],
        "source": scene.source,
        "scene": scene.name,
        "view": view.name,
    }
