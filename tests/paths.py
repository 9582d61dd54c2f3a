"""Where tests find the checkout and, beside it, recordings that do not travel with it."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
#: Recordings and real frames; absent outside the maintainers' machines: skip with a reason then.
SHARED = ROOT.parent / "shared"
