"""An answer with a size carries the caution that the frame does not show which way is up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sdvlm_core.answer import Quantity
from sdvlm_core.cautions import Caution
from sdvlm_core.engine import SpatialEngine, load
from tests.fixtures.frames import FRAMES, read


@pytest.fixture(scope="module")
def engine() -> SpatialEngine:
    return load("nano", device="cpu")


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("How tall is the red mug?", Quantity.HEIGHT),
        ("What is the distance between the red mug and the blue box?", Quantity.DISTANCE),
    ],
)
def test_only_an_answer_about_a_size_depends_on_which_way_is_up(engine, question, kind):
    frame, _ = read(FRAMES[0])
    # The table contradicts it: the camera looks down.
    doubtful = replace(frame, up=(0.0, -1.0, 0.0))
    for shown, expected in ((frame, ()), (doubtful, (Caution.UP_UNCERTAIN,))):
        answer = engine.open(shown).ask(question)
        assert {measurement.kind for measurement in answer.measurements} == {kind}, answer.text
        assert answer.cautions == (expected if kind is Quantity.HEIGHT else ())
    estimated = replace(doubtful, depth_source="estimated_metric")
    assert engine.open(estimated).ask(question).cautions == ()
