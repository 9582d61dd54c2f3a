"""Segment annotations of a mesh -> Mesh and Instances, as both ScanNet and ScanNet++ store them.

Knows `segIndices` per vertex and `segGroups` of segments. An object whose label or place is not
known stays as a surface without a label, or as a label without a place, so that nothing is called
absent that may be there. Does not know folders or images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from training.build.boxes import annotated_box, upright_box
from training.build.ply import Triangles
from training.build.reasons import Reason
from training.build.scene import Instance, Mesh, SceneError, UprightBox, Vector

_Integers = npt.NDArray[np.int64]
#: Masks store numbers of objects in 16 bits.
_MAX_OBJECT_ID = 65_534
#: An annotated box is used if each side of it is within this part in metres plus this part of the
#: side from the vertices of the object.
_BOX_TOLERANCE = (0.05, 0.1)
#: Longest side of an object, metres: at least, and at most.
_SIDE_M = (0.01, 30.0)


@dataclass(frozen=True, eq=False)
class Annotated:
    """The mesh with its objects.

    Attributes:
        unplaced: labels of objects without a place; see `Scene.unplaced`.
    """

    mesh: Mesh
    instances: tuple[Instance, ...]
    unplaced: frozenset[str]


@dataclass(frozen=True, eq=False)
class _Group:
    """One annotated object: label "" = not known; segments as positions in the sorted ids."""

    number: int
    label: str
    segments: _Integers
    vertices: int
    obb: Any


def annotate(
    surface: Triangles,
    segments: dict[str, Any],
    groups: dict[str, Any],
    where: str,
    skipped: Counter[str],
) -> Annotated:
    """The object of each triangle, and the upright box of each object.

    A vertex that several objects claim belongs to the one with the fewest vertices. A triangle
    belongs to an object if at least two of its corners do. The number of an object is objectId + 1,
    as in the source's own instance masks. Its box is the annotated oriented box if that is upright
    and fits the vertices that the object has, else the smallest upright box around them.

    Args:
        segments: {"segIndices": one per vertex}.
        groups: {"segGroups": [{"objectId", "segments", "label", "obb"?}]}.
        where: the scene, for error messages.
        skipped: objects that are left out are counted in it, as `object: REASON`.

    Raises:
        SceneError: the files are damaged, segments and vertices do not match, or no object has a
            label and a place.
    """
    vertices, faces = surface.vertices, surface.faces
    index = _segment_indices(segments, len(vertices), where)
    listed = groups.get("segGroups")
    if not isinstance(listed, list):
        raise SceneError(Reason.ANNOTATION_DAMAGED, f"{where}: segGroups is missing or no list")
    ids, of_vertex, sizes = np.unique(index, return_inverse=True, return_counts=True)
    found, unplaced = _groups(listed, ids, sizes, skipped)
    winner = _winners(found, len(ids))
    owner_of_vertex = winner[of_vertex]  # position in `found`, -1 = none
    instances = []
    numbers = np.zeros(len(found) + 1, np.int64)  # the last one: no object
    for position, group in enumerate(found):
        own = vertices[owner_of_vertex == position]
        if len(own) == 0:
            skipped[f"object: {Reason.COVERED.value}"] += 1
            unplaced.add(group.label)
            continue
        box = _box(group.obb, own)
        if not _SIDE_M[0] <= max(box.length, box.height) <= _SIDE_M[1]:
            skipped[f"object: {Reason.IMPLAUSIBLE_SIZE.value}"] += 1
            unplaced.add(group.label)
            continue
        numbers[position] = group.number
        instances.append(Instance(group.number, group.label, box))
    if not any(instance.label for instance in instances):
        raise SceneError(Reason.NO_OBJECTS, f"{where}: none of {len(listed)} is usable")
    corners = numbers[owner_of_vertex][faces]
    owner = np.where(corners[:, 0] == corners[:, 1], corners[:, 0], 0)
    owner = np.where(corners[:, 0] == corners[:, 2], corners[:, 0], owner)
    owner = np.where(corners[:, 1] == corners[:, 2], corners[:, 1], owner)
    mesh = Mesh(vertices, faces, owner, surface.colours)
    return Annotated(mesh, tuple(instances), frozenset(unplaced))


def _segment_indices(segments: dict[str, Any], expected: int, where: str) -> _Integers:
    """(V,) the segment of each vertex."""
    index = _integers(segments.get("segIndices"))
    if index is None:
        raise SceneError(
            Reason.ANNOTATION_DAMAGED, f"{where}: segIndices is missing or no list of whole numbers"
        )
    if len(index) != expected:
        raise SceneError(
            Reason.SEGMENTS_DO_NOT_FIT,
            f"{where}: {len(index)} segment indices for {expected} vertices",
        )
    return index


def _integers(values: Any) -> _Integers | None:
    """A JSON list of whole numbers as (N,) int64; None = it is something else."""
    if not isinstance(values, list):
        return None
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, OverflowError):  # lists of different lengths
        return None
    if array.ndim != 1 or (len(array) and array.dtype.kind not in "iu"):
        return None
    if array.dtype == np.uint64:  # beyond int64
        return None
    return array.astype(np.int64)


def _groups(
    listed: Sequence[Any], ids: _Integers, sizes: _Integers, skipped: Counter[str]
) -> tuple[list[_Group], set[str]]:
    """(usable objects, labels of those without a place); contradictory ones lose their label.

    Args:
        ids, sizes: the segments that vertices have, sorted, and their numbers of vertices.
    """
    read, unplaced = [], set()
    for entry in listed:
        group, reason = _group(entry, ids, sizes)
        if reason is not None:
            skipped[f"object: {reason.value}"] += 1
        if group.number and len(group.segments):
            read.append(group)
        else:
            unplaced.add(group.label)
    groups: dict[int, _Group] = {}
    for number in dict.fromkeys(group.number for group in read):
        same = [group for group in read if group.number == number]
        groups[number] = same[0]
        if len(same) > 1:
            skipped[f"object: {Reason.DUPLICATE_ID.value}"] += len(same) - 1
        if len({(group.label, group.segments.tobytes()) for group in same}) > 1:
            together = np.unique(np.concatenate([group.segments for group in same]))
            groups[number] = _Group(number, "", together, int(sizes[together].sum()), None)
    surfaces: dict[bytes, list[_Group]] = {}
    for group in groups.values():
        surfaces.setdefault(group.segments.tobytes(), []).append(group)
    usable = []
    for claims in surfaces.values():
        labels = {group.label for group in claims}
        usable.append(claims[0])
        if len(labels) > 1:
            skipped[f"object: {Reason.CONTRADICTORY_LABELS.value}"] += len(claims)
            first = claims[0]
            usable[-1] = _Group(first.number, "", first.segments, first.vertices, None)
        elif len(claims) > 1:  # the same object twice: one of them has no vertices left
            skipped[f"object: {Reason.COVERED.value}"] += len(claims) - 1
    return usable, unplaced


def _group(entry: Any, ids: _Integers, sizes: _Integers) -> tuple[_Group, Reason | None]:
    """One entry of segGroups, and why it cannot be used as it is.

    Number 0 or no segments = it has no place; label "" = it has no label.
    """
    nowhere = np.zeros(0, np.int64)
    if not isinstance(entry, dict):
        return _Group(0, "", nowhere, 0, None), Reason.ANNOTATION_DAMAGED
    raw = entry.get("label")
    label = " ".join(raw.lower().split()) if isinstance(raw, str) else ""
    if label in _NO_LABELS or len(label) > _MAX_LABEL or not any(map(str.isalpha, label)):
        label = ""
    object_id = entry.get("objectId")
    if isinstance(object_id, bool) or not isinstance(object_id, int):
        object_id = -1
    segments = _integers(entry.get("segments"))
    if not 0 <= object_id <= _MAX_OBJECT_ID or segments is None:
        return _Group(0, label, nowhere, 0, None), Reason.ANNOTATION_DAMAGED
    present = np.flatnonzero(np.isin(ids, segments))
    if len(present) == 0:
        return _Group(0, label, nowhere, 0, None), Reason.NO_VERTICES
    group = _Group(object_id + 1, label, present, int(sizes[present].sum()), entry.get("obb"))
    return group, None if label else Reason.NO_LABEL


_MAX_LABEL = 100
#: How tools write that there is no label.
_NO_LABELS = frozenset({"", "null", "none", "nan", "undefined", "n/a", "unlabeled", "unlabelled"})


def _winners(groups: Sequence[_Group], segments: int) -> _Integers:
    """(segments,) the position in `groups` of the smallest object that claims it; -1 = none."""
    winner = np.full(segments, -1, np.int64)
    largest_first = sorted(range(len(groups)), key=lambda at: (-groups[at].vertices, -at))
    for position in largest_first:
        winner[groups[position].segments] = position
    return winner


def _box(obb: Any, own: Vector) -> UprightBox:
    """The annotated box if it is upright and fits the vertices (N, 3), else one around them."""
    annotated = _annotated_box(obb)
    if annotated is None or not _fits(annotated, own):
        return upright_box(own)
    return annotated


def _fits(box: UprightBox, own: Vector) -> bool:
    """Whether each side of the box is where the vertices end."""
    cosine, sine = np.cos(box.yaw), np.sin(box.yaw)
    turn = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    inside = (own - box.centre) @ turn.T
    half = np.array([box.length, box.width, box.height]) / 2
    off = np.maximum(np.abs(inside.max(axis=0) - half), np.abs(inside.min(axis=0) + half))
    return bool((off <= _BOX_TOLERANCE[0] + _BOX_TOLERANCE[1] * 2 * half).all())


def _annotated_box(obb: Any) -> UprightBox | None:
    """The upright box of {"centroid", "axesLengths", "normalizedAxes"}; None if not usable."""
    try:
        lengths = np.array(obb["axesLengths"], np.float64)
        axes = np.array(obb["normalizedAxes"], np.float64).reshape(3, 3)
        centroid = np.array(obb["centroid"], np.float64)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    whole = np.concatenate([lengths.ravel(), centroid.ravel(), axes.ravel()])
    if lengths.shape != (3,) or centroid.shape != (3,) or not np.isfinite(whole).all():
        return None
    orthonormal = np.abs(axes @ axes.T - np.eye(3)).max() < 0.01
    if (lengths <= 0).any() or not orthonormal:
        return None
    return annotated_box(centroid, lengths, axes)
