"""CPU time of reading hostile answers, 10,000 characters each; a table, and one JSON line last.

The tests count function calls, which do not show a regular expression that backtracks. This does.

    python benchmarks/reading.py
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # `tests` is used from the checkout

from sdvlm_core.language.reading import measured
from tests.core.language.hostile import HOSTILE

QUESTION = "What is the width of the lamp?"


def main() -> None:
    seconds: dict[str, float] = {}
    for text in HOSTILE:
        started = time.process_time()
        measured(QUESTION, text)
        seconds[repr(text[:24])] = time.process_time() - started
    for name, value in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"{value * 1000:8.1f} ms  {name}")
    print(json.dumps({"texts": len(seconds), "slowest_s": round(max(seconds.values()), 3)}))


if __name__ == "__main__":
    main()
