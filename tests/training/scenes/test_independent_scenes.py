"""Every row of scans that were written without knowledge of the builder is true.

The scans have the published formats of ScanNet v2 and ScanNet++. Rows are read by this package's
own reader of sentences, and compared with rooms whose truth is exact.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.training.scenes import scannet_files, scannetpp_files
from tests.training.scenes.faults import DSLR, PHONE
from tests.training.scenes.rooms import ROOMS
from tests.training.scenes.rows import (
    TYPES,
    Built,
    Truth,
    build,
    turns,
    view_of_row,
    wrong_nodes,
    wrong_pixels,
    wrong_turns,
)
from tests.training.scenes.sentences import read
from tests.training.scenes.truth import elsewhere

STYLES = ("metric", "msmu")


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Truth]]:
    """Three rooms as ScanNet (one exported), two as ScanNet++, one of them as both."""
    root = tmp_path_factory.mktemp("scans")
    truths = {}
    for index, (name, room_of) in enumerate(ROOMS.items()):
        room = room_of()
        if name != "kitchen":
            scan = scannet_files.scan_of(f"scene{index:04d}_00", room.things, room.poses)
            scannet_files.write_scan(root / "scannet", scan, exported=name == "bedroom")
            views = {str(i): pose for i, pose in enumerate(room.poses)}
            truths[scan.name] = Truth(room.things, views)
        if name in ("lounge", "kitchen"):
            plus = scannetpp_files.scan_of(
                f"{0xAB000 + index:010x}", room.things, room.poses[:2], room.poses[2:]
            )
            scannetpp_files.write_scan(root / "scannetpp", plus)
            poses = dict(zip(DSLR + PHONE, room.poses, strict=True))
            truths[plus.name] = Truth(room.things, poses)
    return root, truths


@pytest.fixture(scope="module", params=STYLES)
def built(request, scans: tuple[Path, dict[str, Truth]]) -> Built:
    root, _ = scans
    return build(
        root / request.param, scannet=root / "scannet", scannetpp=root / "scannetpp",
        style=request.param, check=request.param == "msmu",
    )  # fmt: skip


def test_views_give_rows_or_are_counted_and_the_builders_own_check_agrees(built, scans) -> None:
    assert built.status == 0, built.output
    assert "Traceback" not in built.output
    views = sum(len(truth.poses) for truth in scans[1].values())
    left_out = built.manifest["left_out"]
    assert set(left_out) <= {"view: no named object"}
    assert len(built.rows) + sum(left_out.values()) == views
    assert len(built.rows) >= views - 2
    assert {row["scene"] for row in built.rows} == set(scans[1])


def test_rows_have_the_pose_the_picture_and_the_depth_of_their_view(built, scans) -> None:
    wrong = [
        f"{row['scene']} {text}"
        for row in built.rows
        for text in wrong_pixels(row, view_of_row(row, scans[1][row["scene"]]))
    ]
    assert not wrong, "\n".join(wrong)


def test_scene_graphs_have_the_true_boxes_and_visible_pixels(built, scans) -> None:
    wrong = [
        f"{row['scene']} {text}"
        for row in built.rows
        for text in wrong_nodes(row, view_of_row(row, scans[1][row["scene"]]))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_every_answer_is_true(built, scans, kind: str) -> None:
    asked, wrong = 0, []
    for row in built.rows:
        view = view_of_row(row, scans[1][row["scene"]])
        only = [(q, a, k) for q, a, k in turns(row) if k == kind]
        asked += len(only)
        wrong += [f"{row['scene']} {text}" for text in wrong_turns(row, view, only)]
    assert asked >= len(built.rows), f"{asked} questions of type {kind}"
    assert not wrong, f"{len(wrong)} of {asked}:\n" + "\n".join(wrong)


def test_the_reader_understands_every_form_of_claim(built) -> None:
    kinds = Counter(
        claim.kind.split()[0]
        for row in built.rows
        for question, answer, _ in turns(row)
        for claim in read(question, answer)
    )
    expected = {"height", "width", "size", "distance", "count", "exists", "place", "found"}
    expected |= {"left", "right", "most"}
    assert expected <= set(kinds), kinds


def test_the_point_of_a_question_shows_the_object_of_its_answer(built, scans) -> None:
    asked, wrong = 0, []
    for row in built.rows:
        view = view_of_row(row, scans[1][row["scene"]])
        for question, answer, kind in turns(row):
            for claim in read(question, answer) if kind == "grounding" else []:
                if claim.kind == "found":
                    asked += 1
                    wrong += [f"{row['scene']} {row['view']} {why}"] if (
                        why := elsewhere(claim, view)) else []  # fmt: skip
    assert asked > len(built.rows) / 2
    assert not wrong, "\n".join(wrong)
