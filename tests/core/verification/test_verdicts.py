"""A comparison is judged by two measurements where they differ by more than two std_dev."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sdvlm_core.answer import Asked, Quantity, Source, SpatialAnswer, Status, Verdict
from sdvlm_core.cautions import Caution
from sdvlm_core.language.question import RELATIONS
from sdvlm_core.verification import StatedVerdict, verify
from tests.blocks import Block
from tests.core.verification.sessions import (
    BLUE,
    CHAIRS,
    CUT,
    LAMP,
    RED,
    TABLE,
    Session,
    room,
    seen,
)

REGIONS = {one.label: one for one in (RED, BLUE, TABLE, LAMP, CUT)}


def verdict_on(
    relation: str, names: tuple[str, ...], verdict: Verdict = Verdict.HOLDS
) -> SpatialAnswer:
    """The answer to "Is A (relation) B?"."""
    return SpatialAnswer("?", "", Asked(Quantity.COMPARISON, names, relation), verdict=verdict)


def judged(answer: SpatialAnswer, sensor: str = "realsense", **changes):
    """(agrees, check, answer) of the room, with the regions of the asked objects."""
    session = Session(replace(room(), **changes))
    regions = [REGIONS[name] for name in answer.asked.objects]
    verified, (check,) = verify(session, answer, regions, sensor)
    assert verified.measurements == ()  # a verdict is not fused
    assert (verified.status is Status.DISAGREEMENT) is (check.agrees is False)
    return check.agrees, check, verified


@pytest.mark.parametrize(
    ("relation", "names", "holds"),
    [
        ("taller", CHAIRS, True),  # 0.1 m, with a std_dev of 0.04 m
        ("shorter", CHAIRS, False),
        ("longer", ("coffee table", "red chair"), True),
        ("longer", ("red chair", "coffee table"), False),
        ("wider", CHAIRS, None),
        ("narrower", CHAIRS, None),
        ("larger", CHAIRS, None),
        ("closer", CHAIRS, True),
        ("farther", CHAIRS, False),
        ("farther", ("red chair", "coffee table"), True),
        ("left", CHAIRS, True),
        ("right", CHAIRS, False),
        ("right", ("coffee table", "red chair"), True),
        ("above", CHAIRS, None),
        ("below", CHAIRS, None),
    ],
)
def test_each_relation_is_judged_or_undecided(relation, names, holds):
    agrees, check, _ = judged(verdict_on(relation, names))
    assert agrees is holds, check.reason
    opposite, _, _ = judged(verdict_on(relation, names, Verdict.DOES_NOT_HOLD))
    assert opposite is (None if holds is None else not holds)
    assert isinstance(check.claim, StatedVerdict)
    assert [one.label for one in check.objects] == list(names)


@pytest.mark.parametrize(("relation", "holds"), [("taller", True), ("shorter", False)])
def test_a_better_depth_camera_decides_more(relation, holds):
    agrees, check, _ = judged(verdict_on(relation, CHAIRS), "simulated")
    assert agrees is holds, check.reason


def test_every_relation_of_the_table_is_known():
    for relation in RELATIONS:
        _, check, _ = judged(verdict_on(relation, CHAIRS))
        assert "does not judge" not in check.reason


@pytest.mark.parametrize(
    ("chosen", "agrees"),
    [("red chair", True), ("the red chair", True), ("blue chair", False), ("", None), ("x", None)],
)
def test_a_choice_is_judged_against_all_others(chosen, agrees):
    asked = Asked(Quantity.COMPARISON, CHAIRS, "taller", which=True)
    found, check, _ = judged(SpatialAnswer("?", "", asked, chosen=chosen), "simulated")
    assert found is agrees
    if not found and chosen in ("", "x"):
        assert "names none of the objects" in check.reason


def test_one_contradiction_among_several_is_enough_and_a_doubt_is_not():
    names = ("coffee table", *CHAIRS)
    asked = Asked(Quantity.COMPARISON, names, "longer", which=True)
    assert judged(SpatialAnswer("?", "", asked, chosen="coffee table"))[0] is True
    assert judged(SpatialAnswer("?", "", asked, chosen="red chair"))[0] is False
    # The chairs are equally wide.
    asked = Asked(Quantity.COMPARISON, CHAIRS, "wider", which=True)
    assert judged(SpatialAnswer("?", "", asked, chosen="red chair"))[0] is None


@pytest.mark.parametrize("verdict", [Verdict.HOLDS, Verdict.DOES_NOT_HOLD])
@pytest.mark.parametrize("relation", ["taller", "larger", "left", "above"])
def test_an_unfit_measurement_decides_no_comparison(verdict, relation):
    agrees, check, _ = judged(verdict_on(relation, ("sofa", "red chair"), verdict))
    assert agrees is None
    assert Caution.TRUNCATED in check.warnings
    assert "unfit" in check.reason


@pytest.mark.parametrize(
    ("relation", "names", "holds"),
    [
        ("above", ("lamp", "box"), True),
        ("below", ("box", "lamp"), True),
        ("above", ("box", "lamp"), False),
        ("below", ("lamp", "box"), False),
        ("above", ("lamp", "plate"), None),  # higher, but beside it
        ("above", ("plate", "lamp"), False),
    ],
)
def test_above_is_wholly_higher_and_over_it_and_never_lower(relation, names, holds):
    world = [
        Block("box", (200, 90, 40), (-0.2, 1.2, 0.0), (0.24, 0.2, 0.12)),
        Block("lamp", (40, 90, 200), (-0.2, 1.2, 0.25), (0.12, 0.12, 0.12)),
        Block("plate", (40, 200, 90), (0.3, 1.2, 0.0), (0.2, 0.2, 0.05)),
    ]
    frame, regions = seen(world)
    regions = [one for one in regions if one.label in names]
    _, (check,) = verify(Session(frame), verdict_on(relation, names), regions, "simulated")
    assert check.agrees is holds, check.reason


def test_left_of_a_turned_camera_is_not_judged():
    frame = room()
    turned = replace(
        frame,
        rgb=np.ascontiguousarray(np.rot90(frame.rgb, 2)),
        depth=np.ascontiguousarray(np.rot90(frame.depth, 2)),
        up=(0.0, 0.93, 0.37),
    )
    width, height = frame.width, frame.height
    regions = []
    for one in (RED, BLUE):
        x1, y1, x2, y2 = one.box
        regions.append(replace(one, box=(width - x2, height - y2, width - x1, height - y1)))
    _, (check,) = verify(Session(turned), verdict_on("left", CHAIRS), regions)
    assert check.agrees is None
    assert "the camera is turned" in check.reason


def test_an_undecided_answer_has_nothing_to_judge():
    agrees, check, _ = judged(verdict_on("taller", CHAIRS, Verdict.UNDECIDED))
    assert agrees is None
    assert check.reason == "the answer says neither yes nor no"


@pytest.mark.parametrize("quantity", [Quantity.EXISTS, Quantity.FREE])
def test_what_depth_does_not_judge_is_undecided_with_the_reason(quantity):
    names = () if quantity is Quantity.FREE else ("red chair",)
    answer = SpatialAnswer("?", "Yes.", Asked(quantity, names), verdict=Verdict.HOLDS)
    agrees, check, verified = judged(answer)
    assert agrees is None
    assert check.reason == f"depth does not judge {quantity.name}"
    assert verified == answer


def test_a_comparison_keeps_its_numbers_out_of_the_answer():
    _, check, verified = judged(verdict_on("taller", CHAIRS))
    assert check.measurement is None
    assert Source.FUSED not in {m.source for m in verified.measurements}
    assert "difference of height" in check.reason


@pytest.mark.parametrize("relation", ["higher", "lower"])
def test_higher_is_not_judged_because_it_may_compare_heights_or_places(relation):
    agrees, check, _ = judged(verdict_on(relation, CHAIRS), "simulated")
    assert agrees is None
    assert "ask for taller, or for above" in check.reason
