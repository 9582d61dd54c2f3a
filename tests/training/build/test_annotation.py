"""Annotations: every surface has one object, and what is not known is never called absent."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import trimesh
from hypothesis import event, given
from hypothesis import strategies as st

from training.build.annotation import annotate
from training.build.ply import Triangles
from training.build.scene import SceneError

SEGMENTS = 4


def _mesh() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes 1 m apart along x, sides 0.4, 0.3, 0.2 m; the number of each vertex's box."""
    vertices, faces, segment = [], [], []
    for number in range(SEGMENTS):
        box = trimesh.creation.box((0.4, 0.3, 0.2)).subdivide()
        faces.append(box.faces + sum(map(len, vertices)))
        vertices.append(np.add(box.vertices, (number, 0, 0.1)))
        segment.append(np.full(len(box.vertices), number))
    return np.concatenate(vertices), np.concatenate(faces), np.concatenate(segment)


VERTICES, FACES, SEGMENT = _mesh()
SURFACE = Triangles(VERTICES, FACES, None)


def _group(object_id, label, segments, **more) -> dict:
    return {"objectId": object_id, "label": label, "segments": segments} | more


def _annotate(groups, segments=None):
    skipped: Counter[str] = Counter()
    index = SEGMENT.tolist() if segments is None else segments
    found = annotate(SURFACE, {"segIndices": index}, {"segGroups": groups}, "scene", skipped)
    return found, {instance.number: instance for instance in found.instances}, skipped


CHAIR = _group(0, "chair", [0])


def test_a_vertex_of_two_objects_belongs_to_the_smaller_one_and_boxes_follow():
    for groups in ([_group(0, "table", [0, 1]), _group(1, "lamp", [1])],
                   [_group(1, "lamp", [1]), _group(0, "table", [0, 1])]):  # fmt: skip
        found, of, skipped = _annotate(groups)
        assert of[1].box.length == pytest.approx(0.4)  # not the 1.4 m of both segments
        assert of[1].box.centre[0] == pytest.approx(0.0)
        assert of[2].box.centre[0] == pytest.approx(1.0)
        assert set(found.mesh.owner[SEGMENT[FACES[:, 0]] == 1]) == {2}
        assert not skipped


def test_the_annotated_box_is_not_used_if_the_object_lost_vertices():
    obb = {"centroid": [0.5, 0, 0.1], "axesLengths": [1.4, 0.3, 0.2],
           "normalizedAxes": np.eye(3).ravel().tolist()}  # fmt: skip
    _, of, _ = _annotate([_group(0, "table", [0, 1], obb=obb)])
    assert of[1].box.length == pytest.approx(1.4)
    _, of, _ = _annotate([_group(0, "table", [0, 1], obb=obb), _group(1, "lamp", [1])])
    assert of[1].box.length == pytest.approx(0.4)


@pytest.mark.parametrize(
    "obb",
    [
        None, "box", {}, {"centroid": [0, 0, 0.1]},
        {"centroid": [0, 0, 100], "axesLengths": [400, 300, 200], "normalizedAxes": [1, 0, 0] * 3},
        {"centroid": [0, 0, 0.1], "axesLengths": [0, 0, 0],
         "normalizedAxes": np.eye(3).ravel().tolist()},
        {"centroid": [0, 0, 0.1], "axesLengths": [float("nan")] * 3,
         "normalizedAxes": np.eye(3).ravel().tolist()},
        {"centroid": [0, 0, 0.1], "axesLengths": [4.0, 3.0, 2.0],
         "normalizedAxes": np.eye(3).ravel().tolist()},
    ],
)  # fmt: skip
def test_an_annotated_box_that_does_not_fit_the_vertices_is_computed_again(obb):
    _, of, _ = _annotate([_group(0, "chair", [0], obb=obb)])
    box = of[1].box
    assert [box.length, box.width, box.height] == pytest.approx([0.4, 0.3, 0.2])


@pytest.mark.parametrize(
    "label", ["", "  ", None, 7, ["chair"], {}, "null", "None", "-", "123", "x" * 999]
)
def test_an_object_without_a_label_is_a_surface_without_a_label(label):
    _, of, skipped = _annotate([CHAIR, _group(1, label, [1])])
    assert of[2].label == ""
    assert skipped == {"object: no label": 1}


