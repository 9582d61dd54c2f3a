"""`python benchmarks/label_table.py LABELS.tsv`: how the map of labels reads a published table.

Reads ScanNet's `scannetv2-labels.combined.tsv` (raw_category, count, and what other data sets call
the same thing). Counts labels and instances by what they are read as, and false denials: instances
of a thing, by the table's own columns, beside which that thing would be denied. The last line is
JSON.
"""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from pathlib import Path

from training.build.check_labels import may_be, named
from training.build.labels import SEVERAL, UNMAPPED, VAGUE, categories, meaning
from training.build.labels_absence import absent

#: Columns that name a raw label in the words of another list.
_COLUMNS = ("category", "nyuClass", "nyu40class", "ModelNet40")


def main(path: Path) -> None:
    labels: Counter[str] = Counter()
    instances: Counter[str] = Counter()
    result: Counter[str] = Counter()
    known = set(categories())
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            label, number = row["raw_category"], int(row["count"])
            found = meaning(label)
            reason = found.reason if found.reason in (SEVERAL, VAGUE, UNMAPPED) else "never"
            kind = "one object" if found.category else reason
            labels[kind] += 1
            instances[kind] += number
            denied = set(absent([{"label": label}]))
            named_so = {row[column] for column in _COLUMNS} & known
            result["named by the table"] += number if named_so else 0
            result["false denials"] += number if named_so & denied else 0
            result["unproven denials"] += any(may_be({"label": label}, c) for c in denied)
            differs = bool(found.category) and named(label) != (found.category, True)
            result["labels read differently by the check"] += differs
    for kind, number in labels.most_common():
        print(f"{kind:12} {number:5} labels {instances[kind]:7} instances")
    print(json.dumps({"labels": labels, "instances": instances, **result}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
