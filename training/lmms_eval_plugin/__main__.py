"""A benchmark -> a folder for `lmms-eval --include_path`: its table, and a task for each control.

Knows the form of a task. Does not know what a control does (`functions`) or a benchmark's files
(`training.evaluate.benchmarks`).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sdvlm_core.files import write_text
from sdvlm_core.model.depth_estimation import load_estimator
from sdvlm_core.model.devices import resolve_device
from training.evaluate.benchmarks import NAMES, open_benchmark
from training.evaluate.flat import write_flat
from training.lmms_eval_plugin.functions import CONTROLS, OF_NEXT

_NAMES = {"msmu": "msmu", "q-spatial": "qspatial", "spatialrgpt": "spatialrgpt"}
_TASK = """\
# Written by training.lmms_eval_plugin.
task: {task}
tag: sdvlm_{name}_controls
dataset_path: parquet
dataset_kwargs:
  data_files:
    test: {table}
test_split: test
output_type: generate_until
{process}doc_to_visual: !function training.lmms_eval_plugin.functions.images
doc_to_text: !function training.lmms_eval_plugin.functions.words
doc_to_target: answer
process_results: !function training.lmms_eval_plugin.functions.marks
generation_kwargs:
  max_new_tokens: 128
  do_sample: false
lmms_eval_specific_kwargs:
  default:
    control: {control}
    depth_as: {depth_as}
  sdvlm:
    control: {control}
    depth_as: metres
metric_list:
  - metric: strict
    aggregation: !function training.lmms_eval_plugin.functions.macro
    higher_is_better: true
  - metric: official
    aggregation: !function training.lmms_eval_plugin.functions.macro
    higher_is_better: true
metadata:
  - version: 1.0
"""


def write_tasks(out: Path, name: str, depth_as: str) -> list[str]:
    """The tasks of a table `NAME.parquet` in `out`; returns their names."""
    tasks = []
    for control in CONTROLS:
        task = f"sdvlm_{name}" + ("" if control == "own" else f"_{control}")
        process = "process_docs: !function training.lmms_eval_plugin.functions.with_next\n"
        text = _TASK.format(
            task=task,
            name=name,
            table=f"{name}.parquet",
            process=process if control in OF_NEXT else "",
            control=control,
            depth_as=depth_as,
        )
        write_text(out / f"{task}.yaml", text)
        tasks.append(task)
    return tasks


def main(arguments: list[str] | None = None) -> None:
    """`python -m training.lmms_eval_plugin`."""
    parser = argparse.ArgumentParser(description="Write the tasks of a benchmark for lmms-eval.")
    parser.add_argument("--benchmark", required=True, help=f"{', '.join(NAMES)}, or a folder.")
    parser.add_argument("--data", type=Path, help="local copy of a named benchmark")
    parser.add_argument("--name", help="name of the tasks, sdvlm_NAME; default: the benchmark's")
    parser.add_argument("--out", type=Path, required=True, help="folder for --include_path")
    parser.add_argument("--regions", default="drawn", choices=("drawn", "text"))
    parser.add_argument("--estimator", type=Path, help="depth network for pictures without depth")
    parser.add_argument("--limit", type=int, help="maximum number of pictures")
    parser.add_argument(
        "--depth-as", default="none", choices=("none", "picture", "text"),
        help="what models other than sdvlm are shown of depth",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    name = options.name or _NAMES.get(options.benchmark, Path(options.benchmark).name)
    source = open_benchmark(options.benchmark, options.data, options.regions)
    network = None
    if options.estimator is not None:
        network = load_estimator(options.estimator, resolve_device("auto"))
    options.out.mkdir(parents=True, exist_ok=True)
    count = write_flat(source, options.out / f"{name}.parquet", options.limit, network)
    tasks = write_tasks(options.out, name, options.depth_as)
    sys.stdout.write(f"{count} questions; tasks: {', '.join(tasks)}\n")


if __name__ == "__main__":
    main()
