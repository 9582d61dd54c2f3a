"""The files of a scan: whatever bytes they hold, reading gives what they state, or a reason."""

from __future__ import annotations

import json
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.training import scans
from training.build.bounded_files import read_colour, read_depth, read_matrix, read_object
from training.build.camera_checks import pinhole, rigid_pose
from training.build.ply import read_mesh
from training.build.reasons import Reason
from training.build.scene import SceneError
from training.build.sens import read_frames

REASONS = {reason.value for reason in Reason}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """One folder for all examples of a property."""
    return tmp_path_factory.mktemp("files")


def _reason(read, *arguments) -> str:
    """The reason for which nothing is read; "" = something is."""
    try:
        read(*arguments)
    except SceneError as error:
        return error.reason
    return ""


def _read_json(path: Path) -> dict:
    return read_object(path, Reason.ANNOTATION_DAMAGED)


# PLY.

POINTS = np.array([[0, 0, 0], [4, 0, 0], [4, 3, 0], [0, 3, 0], [0, 0, 2.5]])
TRIANGLES = np.array([[0, 1, 2], [0, 2, 3], [0, 1, 4]])


def _ply(
    points=POINTS, triangles=TRIANGLES, order="<", stated="binary_little_endian", real="float",
    count="uchar", index="int", vertices=None, faces=None,
) -> bytes:  # fmt: skip
    codes = {"float": "f4", "double": "f8", "int": "i4", "uint": "u4", "uchar": "u1", "short": "i2"}
    header = (
        f"ply\nformat {stated} 1.0\ncomment of a test\n"
        f"element vertex {len(points) if vertices is None else vertices}\n"
        f"property {real} x\nproperty {real} y\nproperty {real} z\n"
        f"element face {len(triangles) if faces is None else faces}\n"
        f"property list {count} {index} vertex_indices\nend_header\n"
    )
    if stated == "ascii":
        lines = [" ".join(map(str, point)) for point in points]
        lines += ["3 " + " ".join(map(str, triangle)) for triangle in triangles]
        return (header + "\n".join(lines) + "\n").encode()
    body = np.asarray(points).astype(order + codes[real]).tobytes()
    rows = np.zeros(len(triangles), [("n", order + codes[count]), ("i", order + codes[index], 3)])
    rows["n"], rows["i"] = 3, triangles
    return header.encode() + body + rows.tobytes()


@pytest.mark.parametrize(
    "form",
    [
        {}, {"stated": "ascii"}, {"stated": "binary_big_endian", "order": ">"},
        {"real": "double"}, {"index": "uint"}, {"count": "int"}, {"index": "short"},
    ],
)  # fmt: skip
def test_every_form_of_ply_gives_the_same_mesh(tmp_path, form):
    (tmp_path / "a.ply").write_bytes(_ply(**form))
    mesh = read_mesh(tmp_path / "a.ply")
    assert mesh.vertices == pytest.approx(POINTS)
    assert mesh.faces.tolist() == TRIANGLES.tolist()
    assert mesh.colours is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (_ply(order=">"), "mesh damaged"),
        (_ply(stated="binary_big_endian"), "mesh damaged"),
        (_ply(stated="binary_middle_endian"), "mesh damaged"),
        (_ply(real="int"), "mesh damaged"),
        (_ply(index="float"), "mesh damaged"),
        (_ply(count="float"), "mesh damaged"),
        (_ply(vertices=10**6), "mesh damaged"),
        (_ply(vertices=10**12), "file too large"),
        (_ply(faces=2**63), "file too large"),
        (_ply(faces=10**6), "mesh damaged"),
        (_ply(vertices=-5), "mesh damaged"),
        (_ply(vertices="many"), "mesh damaged"),
        (_ply(stated="ascii", faces=10**7), "mesh damaged"),
        (_ply(triangles=TRIANGLES + 3), "mesh damaged"),
        (_ply(triangles=TRIANGLES - 1), "mesh damaged"),
        (_ply(triangles=TRIANGLES[:0]), "mesh damaged"),
        (_ply(POINTS * np.nan), "mesh damaged"),
        (_ply(np.where(POINTS == 4, np.inf, POINTS)), "mesh damaged"),
        (_ply(POINTS * 1000), "not in metres"),
        (_ply(POINTS * 100), "not in metres"),
        (_ply(POINTS / 1000), "not in metres"),
        (_ply()[:-1], "mesh damaged"),
        (b"", "mesh damaged"),
        (b"ply\n" * 50_000, "mesh damaged"),
        (b"ply\nformat ascii 1.0\nend_header\n", "mesh damaged"),
        (b"ply\nproperty float x\nend_header\n", "mesh damaged"),
        (b"solid stl\n", "mesh damaged"),
    ],
)
def test_a_malformed_ply_is_a_reason(tmp_path, content, reason):
    (tmp_path / "a.ply").write_bytes(content)
    assert _reason(read_mesh, tmp_path / "a.ply") == reason


def test_a_folder_in_place_of_a_file_is_a_reason(tmp_path):
    for read in (read_mesh, _read_json, read_matrix, read_colour, read_depth):
        assert "damaged" in _reason(read, tmp_path)
        assert _reason(read, tmp_path / "nowhere") == "missing file"


