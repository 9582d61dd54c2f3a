"""report.html: every question of a replay with pictures, answers, and its numbers over time.

One self-contained page from the entries of answers.jsonl: matplotlib draws, replay.html.jinja is
filled. What is drawn is bounded, whatever the length of the bag; answers.jsonl has all of it. Does
not know bags.
"""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parents[1] / "assets"
TEMPLATE = "replay.html.jinja"

#: Rows on the page over all questions; of more entries, evenly chosen ones are shown.
MAX_ROWS = 500
#: Lines in one plot: the things that are measured most often.
MAX_LINES = 6
THUMBNAIL_WIDTH = 320

_UNITS = {"COUNT": "count", "ANGLE": "rad"}


@dataclass
class Series:
    """One number over time: seconds, values, standard deviations (None = unknown)."""

    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    std_devs: list[float | None] = field(default_factory=list)


@dataclass
class QuestionDigest:
    """What the page says of one question besides its rows."""

    text: str
    entries: int = 0
    answered: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    error_times: list[float] = field(default_factory=list)
    # (kind, label) -> series; a position's coordinates are kinds of their own.
    series: dict[tuple[str, str], Series] = field(default_factory=dict)


@dataclass
class Digest:
    """All entries, counted.

    Attributes:
        frame_entries: most entries about one frame.
    """

    questions: list[QuestionDigest] = field(default_factory=list)
    entries: int = 0
    answered: int = 0
    frame_entries: int = 0
    model_id: str = ""
    errors: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """One entry on the page; `picture` is a data URI, or "" where there is none."""

    time: str
    picture: str
    answer: str
    error: str
    numbers: tuple[str, ...]


def digest(entries: Iterable[dict[str, Any]]) -> Digest:
    """Count the entries and collect their numbers; the texts are not kept."""
    whole = Digest()
    by_text: dict[str, QuestionDigest] = {}
    frame, on_frame = None, 0
    for entry in entries:
        text = entry["question"]
        if text not in by_text:
            by_text[text] = QuestionDigest(text)
        question = by_text[text]
        question.entries += 1
        whole.entries += 1
        on_frame = on_frame + 1 if entry["frame"] == frame else 1
        frame = entry["frame"]
        whole.frame_entries = max(whole.frame_entries, on_frame)
        seconds = moment(entry)
        answer = entry["answer"]
        if answer is None:
            for errors in (question.errors, whole.errors):
                errors[entry["error"]["name"]] += 1
            question.error_times.append(seconds)
            continue
        question.answered += 1
        whole.answered += 1
        whole.model_id = answer["model_id"]
        spent = answer["timings"]
        whole.seconds.append(spent["prefill"] + spent["decode"])
        for name, value, std_dev in _numbers(answer):
            series = question.series.setdefault(name, Series())
            series.times.append(seconds)
            series.values.append(value)
            series.std_devs.append(std_dev)
    whole.questions = [*by_text.values()]
    return whole


def moment(entry: Mapping[str, Any]) -> float:
    """Where an entry stands on the time axis: its frame's time; without an answer, when asked."""
    seconds = entry["bag_time_s"]
    if entry["asked_at_s"] is not None and (entry["answer"] is None or seconds is None):
        seconds = entry["asked_at_s"]
    return float(seconds)


def _numbers(answer: Mapping[str, Any]) -> list[tuple[tuple[str, str], float, float | None]]:
    found = [
        ((m["kind"], m["label"]), m["value"], m["std_dev"])
        for m in answer["measurements"]
        if m["value"] is not None
    ]
    for position in answer["positions"]:
        for axis in "xyz":
            label = f"{position['label']} {axis}".strip()
            found.append((("POSITION", label), position[axis], None))
    return found


def chosen_rows(entries: int) -> set[int]:
    """The numbers of the entries that get a row: all, or evenly chosen ones with both ends."""
    if entries <= MAX_ROWS:
        return set(range(entries))
    return {round(n * (entries - 1) / (MAX_ROWS - 1)) for n in range(MAX_ROWS)}


