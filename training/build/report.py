"""What one shard holds and what was left out of it, counted; stored beside it as JSON.

Knows questions and their values. Does not know how a shard is written.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sdvlm_core.files import write_text
from training.build.questions import Question


@dataclass(eq=False)
class Report:
    """Counts of one shard.

    Attributes:
        rows, scenes, objects: what the shard holds; objects that have a name.
        relabelled, thoughts: accepted answers of models.
        refused: reason -> refused answers of models.
        usage: role -> its cost; a second run with cached answers has none.
        questions: type -> number.
        dropped: reason -> objects that are not asked about.
        skipped: reason -> scenes and views that were left out.
        failures: (scene, error) of unexpected failures.
        values: question type -> histogram of its answers, for the statistics page.
        sha256: of the shard.
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

    def add_scene(self, scene: Report) -> None:
        """Add the counts of one complete scene."""
        self.scenes += 1
        self.objects += scene.objects
        self.relabelled += scene.relabelled
        self.thoughts += scene.thoughts
        self.refused += scene.refused
        self.questions += scene.questions
        self.dropped += scene.dropped
        self.skipped += scene.skipped
        for kind, values in scene.values.items():
            self.values.setdefault(kind, Counter()).update(values)

    def add_question(self, question: Question) -> None:
        """Count a question, and its answer: metres in half octaves, counts, categories of words."""
        self.questions[question.type] += 1
        reference = question.reference
        if question.type == "grounding":
            return
        if isinstance(reference, str):
            keys = [reference if reference in ("yes", "no", "absent") else "name"]
        else:
            numbers = [reference] if isinstance(reference, float) else list(reference)
            if question.type == "count":
                keys = [f"{number:.0f}" for number in numbers]
            else:
                keys = [f"{round(2 * np.log2(number)) / 2:.1f}" for number in numbers]
        self.values.setdefault(question.type, Counter()).update(keys)

    def write(self, path: Path) -> None:
        """Store as JSON."""
        write_text(path, json.dumps(vars(self), indent=1, sort_keys=True) + "\n")
