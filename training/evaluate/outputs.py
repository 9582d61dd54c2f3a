"""The output folder of an evaluation: names of its files, and its answers, which it resumes.

OUT holds answers.jsonl (the settings, then a line per answer), answers-I-of-N.jsonl (the same of a
share, until the shares are complete), judged.jsonl (answers with judgement and marks), judgements/
(a chat judge's replies), replies/ (those of a model on a server), scores.json, report.md and
reliability.png. Does not know models, judges or marks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sdvlm_core.files import write_text

ANSWERS, JUDGED, SCORES, REPORT = "answers.jsonl", "judged.jsonl", "scores.json", "report.md"
RELIABILITY, JUDGEMENTS, REPLIES = "reliability.png", "judgements", "replies"

#: How the reason of a request without a reply begins.
NO_REPLY = "ChatError:"
#: One answer, or one judged answer, as JSON holds it.
Row = dict[str, Any]


class OtherSettingsError(ValueError):
    """The folder holds the answers of a run with other settings or weights."""


def recorded(path: Path, settings: Mapping[str, Any]) -> list[Row]:
    """Answers of an earlier run with the same settings; [] without a file.

    Without the questions to which a server did not reply: they are asked again.

    Raises:
        OtherSettingsError: the settings differ; names the keys.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    try:
        head, *rows = [json.loads(line) for line in lines]
    except ValueError:
        # The last line of an interrupted run may be incomplete.
        head, *rows = [json.loads(line) for line in lines[:-1]] or [None]
    if head != settings:
        differing = sorted(key for key in settings if (head or {}).get(key) != settings[key])
        raise OtherSettingsError(
            f"{path} holds the answers of another run, different in {', '.join(differing)} "
            f"({head}); choose another --out"
        )
    rows = [row for row in rows if not row.get("failed", "").startswith(NO_REPLY)]
    return list({row["key"]: row for row in rows}.values())


def part_name(number: int, count: int) -> str:
    """The file of one share of the answers; `ANSWERS` where there is one share only."""
    return f"answers-{number}-of-{count}.jsonl" if count > 1 else ANSWERS


def parts(out: Path) -> list[Path]:
    """The files with the answers of shares."""
    return sorted(out.glob("answers-*-of-*.jsonl"))


def recorded_parts(out: Path, settings: Mapping[str, Any]) -> list[Row]:
    """The answers of all files in a folder, each once.

    Raises:
        OtherSettingsError: as `recorded`.
    """
    files = [out / ANSWERS, *parts(out)]
    rows = [row for file in files for row in recorded(file, settings)]
    rows = [row for row in rows if not row.get("failed", "").startswith(NO_REPLY)]
    return list({row["key"]: row for row in rows}.values())


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines in one step."""
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
