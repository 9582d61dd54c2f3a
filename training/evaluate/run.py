"""`python -m training.evaluate`: ask a model a benchmark's questions and score the answers.

Owns the run: pictures streamed from `evaluation.benchmarks`, shown as `evaluation.controls` say,
answered in batches, a line of JSON per answer, resumable. Then every answer is judged
(`evaluation.judges`) and marked twice, as the official scripts do and strictly
(`evaluation.official`, `evaluation.score`). Judging does not ask the model again: another judge
goes on from the same answers.

What is where in OUT: answers.jsonl (what the model said), judged.jsonl (the same, judged and
marked), judgements/ (a chat judge's replies), scores.json, report.md, reliability.png.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from sdvlm_core.errors import SdvlmError
from training.evaluate.benchmarks import NAMES, PER_TYPE, open_benchmark, questions_of
from training.evaluate.controls import Controls
from training.evaluate.items import Benchmark, BenchmarkError, Item, Picture
from training.evaluate.judges import Embedding, Judge, JudgeError, chat_judge, rules_judge
from training.evaluate.official import Similarity, official
from training.evaluate.reliability import plot, refusals, reliability
from training.evaluate.report import markdown, summarise
from training.evaluate.score import strict

if TYPE_CHECKING:
    from training.evaluate.asking import Model

__all__ = ["ANSWERS", "PER_TYPE", "SCORES", "evaluate", "questions_of", "summarise"]

ANSWERS, JUDGED, SCORES, REPORT = "answers.jsonl", "judged.jsonl", "scores.json", "report.md"
RELIABILITY = "reliability.png"
JUDGES = ("rules", "minilm", "openai")


def _manifest(benchmark: Path) -> str:
    """What the folder of a benchmark of ours says of itself, in short; "" where there is none."""
    files = sorted(benchmark.glob("*.json"))
    whole = b"".join(file.read_bytes() for file in files)
    return hashlib.sha256(whole).hexdigest() if files else ""


def _recorded(path: Path, run: dict[str, Any]) -> list[dict[str, Any]]:
    """Answers of an earlier, interrupted run with the same arguments and weights."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    try:
        head, *rows = [json.loads(line) for line in lines]
    except ValueError:
        # The last line of an interrupted run may be half written.
        head, *rows = [json.loads(line) for line in lines[:-1]] or [None]
    if head != run:
        differing = sorted(key for key in run if (head or {}).get(key) != run[key])
        raise typer.BadParameter(
            f"{path} holds the answers of another run, other in {', '.join(differing)} ({head}); "
            "choose another --out"
        )
    return rows


