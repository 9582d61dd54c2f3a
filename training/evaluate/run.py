"""`python -m training.evaluate`: ask a model a benchmark's questions and score the answers.

Holds the command only; the run is `evaluation`, the files it writes are `outputs`.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from training.evaluate.benchmarks import NAMES
from training.evaluate.endpoint_model import DEPTH_AS
from training.evaluate.evaluation import EVALUATION_ERRORS, Asking, Judging, answer_share
from training.evaluate.evaluation import evaluate as run_evaluation
from training.evaluate.judges import Embedding, chat_judge, rules_judge
from training.evaluate.outputs import JUDGEMENTS, OtherSettingsError
from training.evaluate.rows import RowError, judge_rows
from training.evaluate.sharding import Shard, launched, parse_shard

JUDGES = ("rules", "minilm", "openai")


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
    if cost := summary.get("cost"):
        console.print(
            f"{cost['replies']} replies, {cost['prompt_tokens']} tokens read, "
            f"{cost['completion_tokens']} written, cost {cost['cost']:.2f}",
            highlight=False,
        )
    for why, number in summary["failures"].items():
        console.print(f"{number} x {why} (counted as wrong)", highlight=False)


def _check_judge(name: str, minilm: Path | None, url: str, model: str) -> None:
    if name not in JUDGES:
        raise typer.BadParameter(f"--judge must be one of {', '.join(JUDGES)}, got {name!r}")
    if name == "minilm" and minilm is None:
        raise typer.BadParameter("--judge minilm needs --minilm DIR with all-MiniLM-L6-v2")
    if name == "openai" and not (url and model):
        raise typer.BadParameter("--judge openai needs --judge-url and --judge-model")


def evaluate(
    benchmark: Annotated[
        str,
        typer.Option(help=f"{', '.join(NAMES)}, or a folder of training.simulate or .build."),
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for answers and scores.")] = None,
    score: Annotated[
        Path | None,
        typer.Option(
            help="No model: judge the rows {type, question, reference, answer} of a file."
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="nano, a model directory, or openai:NAME on a server.")
    ] = "nano",
    data: Annotated[
        Path | None, typer.Option(help="Local copy of msmu, q-spatial or spatialrgpt.")
    ] = None,
    frames: Annotated[
        str, typer.Option(help="own, shuffled (another frame), blank (a grey image).")
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
        str, typer.Option(help="spatialrgpt: regions drawn into the image, or as text.")
    ] = "drawn",
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum number of frames.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    shard: Annotated[
        str,
        typer.Option(
            help="I/N: only answer the I-th of N shares; run once more without it to merge."
        ),
    ] = "",
    endpoint: Annotated[
        str, typer.Option(help="Base URL of the server of openai:NAME, with /v1.")
    ] = "",
    depth_as: Annotated[
        str, typer.Option(help=f"openai:NAME is shown depth as {', '.join(DEPTH_AS)}.")
    ] = "none",
    endpoint_key: Annotated[
        str, typer.Option(help="Environment variable with the server's key; empty = no key.")
    ] = "",
    endpoint_prices: Annotated[
        str, typer.Option(help="Prices of a million tokens read and written: 2.5,10.")
    ] = "0,0",
    template: Annotated[
        Path | None, typer.Option(help="Text around every question, with {{ question }}.")
    ] = None,
    judge: Annotated[str, typer.Option(help=", ".join(JUDGES))] = "rules",
    minilm: Annotated[
        Path | None, typer.Option(help="Directory with all-MiniLM-L6-v2, for names.")
    ] = None,
    judge_url: Annotated[str, typer.Option(help="Base URL of the server, with /v1.")] = "",
    judge_model: Annotated[str, typer.Option(help="Model name at the server.")] = "",
    judge_key: Annotated[
        str, typer.Option(help="Environment variable with the key; empty = no key.")
    ] = "",
) -> None:
    """Score a model on a benchmark, or given answers; the last line on stdout is one JSON object.

    Run it again to resume. Under torchrun every process answers a share, on its own GPU.

    Examples: python -m training.evaluate --model nano --benchmark runs/sim7 --out runs/sim7-nano

    torchrun --standalone --nproc-per-node 8 -m training.evaluate --model DIR --benchmark msmu
    --data MSMU/test.parquet --out runs/msmu --depth none

    python -m training.evaluate --score rows.jsonl
    """
    if score is not None:
        if benchmark or out is not None:
            raise typer.BadParameter("--score takes no --benchmark and no --out")
        _score(score)
        return
    if not benchmark or out is None:
        raise typer.BadParameter("give --benchmark and --out, or --score ROWS.jsonl")
    try:
        asking = Asking(
            model, benchmark, data, frames, depth, intrinsics, estimator, regions, limit,
            endpoint, depth_as, endpoint_key, template, _prices(endpoint_prices),
        )  # fmt: skip
        share = parse_shard(shard)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from error
    _check_judge(judge, minilm, judge_url, judge_model)
    try:
        judging = Judging(
            chat_judge(judge_url, judge_model, out / JUDGEMENTS, key_variable=judge_key)
            if judge == "openai"
            else rules_judge,
            Embedding(minilm) if minilm is not None else None,
            {"name": judge, "model": judge_model, "minilm": str(minilm) if minilm else None},
        )
        summary = _run(asking, judging, out, device, share)
    except OtherSettingsError as error:
        raise typer.BadParameter(str(error)) from error
    except EVALUATION_ERRORS as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    if summary is not None:
        _print_table(summary)
        sys.stdout.write(json.dumps(summary) + "\n")


def _prices(text: str) -> tuple[float, float]:
    """ "2.5,10" as two prices; ValueError if it is anything else."""
    try:
        read, written = (float(part) for part in text.split(","))
    except ValueError:
        read = written = math.nan
    if not (0 <= read < math.inf and 0 <= written < math.inf):
        raise ValueError(f"--endpoint-prices must be two prices such as 2.5,10, got {text!r}")
    return read, written


def _run(
    asking: Asking, judging: Judging, out: Path, device: str, share: Shard
) -> dict[str, Any] | None:
    """The summary; None in a process that only answers a share."""
    started = launched()
    if not started.is_whole and share.is_whole:
        # Imported here: torch takes seconds, and --score needs none.
        from training.loop import parallel

        parallel.join_processes()
        answer_share(asking, out, started, str(parallel.own_device(device)))
        parallel.barrier()
        return run_evaluation(asking, judging, out, device) if started.number == 1 else None
    if share.is_whole:
        return run_evaluation(asking, judging, out, device)
    file = answer_share(asking, out, share, device)
    typer.echo(f"answered: {file}; run the command without --shard to merge the shares", err=True)
    return None


def _score(path: Path) -> None:
    """Print the mark of every row, then one line of JSON."""
    try:
        rows = judge_rows(path)
    except (RowError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    for row in rows:
        mark = "right" if row.correct else "wrong"
        note = f" ({row.why})" if row.why else ""
        typer.echo(f"{row.line} {mark} {row.item.type}: {row.item.question} {row.answer!r}{note}")
    typer.echo(json.dumps({"n": len(rows), "correct": [row.correct for row in rows]}))


def main() -> None:
    """Entry point of `python -m training.evaluate`."""
    typer.run(evaluate)
