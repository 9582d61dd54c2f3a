"""report.html: every question of a replay with its pictures, answers, and numbers over time.

One self-contained page from the entries of answers.jsonl, the template replay.html.jinja, and plots
of matplotlib. The number of rows and plotted lines is bounded for bags of any length;
answers.jsonl has every entry. Does not know bags.
"""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdvlm_core.answer import UNITS, Quantity
from sdvlm_core.replay.journal import Entry

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEMPLATES = Path(__file__).parents[1] / "assets"
TEMPLATE = "replay.html.jinja"

#: Rows on the page, over all questions; of more entries, evenly spaced ones are shown.
MAX_ROWS = 500
#: Lines in one plot: those with the most values.
MAX_LINES = 6
THUMBNAIL_WIDTH_PX = 320
_MAX_POINT_MARKERS = 200  # a longer line is drawn without a marker at each point
_MAX_LEGEND_CHARACTERS = 40


@dataclass
class Series:
    """One number over time: seconds, values, standard deviations (None = unknown)."""

    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    std_devs: list[float | None] = field(default_factory=list)


@dataclass
class QuestionStatistics:
    """Counts and numbers of one question."""

    text: str
    entries: int = 0
    answered: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    cautions: Counter[str] = field(default_factory=Counter)
    error_times: list[float] = field(default_factory=list)
    # (kind, objects) -> series; the coordinates of a position are separate series.
    series: dict[tuple[str, str], Series] = field(default_factory=dict)


@dataclass
class Statistics:
    """Counts and numbers of all entries.

    Attributes:
        max_frame_entries: largest number of entries about one frame.
        generate_s: time to generate each answer, seconds.
    """

    questions: list[QuestionStatistics] = field(default_factory=list)
    entries: int = 0
    answered: int = 0
    max_frame_entries: int = 0
    model_id: str = ""
    errors: Counter[str] = field(default_factory=Counter)
    cautions: Counter[str] = field(default_factory=Counter)
    generate_s: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """One entry on the page; `picture` is a data URI, "" = no picture."""

    time: str
    picture: str
    answer: str
    error: str
    cautions: tuple[str, ...]
    reasons: tuple[str, ...]
    numbers: tuple[str, ...]


def collect(entries: Iterable[Entry]) -> Statistics:
    """Count the entries and collect their numbers; their texts are not kept in memory."""
    total = Statistics()
    questions: dict[str, QuestionStatistics] = {}
    frame, frame_entries = None, 0
    for entry in entries:
        text = entry["question"]
        question = questions.setdefault(text, QuestionStatistics(text))
        question.entries += 1
        total.entries += 1
        frame_entries = frame_entries + 1 if entry["frame"] == frame else 1
        frame = entry["frame"]
        total.max_frame_entries = max(total.max_frame_entries, frame_entries)
        if entry["answer"] is None:
            for errors in (question.errors, total.errors):
                errors[entry["error"]["name"]] += 1
            question.error_times.append(time_of(entry))
        else:
            _add_answer(entry, question, total)
    total.questions = [*questions.values()]
    return total


def _add_answer(entry: Entry, question: QuestionStatistics, total: Statistics) -> None:
    answer = entry["answer"]
    question.answered += 1
    total.answered += 1
    for cautions in (question.cautions, total.cautions):
        cautions.update(answer["cautions"])
    total.model_id = answer["model_id"]
    timings = answer["timings"]
    total.generate_s.append(timings["prefill"] + timings["decode"])
    for name, value, std_dev in _numbers(answer):
        series = question.series.setdefault(name, Series())
        series.times.append(time_of(entry))
        series.values.append(value)
        series.std_devs.append(std_dev)


def time_of(entry: Entry) -> float:
    """Seconds on the time axis: when the frame was taken; without an answer, when asked."""
    seconds = entry["bag_time_s"]
    if entry["asked_at_s"] is not None and (entry["answer"] is None or seconds is None):
        seconds = entry["asked_at_s"]
    return float(seconds)


def _numbers(answer: Mapping[str, Any]) -> list[tuple[tuple[str, str], float, float | None]]:
    found = [
        ((m["kind"], " and ".join(m["objects"]) + _source(m)), m["value"], m["std_dev"])
        for m in answer["measurements"]
        if m["value"] is not None
    ]
    for position in answer["positions"]:
        for axis in "xyz":
            label = f"{position['label']} {axis}".strip()
            found.append((("POSITION", label), position[axis], None))
    return found


def shown_entries(entries: int) -> set[int]:
    """The numbers of the entries that get a row: all, or evenly spaced ones with both ends."""
    if entries <= MAX_ROWS:
        return set(range(entries))
    return {round(n * (entries - 1) / (MAX_ROWS - 1)) for n in range(MAX_ROWS)}


def row(entry: Entry, jpeg: bytes | None) -> Row:
    """The row of an entry, with a picture as JPEG if there is one."""
    answer, error = entry["answer"], entry["error"]
    return Row(
        time=f"{time_of(entry):.3f} s",
        picture="" if jpeg is None else _data_uri("image/jpeg", jpeg),
        answer="" if answer is None else answer["text"] or "(no text)",
        error="" if error is None else f"{error['name']}: {error['message']}",
        cautions=() if answer is None else tuple(answer["cautions"]),
        reasons=tuple(entry["reasons"]),
        numbers=() if answer is None else _number_lines(answer),
    )


