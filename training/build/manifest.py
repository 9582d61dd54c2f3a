"""The reports of all shards -> the manifest of a data set.

The same data gives the same manifest, whichever workers wrote it. Does not read shards.
"""

from __future__ import annotations

import json
import platform
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sdvlm_core.files import read_json, write_text
from training.build.config import BuildConfig
from training.build.plan import FORMAT, Task, report_path

MANIFEST = "manifest.json"
_VERSIONED = ("numpy", "opencv-python-headless", "pyarrow")


def write_manifest(out: Path, config: BuildConfig, tasks: list[Task]) -> dict[str, Any]:
    """Sum the reports of all shards into manifest.json; returns its content."""
    reports = {task.name: read_json(report_path(out, task.name)) for task in tasks}
    types: Counter[str] = Counter()
    for report in reports.values():
        types.update(report["questions"])
    manifest = {
        "format": FORMAT,
        "recipe": config.described(),
        "versions": {name: version(name) for name in _VERSIONED}
        | {"python": platform.python_version()},
        "rows": sum(report["rows"] for report in reports.values()),
        "questions": sum(types.values()),
        "types": dict(sorted(types.items())),
        "sources": _per_source(tasks, reports),
        "objects_not_asked_about": _total(reports, "dropped"),
        "left_out": _total(reports, "skipped"),
        "relabelled": sum(report["relabelled"] for report in reports.values()),
        "thoughts": sum(report["thoughts"] for report in reports.values()),
        "refused": _total(reports, "refused"),
        "usage": {role: dict(cost) for role, cost in _nested_total(reports, "usage").items()},
        "values": {
            kind: dict(sorted(found.items()))
            for kind, found in sorted(_nested_total(reports, "values").items())
        },
        "failures": [failure for report in reports.values() for failure in report["failures"]],
        "sha256": {f"{name}.parquet": report["sha256"] for name, report in reports.items()},
    }
    write_text(out / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    return manifest


def _total(reports: dict[str, dict[str, Any]], key: str) -> dict[str, int]:
    """One counter of all reports, the most frequent first."""
    total: Counter[str] = Counter()
    for report in reports.values():
        total.update(report[key])
    return dict(total.most_common())


def _nested_total(reports: dict[str, dict[str, Any]], key: str) -> dict[str, Counter[str]]:
    """A mapping of counters of all reports."""
    total: dict[str, Counter[str]] = {}
    for report in reports.values():
        for name, found in report[key].items():
            total.setdefault(name, Counter()).update(found)
    return total


def _per_source(tasks: list[Task], reports: dict[str, dict[str, Any]]) -> dict[str, dict[str, int]]:
    total: dict[str, Counter[str]] = {}
    for task in tasks:
        report = reports[task.name]
        counts = {key: report[key] for key in ("rows", "scenes", "objects")}
        counts["questions"] = sum(report["questions"].values())
        counts[f"{task.name.partition('-')[0]}_questions"] = counts["questions"]
        total.setdefault(task.source, Counter()).update(counts)
    return {source: dict(counts) for source, counts in sorted(total.items())}
