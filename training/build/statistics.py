"""`python -m training.build.statistics OUT`: a page about a build, and its figures as JSON.

Questions by type, histograms of values, what was left out, and what a model may learn without
looking: repeated facts, answers that words alone tell, usual sizes (`measured`). `training.build`
writes the page at its end; the command writes it again. Knows the keys of the manifest. Does not
know how a figure is measured.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from jinja2 import Environment
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sdvlm_core.files import read_json, write_bytes
from training.build.manifest import MANIFEST
from training.build.measured import measure

PAGE, PLOT, FIGURES = "statistics.html", "statistics.png", "statistics.json"

_TEMPLATE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>MSMU data: {{ questions }} questions</title>
<style>
 body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; color: #222 }
 table { border-collapse: collapse; margin: 0 2rem 1rem 0; display: inline-table;
         vertical-align: top }
 td, th { padding: .15rem .7rem; border-bottom: 1px solid #ddd; text-align: left }
 td + td { text-align: right; font-variant-numeric: tabular-nums }
 img { max-width: 100% }
</style>
<h1>{{ "{:,}".format(questions) }} questions about {{ "{:,}".format(rows) }} images</h1>
<p>Style {{ recipe.style }}, seed {{ recipe.seed }}.</p>
<img alt="types, values and rejects" src="data:image/png;base64,{{ plot }}">
{% for title, counts in tables if counts %}
<table><tr><th>{{ title }}</th><th></th></tr>
{% for name, number in counts %}<tr><td>{{ name }}</td><td>{{ number }}</td></tr>{% endfor %}
</table>
{% endfor %}
<h2>Without looking</h2>
<p>Repeats: turns whose answer an earlier turn of the conversation states. Guesses: right answers of
the most frequent class, and of a logistic regression on the words of the question, on scenes that
it was not fitted to. Priors: answers that are right by MSMU's rule, of the best constant, and of
the median of the category.</p>
{% for title, rows in shares %}
<table><tr><th>{{ title[0] }}</th>{% for head in title[1:] %}<th>{{ head }}</th>{% endfor %}</tr>
{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}
</table>
{% endfor %}
{% if failures %}<h2>Failed scenes</h2><ul>
{% for scene, error in failures %}<li>{{ scene }}: {{ error }}</li>{% endfor %}</ul>{% endif %}
"""


def _bars(axes: Axes, counts: dict[str, int], title: str, colour: str) -> None:
    names, numbers = list(counts), list(counts.values())
    axes.barh(range(len(names)), numbers, color=colour)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", labelsize=8)


def _histogram(axes: Axes, found: dict[str, int], title: str) -> None:
    """A histogram of numeric answers: half octaves of metres, or counts."""
    numbers = {}
    for key, number in found.items():
        try:
            numbers[float(key)] = number
        except ValueError:
            continue
    counting = title == "count"
    # Half octaves are stored as base-2 logarithms.
    ordered = sorted(numbers)
    labels = [f"{n:g}" if counting else f"{2**n:.2g}" for n in ordered]
    axes.bar(range(len(ordered)), [numbers[n] for n in ordered], color="#4878a8", width=0.9)
    step = -(-len(ordered) // 6)
    axes.set_xticks(range(0, len(ordered), step), labels[::step], fontsize=7)
    axes.set_title(f"{title}{'' if counting else ', m'}", fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", labelsize=7)


def _plot(manifest: dict[str, Any]) -> bytes:
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    grid = figure.add_gridspec(2, 1)
    top, bottom = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    left, right = top.subplots(1, 2)
    _bars(left, manifest["types"], "questions of each type", "#4878a8")
    dropped = manifest["objects_not_asked_about"]
    _bars(
        right,
        dict(sorted(dropped.items(), key=lambda pair: -pair[1])[:12]),
        "objects that are not asked about, by reason",
        "#c0764a",
    )
    kinds = [
        kind
        for kind in ("scale_estimation", "absolute_distance", "refer_obj_estimation", "count")
        if kind in manifest["values"]
    ]
    if kinds:
        for axes, kind in zip(bottom.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
            _histogram(axes, manifest["values"][kind], kind)
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110, metadata={"Software": None})
    return data.getvalue()


def _shares(figures: dict[str, Any]) -> list[tuple[tuple[str, ...], list[tuple[object, ...]]]]:
    """The tables of what is known without looking: (headings, rows)."""

    def percent(share: float) -> str:
        return f"{100 * share:.1f} %"

    return [
        (
            ("repeats", "turns", "repeated", "unread"),
            [(kind, *one.values()) for kind, one in figures["repeated"].items()],
        ),
        (
            ("guesses", "questions", "majority", "from words"),
            [
                (name, one["turns"], percent(one["majority"]), percent(one["words"]))
                for name, one in figures["guesses"].items()
            ],
        ),
        (
            ("priors", "answers", "best constant", "category median"),
            [
                (kind, one["turns"], percent(one["constant"]), percent(one["category"]))
                for kind, one in figures["priors"].items()
            ],
        ),
    ]


def write_page(out: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Write statistics.html, which is self-contained, its plot, and statistics.json.

    Returns the figures of statistics.json (`measured.measure`).
    """
    plot = _plot(manifest)
    figures = measure([out / name for name in manifest["sha256"]])
    sources = [
        (f"{source}: {key}", number)
        for source, counts in manifest["sources"].items()
        for key, number in counts.items()
    ]
    tables = [
        ("questions", manifest["types"].items()),
        ("source", sources),
        ("objects not asked about", manifest["objects_not_asked_about"].items()),
        ("scenes and views left out", manifest["left_out"].items()),
        ("answers of models refused", manifest["refused"].items()),
    ]
    page = (
        Environment(autoescape=True)
        .from_string(_TEMPLATE)
        .render(
            questions=manifest["questions"],
            rows=manifest["rows"],
            recipe=manifest["recipe"],
            plot=base64.b64encode(plot).decode(),
            tables=[(title, list(counts)) for title, counts in tables],
            shares=_shares(figures),
            failures=manifest["failures"],
        )
    )
    text = json.dumps(figures, indent=1) + "\n"
    for name, data in ((PLOT, plot), (PAGE, page.encode()), (FIGURES, text.encode())):
        write_bytes(out / name, data)
    return figures


def statistics(out: Annotated[Path, typer.Argument(help="A folder of training.build.")]) -> None:
    """Write the statistics of a build again; prints them as JSON.

    Example: python -m training.build.statistics msmu
    """
    if not (out / MANIFEST).exists():
        raise typer.BadParameter(f"{out} holds no {MANIFEST}: run training.build first")
    sys.stdout.write(json.dumps(write_page(out, read_json(out / MANIFEST))) + "\n")


if __name__ == "__main__":
    typer.run(statistics)
