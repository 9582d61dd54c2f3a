"""A manifest -> an HTML page: questions by type, histograms of values, what was left out.

Knows the keys of the manifest. Does not read shards.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from jinja2 import Environment
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sdvlm_core.files import write_bytes

PAGE, PLOT = "statistics.html", "statistics.png"

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


def write_page(out: Path, manifest: dict[str, Any]) -> None:
    """Write statistics.html, which is self-contained, and statistics.png, its figure."""
    figure = _plot(manifest)
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
            plot=base64.b64encode(figure).decode(),
            tables=[(title, list(counts)) for title, counts in tables],
            failures=manifest["failures"],
        )
    )
    for name, data in ((PLOT, figure), (PAGE, page.encode())):
        write_bytes(out / name, data)
