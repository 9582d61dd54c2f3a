"""Scans with one fault each: no wrong row, no traceback, and a reason that is counted.

All faulty scans are built in one run, among each other, as faults are among good scans in practice.
A reason's wording is the builder's; only a word of it is expected here.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.training.scenes import faults
from tests.training.scenes.faults import ALL, SCANNET, SCANNETPP, Fault
from tests.training.scenes.rows import TYPES, Built, Truth, build, wrong_rows

NAMES = {
    **{fault.name: faults.scannet_name(i) for i, fault in enumerate(SCANNET)},
    **{fault.name: faults.scannetpp_name(i) for i, fault in enumerate(SCANNETPP)},
}
FAULTS = {fault.name: fault for fault in (*SCANNET, *SCANNETPP)}


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[Built, dict[str, Truth]]:
    root = tmp_path_factory.mktemp("malformed")
    truths = faults.write_all(root)
    out = root / "out"
    return build(out, scannet=root / "scannet", scannetpp=root / "scannetpp", per_type=6), truths


def rows_of(built: Built, fault: Fault) -> dict[str, dict]:
    """The rows of a fault's scan by view."""
    scene = NAMES[fault.name]
    found = [row for row in built.rows if row["scene"] == scene]
    return {row["view"].split("/")[-1].split(".")[0]: row for row in found}


def reasons(built: Built) -> Counter[str]:
    """Every counted reason of the manifest, in small letters."""
    assert built.manifest is not None
    counted: Counter[str] = Counter()
    for part in ("left_out", "objects_not_asked_about"):
        for reason, count in built.manifest[part].items():
            counted[reason.lower()] += count
    return counted


def test_there_are_more_than_twenty_kinds() -> None:
    assert len(FAULTS) == len(SCANNET) + len(SCANNETPP)
    assert len(FAULTS) > 60


def test_a_run_over_faulty_scans_ends_well(everything) -> None:
    built, _ = everything
    assert built.status == 0, built.output
    assert "Traceback" not in built.output
    assert built.manifest is not None
    assert built.manifest["failures"] == []


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_no_row_is_wrong(everything, name: str) -> None:
    built, truths = everything
    fault = FAULTS[name]
    rows = rows_of(built, fault)
    unusable = set(rows) if fault.views == ALL else set(rows) & set(fault.views)
    assert not unusable, f"rows of {sorted(unusable)}"
    wrong = wrong_rows(list(rows.values()), truths, TYPES)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_the_other_views_still_give_rows(everything, name: str) -> None:
    built, truths = everything
    fault = FAULTS[name]
    expected = set() if fault.views == ALL else set(truths[NAMES[name]].poses) - set(fault.views)
    assert set(fault.rows if fault.rows is not None else expected) <= set(rows_of(built, fault))


@pytest.mark.parametrize("reason", sorted({f.reason for f in FAULTS.values() if f.reason}))
def test_every_fault_is_counted_by_a_reason(everything, reason: str) -> None:
    built, _ = everything
    counted = sum(count for text, count in reasons(built).items() if re.search(reason, text))
    expected = sum(fault.reason == reason for fault in FAULTS.values())
    assert counted >= expected, f"{counted} of {expected}: {dict(reasons(built))}"


def test_a_folder_of_one_broken_scan_says_why(tmp_path: Path) -> None:
    broken = next(fault for fault in SCANNET if fault.name == "an annotation that is no JSON")
    faults.write_all(tmp_path, (broken,), ())
    built = build(tmp_path / "out", scannet=tmp_path / "scannet")
    assert "Traceback" not in built.output
    assert built.rows == []
    assert "aggregation.json" in built.output