def _number_lines(answer: Mapping[str, Any]) -> tuple[str, ...]:
    """The measurements, positions and verdict, and why there is no number; one line each."""
    lines = [_number_line(m) for m in answer["measurements"] if m["value"] is not None]
    lines += [
        f"position{' of ' * bool(p['label'])}{p['label']}: {p['x']:.3f} {p['y']:.3f} {p['z']:.3f} m"
        for p in answer["positions"]
    ]
    if answer["verdict"] != "UNDECIDED":
        lines.append(_words(answer["verdict"]))
    if answer["why_none"]:
        lines.append(f"no number: {answer['why_none']}")
    return tuple(lines)


def _number_line(measurement: Mapping[str, Any]) -> str:
    of = " of " * bool(measurement["objects"]) + " and ".join(measurement["objects"])
    std_dev = measurement["std_dev"]
    spread = "" if std_dev is None else f" \u00b1 {std_dev:.2g}"
    value = f"{measurement['value']:.4g}{spread} {measurement['unit']}".rstrip()
    return f"{_words(measurement['kind'])}{of}: {value}{_source(measurement)}"


def _source(measurement: Mapping[str, Any]) -> str:
    """Where a number comes from, unless it is the model's."""
    source = measurement["source"]
    return "" if source == "LANGUAGE" else f" ({source})"


def _words(name: str) -> str:
    """The name of an enumeration's value for people: "CAMERA_DISTANCE" -> "camera distance"."""
    return name.lower().replace("_", " ")


def page(
    title: str,
    statistics: Statistics,
    rows: Mapping[str, Sequence[Row]],
    duration_s: float,
) -> str:
    """The page as HTML.

    Args:
        title: the bag's name.
        rows: question -> its rows in order of time.
        duration_s: duration of the bag, seconds.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined
    )
    generate_s = sorted(statistics.generate_s)
    return environment.get_template(TEMPLATE).render(
        title=title,
        total=statistics,
        duration=duration_s,
        median=generate_s[len(generate_s) // 2] if generate_s else None,
        shown=sum(len(of_question) for of_question in rows.values()),
        questions=[
            {"statistics": q, "plots": _plots(q, duration_s), "rows": rows.get(q.text, ())}
            for q in statistics.questions
        ],
    )


def _plots(question: QuestionStatistics, duration_s: float) -> list[str]:
    """A plot over time for each kind of number in the answers, as data URIs."""
    groups: dict[str, dict[str, Series]] = {}
    for (kind, label), series in question.series.items():
        groups.setdefault(kind, {})[label] = series
    return [
        _data_uri("image/png", _plot(kind, lines, question.error_times, duration_s))
        for kind, lines in sorted(groups.items())
    ]


def _plot(
    kind: str, lines: Mapping[str, Series], error_times: Sequence[float], duration_s: float
) -> bytes:
    """A PNG with one line for each label; crosses mark the times without an answer."""
    from matplotlib.figure import Figure

    from sdvlm_core.replay.pictures import COLORS

    figure = Figure(figsize=(8.6, 2.5), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    longest_first = sorted(lines.items(), key=lambda item: -len(item[1].values))
    for (label, series), color in zip(longest_first[:MAX_LINES], COLORS, strict=False):
        _draw_series(axes, label or _words(kind), series, error_times, color)
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
    _label_axes(axes, kind, len(longest_first) - MAX_LINES)
    margin = max(duration_s, 0.1) * 0.02
    axes.set_xlim(-margin, max(duration_s, *error_times, 0.1) + margin)
    values = [v for series in lines.values() for v in series.values]
    if values and min(values) >= 0 and kind != "POSITION":
        axes.set_ylim(bottom=0, top=max(values) * 1.15 or 1.0)
    if len(longest_first) > 1 or error_times or longest_first[0][0]:
        axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw_series(
    axes: Axes, name: str, series: Series, error_times: Sequence[float], color: str
) -> None:
    """One line with gaps at missing answers and error bars of one standard deviation."""
    name = name.replace("$", r"\$")  # matplotlib would read a formula
    times, values = _with_gaps(series, error_times)
    axes.plot(
        times,
        values,
        "o-" if len(series.times) <= _MAX_POINT_MARKERS else "-",
        ms=3.5,
        lw=1.2,
        color=color,
        label=name
        if len(name) <= _MAX_LEGEND_CHARACTERS
        else name[: _MAX_LEGEND_CHARACTERS - 1] + "\u2026",
    )
    known = [
        (t, v, s)
        for t, v, s in zip(series.times, series.values, series.std_devs, strict=True)
        if s is not None
    ]
    if known:
        t, v, s = zip(*known, strict=True)
        axes.errorbar(t, v, yerr=s, fmt="none", ecolor=color, alpha=0.5, capsize=2)


def _label_axes(axes: Axes, kind: str, hidden_lines: int) -> None:
    unit = UNITS.get(Quantity[kind], "m")
    axes.set_ylabel(f"{_words(kind)}, {unit}" if unit else _words(kind))
    hint = f" ({hidden_lines} more names are in answers.jsonl)" if hidden_lines > 0 else ""
    axes.set_xlabel("seconds from the bag's start" + hint)
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _with_gaps(series: Series, gaps: Sequence[float]) -> tuple[list[float], list[float]]:
    """Times and values in order of time, with NaN at the gaps, so that no line crosses them."""
    points = [*zip(series.times, series.values, strict=True), *((t, math.nan) for t in gaps)]
    points.sort(key=lambda point: point[0])
    return [time for time, _ in points], [value for _, value in points]


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64," + base64.b64encode(data).decode("ascii")