def _judged(
    rows: list[dict[str, Any]],
    items: dict[str, Item],
    judge: Judge,
    similarity: Similarity | None,
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """The rows with judgement and both marks, and what went wrong how often."""
    failures: Counter[str] = Counter()
    judged = []
    for row in track(rows, "judging", console=Console(stderr=True)):
        item = items[row["key"]]
        judgement, reason = "", ""
        if row.get("failed"):
            reason = "no answer: " + row["failed"].partition(":")[0]
        else:
            try:
                judgement = judge(item, row["answer"])
            except JudgeError as error:
                reason = f"no judgement: {error}"
        if item.reference is None:
            failures["reference not read"] += 1
        metres = item.reference if isinstance(item.reference, float) else float("nan")
        by_them = official(item.rule, judgement, similarity, metres)
        by_us = strict(item.rule, judgement, metres)
        if reason:
            failures[reason] += 1
        else:
            failures["nothing to mark, official rules"] += bool(by_them.why)
            failures["nothing to mark, strict"] += bool(by_us.why)
        judged.append(
            {
                **row,
                "reference": item.reference,
                "judgement": judgement,
                "correct": by_us.correct,
                "official": by_them.correct,
                "error": by_us.error if np.isfinite(by_us.error) else None,
                "why": reason or by_us.why,
                "official_why": reason or by_them.why,
            }
        )
    return judged, +failures


def _print_table(summary: dict[str, Any]) -> None:
    table = Table("type", "asked", "strict %", "95 %", "official %", "95 %")
    theirs = summary["official"]
    for kind in summary["per_type"]:
        cells = []
        for part in (summary, theirs):
            low, high = part["intervals"][kind]
            cells += [f"{part['per_type'][kind]['success']:.1f}", f"{low:.0f}-{high:.0f}"]
        table.add_row(kind, str(summary["per_type"][kind]["asked"]), *cells)
    cells = []
    for part in (summary, theirs):
        low, high = part["intervals"]["macro"]
        cells += [f"{part['macro']:.1f}", f"{low:.1f}-{high:.1f}"]
    table.add_row("macro", str(summary["asked"]), *cells)
    console = Console(stderr=True)
    console.print(table)
    for name, part in summary["reliability"].items():
        console.print(
            f"confidence, {name}: calibration error {part['ece']:.3f}, {part['answers']} answers",
            highlight=False,
        )
    for name, part in summary["refusals"].items():
        console.print(
            f"refused, {name}: {part['refused']} of {part['asked']} ({part['percent']} %)",
            highlight=False,
        )
    for why, number in summary["failures"].items():
        console.print(f"{number} x {why} (counted as wrong)", highlight=False)


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _choose_judge(
    name: str, minilm: Path | None, url: str, model: str, key: str, out: Path
) -> tuple[Judge, Similarity | None]:
    if name not in JUDGES:
        raise typer.BadParameter(f"--judge must be one of {', '.join(JUDGES)}, got {name!r}")
    if name == "minilm" and minilm is None:
        raise typer.BadParameter("--judge minilm needs --minilm DIR with all-MiniLM-L6-v2")
    if name == "openai" and not (url and model):
        raise typer.BadParameter("--judge openai needs --judge-url and --judge-model")
    similarity = Embedding(minilm) if minilm is not None else None
    if name == "openai":
        return chat_judge(url, model, out / "judgements", key_variable=key), similarity
    return rules_judge, similarity


def evaluate(
    benchmark: Annotated[
        str,
        typer.Option(help=f"{', '.join(NAMES)}, or a folder of training.simulate or .build."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for answers and scores.")],
    model: Annotated[str, typer.Option(help="nano, or a model directory.")] = "nano",
    data: Annotated[
        Path | None, typer.Option(help="Local copy of msmu, q-spatial or spatialrgpt.")
    ] = None,
    frames: Annotated[
        str, typer.Option(help="own, shuffled (another frame), blank (a grey picture).")
    ] = "own",
    depth: Annotated[
        str, typer.Option(help="own, shuffled, constant, inverted, noise:METRES, none.")
    ] = "own",
    intrinsics: Annotated[
        str, typer.Option(help="own, or wrong: the focal length times 1.5.")
    ] = "own",
    estimator: Annotated[
        Path | None, typer.Option(help="Depth network for frames without depth.")
    ] = None,
    regions: Annotated[
        str, typer.Option(help="spatialrgpt: regions drawn into the picture, or as text.")
    ] = "drawn",
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many frames.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Questions answered together.")] = 8,
    judge: Annotated[str, typer.Option(help=", ".join(JUDGES))] = "rules",
    minilm: Annotated[
        Path | None, typer.Option(help="Directory with all-MiniLM-L6-v2, for names.")
    ] = None,
    judge_url: Annotated[str, typer.Option(help="OpenAI-compatible, up to and with /v1.")] = "",
    judge_model: Annotated[str, typer.Option(help="Its name at the server.")] = "",
    judge_key: Annotated[
        str, typer.Option(help="Environment variable that holds the key; none if it wants none.")
    ] = "",
) -> None:
    """Score a model on a benchmark; the last line on stdout is one JSON object.

    Example: python -m training.evaluate --model nano --benchmark runs/sim7 --out runs/sim7-nano
    """
    try:
        controls = Controls.parse(frames, depth, intrinsics)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if regions not in ("drawn", "text"):
        raise typer.BadParameter(f"--regions must be drawn or text, got {regions!r}")
    run = {
        "model": model,
        "benchmark": benchmark if benchmark in NAMES else str(Path(benchmark).resolve()),
        "data": str(data.resolve()) if data else None,
        "frames": frames,
        "depth": depth,
        "intrinsics": intrinsics,
        "estimator": str(estimator) if estimator else None,
        "regions": regions if benchmark == "spatialrgpt" else None,
        "limit": limit,
    }
    out.mkdir(parents=True, exist_ok=True)
    try:
        chosen, similarity = _choose_judge(judge, minilm, judge_url, judge_model, judge_key, out)
        source = open_benchmark(benchmark, data, regions)
        # Not before there is something to ask: importing it takes seconds.
        from training.evaluate.asking import digest, load_model

        run |= {"weights": digest(model), "asks": _manifest(Path(benchmark))}
        rows = _recorded(out / ANSWERS, run)
        answerer = load_model(model, estimator)
        rows, items = _ask(source, run, rows, answerer, controls, batch, out)
        judged, failures = _judged(rows, items, chosen, similarity)
    except (SdvlmError, JudgeError, BenchmarkError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    summary = {
        **summarise(judged, source.types, source.divisor),
        "official": summarise(judged, source.types, source.divisor, "official"),
        "failures": dict(failures),
        "asked": len(judged),
        "reliability": reliability(judged),
        "refusals": refusals(judged),
        "judge": {"name": judge, "model": judge_model, "minilm": str(minilm) if minilm else None},
        **run,
    }
    _write(out / JUDGED, "".join(json.dumps(row) + "\n" for row in judged))
    _write(out / SCORES, json.dumps(summary, indent=1) + "\n")
    report = markdown(
        summary, source.types, with_published=source.name == "msmu", name=Path(model).name
    )
    _write(out / REPORT, report)
    plot(summary["reliability"], out / RELIABILITY)
    _print_table(summary)
    sys.stdout.write(json.dumps(summary) + "\n")


def _ask(
    source: Benchmark,
    run: dict[str, Any],
    rows: list[dict[str, Any]],
    model: Model,
    controls: Controls,
    batch: int,
    out: Path,
) -> tuple[list[dict[str, Any]], dict[str, Item]]:
    """Every answer, those of an earlier run first, and the items they answer."""
    from training.evaluate.asking import answered

    items: dict[str, Item] = {}
    limit = run["limit"]

    def pictures() -> Iterator[Picture]:
        size = source.size if limit is None or source.size is None else min(limit, source.size)
        console = Console(stderr=True)
        for picture in track(
            islice(source.pictures(), limit), "asking", total=size, console=console
        ):
            items.update((item.key, item) for item in picture.items)
            yield picture

    rows = list({row["key"]: row for row in rows}.values())
    done = {row["key"] for row in rows}
    _write(out / ANSWERS, "".join(json.dumps(line) + "\n" for line in [run, *rows]))
    with (out / ANSWERS).open("a", encoding="utf-8") as log:
        for row in answered(pictures(), model, controls, done, batch):
            rows.append(row)
            log.write(json.dumps(row) + "\n")
            log.flush()
    if not items:
        raise BenchmarkError(f"{run['benchmark']} asks nothing")
    unknown = [row["key"] for row in rows if row["key"] not in items]
    if unknown:
        raise BenchmarkError(
            f"{out / ANSWERS} answers what the benchmark does not ask: {unknown[:3]}"
        )
    order = {key: number for number, key in enumerate(items)}
    return sorted(rows, key=lambda row: order[row["key"]]), items


def main() -> None:
    """Entry point of `python -m training.evaluate`."""
    typer.run(evaluate)