def test_objects_with_one_id_are_one_surface_without_a_label():
    found, of, skipped = _annotate([CHAIR, _group(1, "desk", [1]), _group(1, "bed", [2])])
    assert of[2].label == ""
    assert set(found.mesh.owner[np.isin(SEGMENT[FACES[:, 0]], [1, 2])]) == {2}
    assert skipped == {"object: duplicate id": 1}


def test_an_object_that_is_listed_twice_is_one_object():
    _, of, skipped = _annotate([CHAIR, CHAIR])
    assert [of[1].label] == ["chair"]
    assert skipped == {"object: duplicate id": 1}


def test_one_surface_with_two_labels_has_none():
    _, of, skipped = _annotate([CHAIR, _group(1, "desk", [1]), _group(2, "bed", [1])])
    assert {instance.label for instance in of.values()} == {"chair", ""}
    assert skipped == {"object: contradictory labels": 2}


def test_the_label_of_an_object_without_a_place_is_kept():
    found, of, skipped = _annotate(
        [CHAIR, _group(1, "desk", [99]), _group(-1, "bed", [1]), _group(3, "sofa", "x"),
         _group(4, "shelf", [2, 3]), _group(5, "box", [2]), _group(6, "bag", [3]), "junk"]
    )  # fmt: skip
    assert found.unplaced == {"desk", "bed", "sofa", "shelf", ""}
    assert {instance.label for instance in of.values()} == {"chair", "box", "bag"}
    assert skipped == {
        "object: no vertices": 1, "object: annotation damaged": 3,
        "object: covered by other objects": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("segments", "groups", "reason"),
    [
        ({"segIndices": [0] * 5}, [CHAIR], "segments do not fit"),
        ({"segIndices": []}, [CHAIR], "segments do not fit"),
        ({}, [CHAIR], "annotation damaged"),
        ({"segIndices": None}, [CHAIR], "annotation damaged"),
        ({"segIndices": [0.5] * len(VERTICES)}, [CHAIR], "annotation damaged"),
        ({"segIndices": ["0"] * len(VERTICES)}, [CHAIR], "annotation damaged"),
        ({"segIndices": [True] * len(VERTICES)}, [CHAIR], "annotation damaged"),
        ({"segIndices": [[0]] * len(VERTICES)}, [CHAIR], "annotation damaged"),
        ({"segIndices": [10**30] * len(VERTICES)}, [CHAIR], "annotation damaged"),
        ({"segIndices": SEGMENT.tolist()}, None, "annotation damaged"),
        ({"segIndices": SEGMENT.tolist()}, {"0": CHAIR}, "annotation damaged"),
        ({"segIndices": SEGMENT.tolist()}, [], "no objects"),
        ({"segIndices": SEGMENT.tolist()}, [_group(0, None, [0])], "no objects"),
    ],
)
def test_a_malformed_annotation_is_a_reason(segments, groups, reason):
    with pytest.raises(SceneError) as error:
        annotate(SURFACE, segments, {"segGroups": groups}, "scene", Counter())
    assert error.value.reason == reason


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
_GROUPS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "objectId": st.integers(-2, 5) | _JSON,
            "label": st.sampled_from(["chair", "desk", ""]) | _JSON,
            "segments": st.lists(st.integers(-1, SEGMENTS), max_size=4) | _JSON,
            "obb": _JSON,
        },
    )
    | _JSON,
    max_size=6,
)


@given(_GROUPS)
def test_whatever_is_annotated_every_surface_has_one_object_and_every_label_a_place_or_none(groups):
    skipped: Counter[str] = Counter()
    try:
        found = annotate(
            SURFACE, {"segIndices": SEGMENT.tolist()}, {"segGroups": groups}, "", skipped
        )
    except SceneError as error:
        reason = error.reason
    else:
        reason = ""
    if reason:
        event(reason)
        assert reason == "no objects"
        return
    numbers = [instance.number for instance in found.instances]
    assert len(set(numbers)) == len(numbers)
    assert set(np.unique(found.mesh.owner)) <= {0, *numbers}
    for instance in found.instances:
        own = VERTICES[np.unique(FACES[found.mesh.owner == instance.number])]
        assert instance.box.height == pytest.approx(np.ptp(own[:, 2]))
        assert instance.box.length >= instance.box.width
    labels = {
        " ".join(g["label"].lower().split())
        for g in groups
        if isinstance(g, dict) and isinstance(g.get("label"), str)
    }
    placed = {instance.label for instance in found.instances}
    for label in labels & {"chair", "desk"}:  # placed, or not deniable
        assert label in placed | found.unplaced or {""} & (placed | found.unplaced)