def test_counts_without_content_take_no_memory(tmp_path):
    """Headers of a hundred bytes that state gigabytes."""
    (tmp_path / "a.ply").write_bytes(_ply(vertices=39_000_000, faces=39_000_000))
    sens = _sens(sizes=(8000, 8000, 8000, 8000))
    sens += struct.pack("<16f4Q", *np.eye(4).ravel(), 0, 0, 1 << 27, 1 << 27)
    (tmp_path / "a.sens").write_bytes(sens)
    tracemalloc.start()
    try:
        assert _reason(read_mesh, tmp_path / "a.ply") == "mesh damaged"
        assert list(read_frames(tmp_path / "a.sens", lambda pose: True, lambda error: None)) == []
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def _damaged(whole: bytes):
    """The bytes of a file, cut, with bytes changed, or with some inserted."""
    place = st.integers(0, len(whole) - 1)
    return st.one_of(
        place.map(lambda at: whole[:at]),
        st.tuples(place, st.binary(min_size=1, max_size=8)).map(
            lambda change: whole[: change[0]] + change[1] + whole[change[0] + len(change[1]) :]
        ),
        st.tuples(place, st.binary(min_size=1, max_size=8)).map(
            lambda change: whole[: change[0]] + change[1] + whole[change[0] :]
        ),
    )


@given(st.one_of(_damaged(_ply()), _damaged(_ply(stated="ascii")), st.binary(max_size=200)))
def test_a_damaged_ply_gives_triangles_of_its_vertices_or_a_reason(folder, content):
    path = folder / "damaged.ply"
    path.write_bytes(content)
    try:
        mesh = read_mesh(path)
    except SceneError as error:
        reason = error.reason
    else:
        reason = ""
        assert np.isfinite(mesh.vertices).all()
        assert 0 <= mesh.faces.min() <= mesh.faces.max() < len(mesh.vertices)
    assert reason in REASONS | {""}


# The .sens file.


def _sens(frames=2, sizes=(8, 6, 8, 6), color=0, depth=1) -> bytes:
    matrices = (scans.COLOR_K, np.eye(4), scans.DEPTH_K, np.eye(4))
    packed = b"".join(struct.pack("<16f", *matrix.ravel()) for matrix in matrices)
    start = struct.pack("<IQ", 4, 6) + b"sensor" + packed
    return start + struct.pack("<2i4IfQ", color, depth, *sizes, 1000.0, frames)


def _recording(frames: int = 2) -> bytes:
    rgb, plane = bytes(range(144)), zlib.compress(bytes(96))
    frame = struct.pack("<16f4Q", *np.eye(4).ravel(), 0, 0, len(rgb), len(plane)) + rgb + plane
    return _sens(frames) + frames * frame


@given(st.one_of(_damaged(_recording()), st.binary(max_size=600)))
def test_a_damaged_recording_gives_frames_of_its_sizes_or_reasons(folder, content):
    path = folder / "damaged.sens"
    path.write_bytes(content)
    skipped: list[SceneError] = []
    frames = []

    def read():
        frames.extend(read_frames(path, lambda pose: True, skipped.append))

    assert _reason(read) in REASONS | {""}
    assert {error.reason for error in skipped} <= REASONS
    for frame in frames:
        assert frame.rgb.ndim == 3
        assert frame.depth.dtype == np.uint16
        assert frame.camera_to_world[:3, :3] == pytest.approx(np.eye(3), abs=0.01)


# Images, matrices and JSON.


@given(st.binary(max_size=300))
def test_whatever_a_file_holds_it_is_read_or_a_reason(folder, content):
    path = folder / "any"
    path.write_bytes(content)
    for read in (_read_json, read_matrix, read_colour, read_depth, read_mesh):
        assert _reason(read, path) in REASONS | {""}


def test_a_key_with_two_values_has_none(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": 1, "b": {"c": 1, "c": 2}, "a": 1, "d": [1], "d": [2]}')
    assert _read_json(path) == {"a": 1, "b": {"c": None}, "d": None}


def test_a_file_above_the_limit_is_not_read(tmp_path):
    path = tmp_path / "a.txt"
    with path.open("wb") as file:
        file.truncate(1 << 33)  # sparse
    assert _reason(read_matrix, path) == "file too large"
    assert _reason(_read_json, path) == "file too large"
    assert _reason(read_depth, path) == "file too large"


def test_deeply_nested_json_is_a_reason(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": ' * 50_000)
    assert _reason(_read_json, path) == "annotation damaged"
    path.write_text(json.dumps([1]))
    assert _reason(_read_json, path) == "annotation damaged"


# Cameras.

_NUMBERS = st.floats(width=32) | st.sampled_from([0.0, 1.0, -1.0])


@given(arrays(np.float64, (4, 4), elements=_NUMBERS))
def test_every_accepted_pose_is_a_rigid_motion(matrix):
    reason = _reason(rigid_pose, matrix, "v")
    rotation = matrix[:3, :3]
    if not np.isfinite(matrix).all():
        assert reason == "no pose"
    elif not reason:
        assert np.linalg.det(rotation) == pytest.approx(1, abs=0.02)
        assert rotation @ rotation.T == pytest.approx(np.eye(3), abs=0.02)
    else:
        assert reason == "pose not rigid"


@given(arrays(np.float64, (3, 3), elements=_NUMBERS), st.integers(1, 4000), st.integers(1, 4000))
def test_every_matrix_of_intrinsics_is_a_camera_or_a_reason(matrix, width, height):
    reason = _reason(pinhole, matrix, (width, height), "v")
    assert reason in ("", "bad intrinsics", "intrinsics of another size")


@given(st.floats(300, 3000), st.floats(-0.05, 0.05), st.floats(-0.05, 0.05))
def test_the_intrinsics_of_real_cameras_are_accepted(focal, dx, dy):
    matrix = np.array([[focal, 0, (0.5 + dx) * 1296], [0, focal, (0.5 + dy) * 968], [0, 0, 1]])
    assert pinhole(matrix, (1296, 968), "v").fx == focal
