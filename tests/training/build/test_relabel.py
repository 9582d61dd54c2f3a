"""Ambiguous objects get names that a model chooses."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from tests.training.build.chat_endpoint import RGB, endpoint_of, object_entry
from training.build.endpoint import Usage
from training.build.questions import named_view
from training.build.relabel import relabel

TABLES = (
    object_entry(1, "table"),
    object_entry(2, "table"),
    object_entry(3, "coffee table", colour="red", name="red coffee table", unnamed=""),
    object_entry(4, "table", colour="blue", unnamed="occluded"),
    object_entry(5, "lamp", name="lamp", unnamed=""),
)


def _named(*names: str) -> Callable[[str], str]:
    """A model that answers these names in turn."""
    waiting = list(names)
    return lambda _: json.dumps({"name": waiting.pop(0)})


def test_ambiguous_objects_get_names_and_nothing_else_changes(tmp_path, server):
    server.answer, server.misbehave = _named("white table", "wooden table"), ["429", "stall"]
    entries, before, dropped = list(TABLES), copy.deepcopy(TABLES), Counter()
    endpoint = endpoint_of(server, tmp_path, retries=3)
    found = relabel(entries, RGB, endpoint, dropped)
    assert [entry["name"] for entry in found] == [
        *("white table", "wooden table", "red coffee table", "", "lamp")
    ]
    assert [entry["unnamed"] for entry in found] == ["", "", "", "occluded", ""]
    assert tuple(entries) == before
    assert not dropped
    assert endpoint.usage.requests == 4
    again = endpoint_of(server, tmp_path)
    assert relabel(entries, RGB, again, dropped) == found
    assert again.usage == Usage(cached=2)
    assert [name for name, _ in named_view(found, 50, ()).named] == [
        *("white table", "wooden table", "red coffee table", "lamp")
    ]


def test_the_model_sees_the_object_the_whole_image_and_the_other_labels(tmp_path, server):
    server.answer = _named("white table", "wooden table")
    relabel(TABLES, RGB, endpoint_of(server, tmp_path), Counter())
    assert "annotated as: table." in server.prompts()[0]
    assert "annotated as: table, coffee table, table." in server.prompts()[0]
    assert "$" not in server.prompts()[0]
    crop, whole = server.pictures()[0]
    assert crop.shape == (30, 30, 3)  # 20 x 20 and a quarter on each side
    assert np.abs(crop.astype(int) - RGB[25:55, 15:45]).mean() < 12  # JPEG
    assert whole.shape == RGB.shape
    red = whole[30, 20:40].astype(int)
    assert (red[:, 0] - red[:, 1:].max(axis=1)).mean() > 80


def test_the_crop_of_an_object_stays_within_the_image(tmp_path, server):
    server.answer = _named("white table")
    entry = object_entry(1, "table", box_xyxy=[0, 0, 160, 40])
    (found,) = relabel([entry], RGB, endpoint_of(server, tmp_path), Counter())
    assert found["name"] == "white table"
    assert server.pictures()[0][0].shape == (50, 160, 3)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("white table", "malformed"),
        ('{"name": 3}', "malformed"),
        ('{"label": "white table"}', "malformed"),
        ('[{"name": "white table"}]', "malformed"),
        ('{"name": "white table"', "malformed"),
        ('{"name": ""}', "no name"),
        ('{"name": "White table"}', "not a name"),
        ('{"name": "the white table"}', "not a name"),
        ('{"name": "white, wooden table"}', "not a name"),
        ('{"name": "white  table"}', "not a name"),
        ('{"name": "very big old white wooden table"}', "not a name"),
        ('{"name": "two metre table"}', "not a name"),
        ('{"name": "white table\\n"}', "not a name"),
        ('{"name": "' + "x" * 70 + ' table"}', "not a name"),
        ('{"name": "table"}', "nothing added"),
        ('{"name": "white desk"}', "another thing"),
        ('{"name": "turntable"}', "another thing"),
        ('{"name": "coffee table"}', "taken"),
        ('{"name": "red coffee table"}', "taken"),
        ('{"name": "low red coffee table"}', "taken"),
        ('{"name": "blue table"}', "taken"),  # the one that has no name of its own is blue
    ],
)
def test_an_unsuitable_name_is_refused_and_counted(tmp_path, server, answer, reason):
    server.answer = lambda _: answer
    dropped: Counter[str] = Counter()
    found = relabel((TABLES[0], *TABLES[2:]), RGB, endpoint_of(server, tmp_path), dropped)
    assert (found[0]["name"], found[0]["unnamed"]) == ("", "ambiguous")
    assert dropped == {f"relabel: {reason}": 1}


@pytest.mark.parametrize("names", [("white table",) * 2, ("white table", "round white table")])
def test_two_objects_with_the_same_name_keep_none(tmp_path, server, names):
    server.answer = _named(*names)
    dropped: Counter[str] = Counter()
    found = relabel(TABLES, RGB, endpoint_of(server, tmp_path), dropped)
    assert [entry["name"] for entry in found] == [entry["name"] for entry in TABLES]
    assert dropped == {"relabel: same name": 2}


def test_one_failed_request_loses_only_one_name(tmp_path, server):
    server.answer, server.misbehave = _named("wooden table"), ["garbage"]
    dropped: Counter[str] = Counter()
    found = relabel(TABLES, RGB, endpoint_of(server, tmp_path), dropped)
    assert [entry["name"] for entry in found[:2]] == ["", "wooden table"]
    assert dropped == {"relabel: endpoint": 1}
