"""The offline backend: what it holds, measures, answers and refuses."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sdvlm_core.camera.as_taken import project
from sdvlm_core.cli.app import app
from sdvlm_core.engine import LoadOptions
from sdvlm_core.errors import (
    BagError,
    CheckpointError,
    FrameError,
    ModelNotReadyError,
    QueryCanceled,
    QueryError,
    error_code,
)
from sdvlm_core.frame import Region
from sdvlm_core.front.offline import HELD_FRAMES, OfflineBackend, open_offline

_ROOT = Path(__file__).parents[3]
_TABLE = _ROOT / "docs" / "table"
_FILES = (_TABLE / "rgb.png", _TABLE / "depth.png", _TABLE / "intrinsics.json")
_BAG = _ROOT / "demo" / "table"
_MUG = Region("red mug", box=(189.0, 193.0, 266.0, 300.0))


@pytest.fixture(scope="module")
def table() -> Iterator[OfflineBackend]:
    backend = open_offline(*_FILES, sensor="simulated", model=LoadOptions("nano"))
    yield backend
    backend.close()


def test_measures_before_and_without_a_model_what_the_command_measures():
    backend = open_offline(*_FILES, sensor="simulated")
    shot = backend.capture()
    found = backend.measure(shot.stamp_ns, [_MUG])
    names = ("--rgb", "--depth", "--intrinsics")
    picture = [word for name, path in zip(names, _FILES, strict=True) for word in (name, str(path))]
    box = "red mug=189,193,266,300"
    printed = CliRunner().invoke(
        app, ["measure", *picture, "--region", box, "--sensor", "simulated", "--json"]
    )
    assert found == json.loads(printed.stdout)
    with pytest.raises(ModelNotReadyError, match="only measuring"):
        backend.ask(shot.stamp_ns, ["How tall is the red mug?"])


def test_text_arrives_in_parts_that_make_the_answer(table):
    parts: list[str] = []
    stamp = table.capture().stamp_ns
    (document,) = table.ask(
        stamp, ["How tall is the red mug?"], on_text=lambda _, text: parts.append(text) is None
    )
    assert "".join(parts).strip() == document["text"]
    assert document["asked"]["quantity"] == "HEIGHT"
    assert document["model_id"] == "nano"


def test_verification_uses_the_given_regions_and_lists_its_checks(table):
    stamp = table.capture().stamp_ns
    (document,) = table.ask(stamp, ["How tall is the red mug?"], [_MUG], verify=True)
    (check,) = document["checks"]
    assert check["objects"] == ["red mug"]
    measured = [one for one in document["measurements"] if one["source"] == "GEOMETRY"]
    assert measured[0]["value"] == pytest.approx(0.11, abs=0.005)
    with pytest.raises(QueryError, match="sofa"):
        table.ask(stamp, ["How tall is the red mug?"], [Region("sofa", point=(1, 1))], verify=True)


def test_a_question_that_fails_alone_has_an_error_in_place_of_its_answer(table):
    stamp = table.capture().stamp_ns
    good, bad = table.ask(stamp, ["How tall is the red mug?", "how? " * 1000])
    assert good["text"]
    assert bad["error"]["code"] == "INVALID_QUERY"


def test_a_caller_that_wants_no_more_text_cancels(table):
    with pytest.raises(QueryCanceled):
        table.ask(table.capture().stamp_ns, ["How tall is the red mug?"], on_text=lambda *_: False)


def test_callers_of_several_threads_get_the_answers_to_their_own_questions(table):
    stamp = table.capture().stamp_ns
    answers: dict[str, str] = {}

    def ask(name: str) -> None:
        (document,) = table.ask(stamp, [f"How tall is the {name}?"])
        answers[name] = document["asked"]["objects"][0]

    threads = [threading.Thread(target=ask, args=(name,)) for name in ("red mug", "blue box")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {"red mug": "red mug", "blue box": "blue box"}


def test_a_model_that_does_not_load_is_the_reason_of_every_question(tmp_path):
    backend = open_offline(*_FILES, model=LoadOptions(str(tmp_path)))
    stamp = backend.capture().stamp_ns
    assert backend.measure(stamp, [_MUG])["regions"][0]["height_m"] > 0.1
    for _ in range(2):
        with pytest.raises(CheckpointError):
            backend.ask(stamp, ["How tall is the red mug?"])


def test_a_bag_gives_the_frame_nearest_to_a_time_and_refuses_other_times():
    backend = open_offline(bag=_BAG)
    assert backend.origin.duration_s == pytest.approx(1.8)
    first, later = backend.capture(), backend.capture(0.5)
    assert (later.stamp_ns - first.stamp_ns) / 1e9 == pytest.approx(0.5, abs=0.11)
    assert later.depth is not None
    assert later.depth.shape == later.rgb.shape[:2]
    with pytest.raises(BagError, match="no image at 9 s") as refused:
        backend.capture(9.0)
    assert error_code(refused.value).name == "NO_IMAGE"
    with pytest.raises(QueryError, match="only a bag"):
        open_offline(*_FILES).capture(1.0)


def test_a_frame_that_is_not_held_is_refused_and_never_replaced():
    backend = open_offline(bag=_BAG)
    first = backend.capture().stamp_ns
    backend.measure(first, [_MUG])
    stamps = {backend.capture(0.2 * step).stamp_ns for step in range(1, HELD_FRAMES + 1)}
    assert len(stamps - {first}) == HELD_FRAMES
    with pytest.raises(FrameError, match="not held any more"):
        backend.measure(first, [_MUG])


def test_boxes_project_to_where_the_object_is_seen():
    backend = open_offline(*_FILES)
    shot = backend.capture()
    (mug,) = backend.measure(shot.stamp_ns, [_MUG])["regions"]
    assert shot.camera is not None
    ((u, v),) = project(shot.camera, np.array([mug["position_m"]]))
    x1, y1, x2, y2 = _MUG.box
    assert x1 < u < x2
    assert y1 < v < y2


def test_files_and_a_bag_together_or_neither_are_refused():
    for given in ({}, {"rgb": _FILES[0], "bag": _BAG}):
        with pytest.raises(QueryError, match="image files or a bag"):
            open_offline(**given)
