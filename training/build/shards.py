"""Scenes -> rows -> one shard: the unit of work, of resuming, and of a worker's memory.

Deterministic: the bytes of a shard depend on its scenes and the settings only. Atomic: a shard is
complete, with its report beside it, or it does not exist. Does not know processes, clusters or
progress bars.

A row (`schemas.CONVERSATIONS`) is one image with its conversation, as in the released MSMU, and
what the release lacks: depth, intrinsics, pose, scene graph, chains of thought (rejected ones with
the reason), source, scene and view.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path

import numpy as np

from sdvlm_core.files import sha256
from training.build.config import BuildConfig
from training.build.endpoint import Ask
from training.build.graph import Rasterizer, depth_of, describe
from training.build.labels_absence import absent
from training.build.phrasing import STYLES
from training.build.plan import SOURCES, Task, report_path, shard_path
from training.build.questions import Balance, Question, converse, named_view
from training.build.reasons import Reason
from training.build.relabel import relabel
from training.build.report import Report
from training.build.roles import model_of, usage_of
from training.build.scene import Entry, Scene, SceneError, View
from training.build.selection import KeyFrames, categories, select, sharpness
from training.build.thought import Thought, think
from training.build.view_truth import ViewCheck
from training.data.images import Rgb, encode_jpeg, encode_png
from training.data.schemas import CONVERSATIONS
from training.data.tables import Row, write_table

#: Cached answers of models, below the output folder.
ANSWERS = "answers"
_JPEG_QUALITY = 95


def write_shard(task: Task, config: BuildConfig, out: Path) -> Report:
    """Write one shard and its report; the report first.

    A scene that fails is read once more, then reported and left out.
    """
    report, balance = Report(), Balance()
    answers = out / ANSWERS
    before = {name: vars(usage_of(role, answers)) for name, role in config.roles}

    def row_groups() -> Iterator[list[Row]]:
        for path in task.scenes:
            rows = _scene_rows(task.source, path, config, answers, report, balance)
            report.rows += len(rows)
            if rows:
                yield rows

    def write_report(shard: Path) -> None:
        report.sha256 = sha256(shard)
        for name, role in config.roles:
            after = vars(usage_of(role, answers))
            report.usage[name] = Counter({key: after[key] - before[name][key] for key in after})
        path = report_path(out, task.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        report.write(path)

    write_table(shard_path(out, task.name), row_groups(), CONVERSATIONS, "zstd", write_report)
    return report


def _scene_rows(
    source: str, path: Path, config: BuildConfig, answers: Path, report: Report, balance: Balance
) -> list[Row]:
    """The rows of one scene; [], with the reason in the report, if it is left out."""
    for last in (False, True):
        # The counts of a failed attempt are discarded.
        attempt, kept = Report(), deepcopy(balance)
        try:
            scene = SOURCES[source].read_scene(path)
            rows = list(_rows(scene, config, answers, attempt, kept))
        except SceneError as error:
            report.skipped[f"scene: {error.reason}"] += 1
            logging.getLogger(__name__).warning("%s left out: %s", path, error)
            return []
        except Exception as error:
            logging.getLogger(__name__).exception("%s failed%s", path, ", twice" if last else "")
            if last:
                report.failures.append([str(path), f"{type(error).__name__}: {error}"])
            continue
        attempt.skipped += scene.skipped
        report.add_scene(attempt)
        vars(balance).update(vars(kept))
        return rows
    return []


def _rows(
    scene: Scene, config: BuildConfig, answers: Path, report: Report, balance: Balance
) -> Iterator[Row]:
    frames = KeyFrames(config.rules)
    models = {name: model_of(role, answers) for name, role in config.roles}
    rasterizer, check = None, None
    if scene.mesh is not None:
        rasterizer = Rasterizer(scene.mesh)
        check = ViewCheck(scene.mesh, rasterizer)
    for number, view in enumerate(scene.views(frames.wanted)):
        if view.objects is None and sharpness(view.rgb) < config.rules.min_sharpness:
            report.skipped["view: blurred"] += 1
            continue
        try:
            if check is not None:
                check(view)
        except SceneError as error:
            report.skipped[f"view: {error.reason}"] += 1
            continue
        frames.keep(view.camera_to_world)
        graph = describe(scene, view, rasterizer)
        entries = select(graph, view.rgb, config.rules, report.dropped)
        if "relabel" in models:
            entries = _relabelled(entries, view.rgb, models["relabel"], report)
        if not any(entry["name"] for entry in entries):  # only denials could be asked
            report.skipped[f"view: {Reason.NO_NAMED_OBJECT.value}"] += 1
            continue
        questions = _ask(scene, number, entries, config, balance)
        if not questions:
            report.skipped["view: nothing to ask"] += 1
            continue
        report.objects += sum(bool(entry["name"]) for entry in entries)
        for question in questions:
            report.add_question(question)
        thoughts = _thoughts(questions, entries, view.rgb, models, report)
        yield _row(scene, view, rasterizer, entries, questions, thoughts)


def _relabelled(entries: list[Entry], rgb: Rgb, model: Ask, report: Report) -> list[Entry]:
    """The entries with the names that a model gave to ambiguous objects."""
    before = sum(entry["unnamed"] == "ambiguous" for entry in entries)
    entries = relabel(entries, rgb, model, report.refused)
    named = before - sum(entry["unnamed"] == "ambiguous" for entry in entries)
    report.relabelled += named
    report.dropped["ambiguous"] -= named
    return entries


def _ask(
    scene: Scene, number: int, entries: list[Entry], config: BuildConfig, balance: Balance
) -> list[Question]:
    """The conversation about a view."""
    rng = np.random.default_rng([config.seed, zlib.crc32(scene.name.encode()), number])
    # What the scene has at an unknown place may be in view.
    hidden: list[Entry] = [{"label": label} for label in sorted(scene.unplaced)]
    view = named_view(entries, config.rules.min_pixels, absent(hidden, categories()))
    return converse(view, rng, config.per_type, STYLES[config.style], balance)


def _thoughts(
    questions: list[Question],
    entries: list[Entry],
    rgb: Rgb,
    models: dict[str, Ask],
    report: Report,
) -> list[Thought]:
    """A chain of thought for the first question with a reference object, if there are models.

    One per image: more reasoning about the same objects teaches little.
    """
    if "thought" not in models:
        return []
    asked = [question for question in questions if question.type == "refer_obj_estimation"][:1]
    thoughts = [
        think(question, entries, rgb, models["thought"], models["judge"]) for question in asked
    ]
    for thought in thoughts:
        report.thoughts += thought.accepted
        if not thought.accepted:
            report.refused[f"thought: {thought.reason.partition(':')[0]}"] += 1
    return thoughts


def _row(
    scene: Scene,
    view: View,
    rasterizer: Rasterizer | None,
    entries: list[Entry],
    questions: list[Question],
    thoughts: list[Thought],
) -> Row:
    turns = []
    for index, question in enumerate(questions):
        # The image belongs to the conversation: its marker comes once, before the first question.
        marker = "<image>\n" if index == 0 else ""
        turns.append({"from": "human", "value": marker + question.question})
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
