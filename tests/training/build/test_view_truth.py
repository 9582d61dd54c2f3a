"""A view whose depth does not fit the mesh from its pose is found; a sensor's errors are not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import trimesh

from sdvlm_core.frame import CameraIntrinsics
from tests import blocks
from tests.training.scans import COLOR_K, COLOR_SIZE, mesh
from training.build.graph import Rasterizer
from training.build.scene import Mesh, SceneError, View
from training.build.view_truth import ViewCheck
from training.simulate.stereo_sensor import FAMILIES, draw_camera, read_stereo_depth

K = CameraIntrinsics(*(COLOR_K[at] for at in ((0, 0), (1, 1), (0, 2), (1, 2))), *COLOR_SIZE)
POSE = blocks.POSES[2]
RGB, _DEPTH = blocks.picture(POSE, blocks.pinhole_rays(COLOR_K, *COLOR_SIZE))
#: What a sensor of 9 m range reads.
EXACT = np.where(_DEPTH < 9, np.round(_DEPTH * 1000), 0).astype(np.uint16)


def _check_of(vertices, faces, owner, colours=None) -> ViewCheck:
    scanned = Mesh(vertices, faces, owner[faces[:, 0]], colours)
    return ViewCheck(scanned, Rasterizer(scanned))


@pytest.fixture(scope="module")
def check() -> ViewCheck:
    return _check_of(*mesh())


def _view(depth=EXACT, pose=POSE, mask=None) -> View:
    return View("v", RGB, None if depth is None else depth.astype(np.uint16), K, pose, mask)


def _moved(x=0.0, y=0.0, z=0.0, axis=(0, 0, 1), degrees=0.0) -> np.ndarray:
    step = np.eye(4)
    step[:3, :3] = cv2.Rodrigues(np.radians(degrees) * np.array(axis, float))[0]
    step[:3, 3] = x, y, z
    return POSE @ step


def _reason(check: ViewCheck, view: View) -> str:
    with pytest.raises(SceneError) as error:
        check(view)
    return error.value.reason


def test_exact_depth_agrees(check):
    check(_view())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_errors_of_real_sensors_agree(check, family):
    rng = np.random.default_rng(21)
    exact = np.where(EXACT > 0, EXACT / 1000, 20).astype(np.float32)
    for _ in range(3):
        camera = draw_camera(rng, family)
        depth = read_stereo_depth(exact, RGB, np.zeros_like(exact), K.fx, camera, rng)
        check(_view(depth))


def test_objects_that_were_moved_since_the_scan_agree():
    vertices, faces, owner = mesh(
        [b for b in blocks.WORLD if b.label not in ("lamp", "suitcase", "cup")]
    )
    _check_of(vertices, faces, owner)(_view())


def test_small_holes_of_the_mesh_agree():
    vertices, faces, owner = mesh()
    kept = faces[np.random.default_rng(3).random(len(faces)) > 0.1]
    _check_of(vertices, kept, owner)(_view())


@pytest.mark.parametrize(
    "pose",
    [
        blocks.POSES[0],
        _moved(x=0.2),
        _moved(y=0.2),
        _moved(z=-0.3),
        _moved(axis=(0, 1, 0), degrees=3),
        _moved(axis=(0, 1, 0), degrees=10),
        _moved(axis=(1, 0, 0), degrees=5),
        _moved(axis=(0, 0, 1), degrees=15),
    ],
)
def test_a_wrong_pose_is_found(check, pose):
    assert _reason(check, _view(pose=pose)) == "depth disagrees with the mesh"


@pytest.mark.parametrize(
    "depth",
    [
        EXACT * 0.95,
        EXACT * 1.1,
        EXACT * 0.1,
        EXACT // 5,
        EXACT + 150 * (EXACT > 0),
        np.roll(EXACT, 24, axis=1),
        np.roll(EXACT, -24, axis=1),
        np.roll(EXACT, 24, axis=0),
        EXACT[:, ::-1],
        np.full_like(EXACT, 2000),
    ],
)
def test_wrong_depth_is_found(check, depth):
    assert _reason(check, _view(depth)) == "depth disagrees with the mesh"


def test_depth_without_readings_is_found(check):
    assert _reason(check, _view(np.zeros_like(EXACT))) == "no depth reading"


@pytest.mark.parametrize("depth", [EXACT, None])
def test_a_pose_that_looks_away_from_the_mesh_is_found(check, depth):
    away = _moved(axis=(1, 0, 0), degrees=80)
    assert _reason(check, _view(depth, away)) == "off the mesh"


def test_masks_of_another_view_are_found(check):
    vertices, faces, of_vertex = mesh()
    scanned = Mesh(vertices, faces, of_vertex[faces[:, 0]])
    owner, _ = Rasterizer(scanned).cast(K, POSE, 1)
    check(_view(mask=owner.astype(np.int32)))
    turned = owner[:, ::-1].astype(np.int32)
    assert _reason(check, _view(mask=turned)) == "mask disagrees with the mesh"


def test_the_error_names_the_view_and_both_values(check):
    with pytest.raises(SceneError, match=r"v: 0% of the depth readings agree .* at least 80%"):
        check(_view(EXACT // 2))


# Views without depth: by colour.


def _coloured(gain=1.0) -> ViewCheck:
    """The mesh of the room with a vertex every few centimetres, in the colours of its blocks."""
    vertices, faces, owner = mesh()
    palette = np.array([blocks.FLOOR, *(block.rgb for block in blocks.WORLD)], float)
    colours = palette[owner]
    while len(vertices) < 100_000:
        vertices, faces, owner, colours = _finer(vertices, faces, owner, colours)
    return _check_of(vertices, faces, owner, np.clip(colours * gain, 0, 255).astype(np.uint8))


def _finer(vertices, faces, owner, colours):
    attributes = {"owner": owner[:, None].astype(float), "colours": colours}
    vertices, faces, finer = trimesh.remesh.subdivide(vertices, faces, vertex_attributes=attributes)
    return vertices, faces, finer["owner"][:, 0].round().astype(np.int64), finer["colours"]


@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_a_photo_at_its_pose_agrees_with_the_colours_of_the_mesh(gain):
    _coloured(gain)(_view(depth=None))


def test_a_photo_at_a_wrong_pose_disagrees_with_the_colours_of_the_mesh():
    check = _coloured()
    wrong = [
        _moved(axis=(0, 0, 1), degrees=90),
        _moved(axis=(0, 1, 0), degrees=15),
        _moved(axis=(1, 0, 0), degrees=-15),
        _moved(x=1.0),
    ]
    for pose in wrong:
        assert _reason(check, _view(None, pose)) == "colour disagrees with the mesh"


def test_without_colours_of_the_mesh_a_photo_is_not_compared(check):
    check(_view(None, _moved(x=0.5)))