def row(entry: Mapping[str, Any], jpeg: bytes | None) -> Row:
    """An entry as it is shown."""
    answer, error = entry["answer"], entry["error"]
    time = f"{moment(entry):.3f} s"
    if answer is None:
        numbers: tuple[str, ...] = ()
    else:
        numbers = tuple(
            f"{m['kind'].lower()}{' of ' * bool(m['label'])}{m['label']}: {m['value']:.4g}"
            + (f" \u00b1 {m['std_dev']:.2g}" if m["std_dev"] is not None else "")
            + f" {m['unit']}".rstrip()
            for m in answer["measurements"]
            if m["value"] is not None
        ) + tuple(
            f"position{' of ' * bool(p['label'])}{p['label']}: "
            f"{p['x']:.3f} {p['y']:.3f} {p['z']:.3f} m"
            for p in answer["positions"]
        )
        if answer["verdict"] != "UNDECIDED":
            numbers += (answer["verdict"].lower().replace("_", " "),)
    return Row(
        time=time,
        picture="" if jpeg is None else _data_uri("image/jpeg", jpeg),
        answer="" if answer is None else answer["text"] or "(no words)",
        error="" if error is None else f"{error['name']}: {error['message']}",
        numbers=numbers,
    )


def page(
    title: str,
    whole: Digest,
    rows: Mapping[str, Sequence[Row]],
    duration: float,
) -> str:
    """The page.

    Args:
        title: the bag's name.
        rows: question -> its rows in order of time.
        duration: of the bag, seconds.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined
    )
    spent = sorted(whole.seconds)
    return environment.get_template(TEMPLATE).render(
        title=title,
        whole=whole,
        duration=duration,
        median=spent[len(spent) // 2] if spent else None,
        shown=sum(len(some) for some in rows.values()),
        questions=[
            {"digest": q, "plots": plots(q, duration), "rows": rows.get(q.text, ())}
            for q in whole.questions
        ],
    )


def plots(question: QuestionDigest, duration: float) -> list[str]:
    """A plot over time for each kind of number that the answers hold, as data URIs."""
    groups: dict[str, dict[str, Series]] = {}
    for (kind, label), series in question.series.items():
        groups.setdefault(kind, {})[label] = series
    return [
        _data_uri("image/png", _plot(kind, lines, question.error_times, duration))
        for kind, lines in sorted(groups.items())
    ]


def _plot(
    kind: str, lines: Mapping[str, Series], error_times: Sequence[float], duration: float
) -> bytes:
    from matplotlib.figure import Figure

    from sdvlm_core.replay.pictures import COLORS

    figure = Figure(figsize=(8.6, 2.5), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    often = sorted(lines.items(), key=lambda item: -len(item[1].values))
    for (label, series), color in zip(often[:MAX_LINES], COLORS, strict=False):
        # A model's words are no formula, even with a "$" in them.
        name = (label or kind.lower()).replace("$", r"\$")
        few = len(series.times) <= 200
        times, values = _broken(series, error_times)
        axes.plot(
            times,
            values,
            "o-" if few else "-",
            ms=3.5,
            lw=1.2,
            color=color,
            label=name if len(name) <= 40 else name[:39] + "\u2026",
        )
        known = [
            (t, v, s)
            for t, v, s in zip(series.times, series.values, series.std_devs, strict=True)
            if s is not None
        ]
        if known:
            t, v, s = zip(*known, strict=True)
            axes.errorbar(t, v, yerr=s, fmt="none", ecolor=color, alpha=0.5, capsize=2)
    if error_times:
        axes.plot(
            error_times,
            [0.03] * len(error_times),
            "x",
            color="#c8324b",
            ms=5,
            transform=axes.get_xaxis_transform(),
            label="no answer",
        )
    left_out = len(often) - MAX_LINES
    unit = _UNITS.get(kind, "m")
    axes.set_ylabel(kind.lower() if kind == "COUNT" else f"{kind.lower()}, {unit}")
    axes.set_xlabel(
        "seconds from the bag's start"
        + (f" ({left_out} more names are in answers.jsonl)" if left_out > 0 else "")
    )
    margin = max(duration, 0.1) * 0.02
    axes.set_xlim(-margin, max(duration, *error_times, 0.1) + margin)
    values = [v for series in lines.values() for v in series.values]
    if values and min(values) >= 0 and kind != "POSITION":
        axes.set_ylim(bottom=0, top=max(values) * 1.15 or 1.0)
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if len(often) > 1 or error_times or often[0][0]:
        axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _broken(series: Series, gaps: Sequence[float]) -> tuple[list[float], list[float]]:
    """Times and values in order of time, with NaN where there was no answer: no line across."""
    points = [*zip(series.times, series.values, strict=True), *((t, math.nan) for t in gaps)]
    points.sort(key=lambda point: point[0])
    return [time for time, _ in points], [value for _, value in points]


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64," + base64.b64encode(data).decode("ascii")
