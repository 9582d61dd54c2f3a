"""One evaluation: ask a model the questions of a benchmark, judge and score the answers, report.

Images are streamed (`benchmarks`), changed by `controls` and answered by one process,
or a share by each of several (`sharding`). Each answer is one JSON line, so that an interrupted
run resumes. Then every answer is judged
(`judges`) and scored twice, by the official and by the strict rules (`official`, `score`). A second
run with another judge uses the stored answers. Does not know the command line.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.progress import track

from sdvlm_core.errors import SdvlmError
from sdvlm_core.files import write_json, write_text
from training.evaluate.benchmarks import NAMES, open_benchmark
from training.evaluate.chat import ChatOptions, cost_of
from training.evaluate.controls import Controls
from training.evaluate.endpoint_model import DEPTH_AS, PREFIX, DepthAs, endpoint_model
from training.evaluate.items import Benchmark, BenchmarkError, Item, Picture
from training.evaluate.judges import Judge, JudgeError, rules_judge
from training.evaluate.official import Similarity, official
from training.evaluate.outputs import (
    ANSWERS,
    JUDGED,
    RELIABILITY,
    REPLIES,
    REPORT,
    SCORES,
    Row,
    part_name,
    parts,
    recorded,
    recorded_parts,
    write_lines,
)
from training.evaluate.reliability import plot, refusals, reliability
from training.evaluate.report import markdown, summarise
from training.evaluate.score import strict
from training.evaluate.sharding import WHOLE, Shard
from training.evaluate.templates import Template, in_template, read_template

if TYPE_CHECKING:
    from training.evaluate.asking import Model

#: Exceptions of `evaluate` that are not defects of the program.
EVALUATION_ERRORS = (SdvlmError, JudgeError, BenchmarkError, OSError)


@dataclass(frozen=True)
class Asking:
    """The model, the questions and the inputs; answers depend on nothing else.

    Attributes:
        model: nano, a model directory, or openai:NAME, a model on a server.
        benchmark: name of a published benchmark, or a local folder.
        data: local copy of a named benchmark.
        frames, depth, intrinsics: controls, as `Controls.parse` reads them.
        estimator: directory of a depth network for frames without depth.
        regions: how spatialrgpt shows its regions, "drawn" or "text".
        limit: maximum number of frames.
        endpoint: URL of the server of openai:NAME, with /v1.
        depth_as: how such a model is shown depth, one of `endpoint_model.DEPTH_AS`.
        endpoint_key: environment variable with the server's key; "" = it needs none.
        endpoint_prices: of a million tokens that the server reads and writes; changes no answer.
        template: file with the words around a question (`templates`); None = none.

    Raises:
        ValueError: a control, `regions` or `depth_as` has an unknown value, a model on a server
            has no endpoint, or the file is no template.
        OSError: the template cannot be read.
    """

    model: str
    benchmark: str
    data: Path | None = None
    frames: str = "own"
    depth: str = "own"
    intrinsics: str = "own"
    estimator: Path | None = None
    regions: str = "drawn"
    limit: int | None = None
    endpoint: str = ""
    depth_as: str = "none"
    endpoint_key: str = ""
    template: Path | None = None
    endpoint_prices: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        self.controls()
        self.words()
        if self.depth_as not in DEPTH_AS:
            raise ValueError(f"--depth-as is one of {', '.join(DEPTH_AS)}, got {self.depth_as!r}")
        if self.is_served != bool(self.endpoint):
            raise ValueError(f"--model {PREFIX}NAME and --endpoint URL go together")
        if self.regions not in ("drawn", "text"):
            raise ValueError(f"--regions must be drawn or text, got {self.regions!r}")

    @property
    def is_served(self) -> bool:
        """Whether the model is on a server."""
        return self.model.startswith(PREFIX)

    def controls(self) -> Controls:
        """The controls, parsed."""
        return Controls.parse(self.frames, self.depth, self.intrinsics)

    def words(self) -> Template | None:
        """The template, read."""
        return None if self.template is None else read_template(self.template)

    def settings(self) -> dict[str, Any]:
        """The first line of answers.jsonl, without digests of the model and the benchmark."""
        named = self.benchmark in NAMES
        more: dict[str, Any] = {}
        if self.is_served:
            more |= {"endpoint": self.endpoint, "depth_as": self.depth_as}
        if (words := self.words()) is not None:
            more["template"] = asdict(words)
        return more | {
            "model": self.model,
            "benchmark": self.benchmark if named else str(Path(self.benchmark).resolve()),
            "data": str(self.data.resolve()) if self.data else None,
            "frames": self.frames,
            "depth": self.depth,
            "intrinsics": self.intrinsics,
            "estimator": str(self.estimator) if self.estimator else None,
            "regions": self.regions if self.benchmark == "spatialrgpt" else None,
            "limit": self.limit,
        }


@dataclass(frozen=True, eq=False)
class Judging:
    """The judge of an evaluation.

    Attributes:
        judge: (item, answer) -> judgement.
        similarity: similarity of two names, for the official rules; None = equality.
        description: text about the judge, for scores.json.
    """

    judge: Judge = rules_judge
    similarity: Similarity | None = None
    description: dict[str, Any] = field(
        default_factory=lambda: {"name": "rules", "model": "", "minilm": None}
    )


def evaluate(asking: Asking, judging: Judging, out: Path, device: str = "auto") -> dict[str, Any]:
    """Run the evaluation, write its files to `out`, and return the summary (scores.json).

    Answers that shares have written to `out` are taken over; what they left out is asked.

    Args:
        device: where the model runs; results do not depend on it, up to rounding.

    Raises:
        OtherSettingsError: `out` holds the answers of another run.
        SdvlmError, JudgeError, BenchmarkError, OSError (`EVALUATION_ERRORS`): the benchmark, the
            model or the judge cannot be used.
    """
    out.mkdir(parents=True, exist_ok=True)
    source = open_benchmark(asking.benchmark, asking.data, asking.regions)
    settings = _settings(asking)
    rows, items = _answer(source, settings, asking, out, WHOLE, device)
    rows = _merged(settings, rows, items, out)
    judged, failures = _judge(rows, items, judging)
    summary = {
        **summarise(judged, source.types, source.divisor, more=source.more),
        "official": summarise(judged, source.types, source.divisor, "official", source.more),
        "failures": dict(failures),
        "asked": len(judged),
        "reliability": reliability(judged),
        "refusals": refusals(judged),
        "judge": judging.description,
        **settings,
    }
    if asking.is_served:
        summary["cost"] = asdict(cost_of(out / REPLIES, *asking.endpoint_prices))
    write_lines(out / JUDGED, judged)
    write_json(out / SCORES, summary, indent=1)
    report = markdown(
        summary,
        source.types,
        with_published=source.name == "msmu",
        name=Path(asking.model).name,
    )
    write_text(out / REPORT, report)
    plot(summary["reliability"], out / RELIABILITY)
    return summary


def answer_share(asking: Asking, out: Path, shard: Shard, device: str = "auto") -> Path:
    """Answer one share of the benchmark; returns its file, which `evaluate` takes over.

    Raises:
        OtherSettingsError, SdvlmError, BenchmarkError, OSError: as `evaluate`.
    """
    out.mkdir(parents=True, exist_ok=True)
    source = open_benchmark(asking.benchmark, asking.data, asking.regions)
    _answer(source, _settings(asking), asking, out, shard, device)
    return out / part_name(shard.number, shard.count)


def _settings(asking: Asking) -> dict[str, Any]:
    """The first line of a file of answers."""
    # Imported late: it takes seconds, and a bad benchmark is refused before.
    from training.evaluate.asking import digest

    return asking.settings() | {
        "weights": digest(asking.model),
        "asks": _benchmark_digest(Path(asking.benchmark)),
    }


def _benchmark_digest(benchmark: Path) -> str:
    """sha256 of the JSON files of a local folder; "" if it has none."""
    files = sorted(benchmark.glob("*.json"))
    whole = b"".join(file.read_bytes() for file in files)
    return hashlib.sha256(whole).hexdigest() if files else ""


def _answer(
    source: Benchmark,
    settings: dict[str, Any],
    asking: Asking,
    out: Path,
    shard: Shard,
    device: str,
) -> tuple[list[Row], dict[str, Item]]:
    """Every answer of earlier runs and of this share, and the benchmark's items by key."""
    from training.evaluate.asking import answered

    items: dict[str, Item] = {}
    limit = asking.limit

    def pictures() -> Iterator[Picture]:
        size = source.size if limit is None or source.size is None else min(limit, source.size)
        console = Console(stderr=True)
        for picture in track(
            islice(source.pictures(), limit), "asking", total=size, console=console
        ):
            items.update((item.key, item) for item in picture.items)
            yield picture

    rows = recorded_parts(out, settings)
    own = out / part_name(shard.number, shard.count)
    # Removes an incomplete last line before more are appended.
    write_lines(own, [settings, *recorded(own, settings)])
    # Where nothing is left to ask, no model is loaded.
    model = cache(lambda: _model(asking, out, device))
    with own.open("a", encoding="utf-8") as log:
        done = {row["key"] for row in rows}
        for row in answered(pictures(), model, asking.controls(), done, shard):
            rows.append(row)
            log.write(json.dumps(row) + "\n")
            log.flush()
    if not items:
        raise BenchmarkError(f"{settings['benchmark']} has no questions")
    return rows, items


def _model(asking: Asking, out: Path, device: str) -> Model:
    from training.evaluate.asking import load_model, served_model

    if asking.is_served:
        name, how = asking.model.removeprefix(PREFIX), cast(DepthAs, asking.depth_as)
        options = ChatOptions(asking.endpoint_key)
        answers = endpoint_model(asking.endpoint, name, out / REPLIES, how, options)
        model = served_model(answers, asking.estimator, device)
    else:
        model = load_model(asking.model, asking.estimator, device)
    words = asking.words()
    return replace(model, answers=in_template(model.answers, words)) if words else model


def _merged(
    settings: dict[str, Any],
    rows: list[Row],
    items: dict[str, Item],
    out: Path,
) -> list[Row]:
    """All answers in the order of the benchmark, in one file; the files of shares are removed."""
    unknown = [row["key"] for row in rows if row["key"] not in items]
    if unknown:
        raise BenchmarkError(
            f"{out / ANSWERS} has answers to questions that the benchmark does not have: "
            f"{unknown[:3]}; choose another --out"
        )
    order = {key: number for number, key in enumerate(items)}
    ordered = sorted(rows, key=lambda row: order[row["key"]])
    write_lines(out / ANSWERS, [settings, *ordered])
    for part in parts(out):
        part.unlink()
    return ordered


def _judge(
    rows: list[Row], items: dict[str, Item], judging: Judging
) -> tuple[list[Row], Counter[str]]:
    """The rows with judgement and both scores, and the failures by reason."""
    failures: Counter[str] = Counter()
    judged = []
    for row in track(rows, "judging", console=Console(stderr=True)):
        item = items[row["key"]]
        judgement, reason = "", ""
        if row.get("failed"):
            reason = "no answer: " + row["failed"].partition(":")[0]
        else:
            try:
                judgement = judging.judge(item, row["answer"])
            except JudgeError as error:
                reason = f"no judgement: {error}"
        if item.reference is None:
            failures["reference not read"] += 1
        metres = item.reference if isinstance(item.reference, float) else math.nan
        by_them = official(item.rule, judgement, judging.similarity, metres)
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
                "error": by_us.error if math.isfinite(by_us.error) else None,
                "why": reason or by_us.why,
                "official_why": reason or by_them.why,
            }
        )
    return judged, +failures
