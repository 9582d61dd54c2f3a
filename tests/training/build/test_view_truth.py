"""A view whose depth does not fit the mesh from its pose is found; a sensor's errors are not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sdvlm_core.frame import CameraIntrinsics
from tests import blocks
from tests.training.scans import COLOR_K, COLOR_SIZE, mesh
from training.build.graph import Rasterizer
from training.build.scene import Mesh, SceneError, View
from training.build.view_truth import check_view
from training.simulate.stereo_sensor import FAMILIES, draw_camera, read_stereo_depth

K = CameraIntrinsics(*(COLOR_K[at] for at in ((0, 0), (1, 1), (0, 2), (1, 2))), *COLOR_SIZE)
POSE = blocks.POSES[2]
RGB, _DEPTH = blocks.picture(POSE, blocks.pinhole_rays(COLOR_K, *COLOR_SIZE))
#: What a sensor of 9 m range reads.
EXACT = np.where(_DEPTH < 9, np.round(_DEPTH * 1000), 0).astype(np.uint16)


@pytest.fixture(scope="module")
def rasterizer() -> Rasterizer:
    vertices, faces, owner = mesh()
    return Rasterizer(Mesh(vertices, faces, owner[faces[:, 0]]))


def _view(depth=EXACT, pose=POSE, mask=None) -> View:
    return View("v", RGB, None if depth is None else depth.astype(np.uint16), K, pose, mask)


def _moved(x=0.0, y=0.0, z=0.0, axis=(0, 0, 1), degrees=0.0) -> np.ndarray:
    step = np.eye(4)
    step[:3, :3] = cv2.Rodrigues(np.radians(degrees) * np.array(axis, float))[0]
    step[:3, 3] = x, y, z
    return POSE @ step


def _reason(view: View, rasterizer: Rasterizer) -> str:
    with pytest.raises(SceneError) as error:
        check_view(view, rasterizer)
    return error.value.reason


def test_exact_depth_agrees(rasterizer):
    check_view(_view(), rasterizer)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_errors_of_real_sensors_agree(rasterizer, family):
    rng = np.random.default_rng(21)
    exact = np.where(EXACT > 0, EXACT / 1000, 20).astype(np.float32)
    for _ in range(3):
        camera = draw_camera(rng, family)
        depth = read_stereo_depth(exact, RGB, np.zeros_like(exact), K.fx, camera, rng)
        check_view(_view(depth), rasterizer)


def test_an_object_that_was_moved_since_the_scan_agrees(rasterizer):
    vertices, faces, owner = mesh(
        [b for b in blocks.WORLD if b.label not in ("lamp", "suitcase", "cup")]
    )
    check_view(_view(), Rasterizer(Mesh(vertices, faces, owner[faces[:, 0]])))


def test_small_holes_of_the_mesh_agree(rasterizer):
    vertices, faces, owner = mesh()
    kept = faces[np.random.default_rng(3).random(len(faces)) > 0.1]
    check_view(_view(), Rasterizer(Mesh(vertices, kept, owner[kept[:, 0]])))


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
def test_a_wrong_pose_is_found(rasterizer, pose):
    assert _reason(_view(pose=pose), rasterizer) == "depth disagrees with the mesh"


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
def test_wrong_depth_is_found(rasterizer, depth):
    assert _reason(_view(depth), rasterizer) == "depth disagrees with the mesh"


def test_depth_without_readings_is_found(rasterizer):
    assert _reason(_view(np.zeros_like(EXACT)), rasterizer) == "no depth reading"


@pytest.mark.parametrize("depth", [EXACT, None])
def test_a_pose_that_looks_away_from_the_mesh_is_found(rasterizer, depth):
    away = _moved(axis=(1, 0, 0), degrees=80)
    assert _reason(_view(depth, away), rasterizer) == "off the mesh"


def test_masks_of_another_view_are_found(rasterizer):
    owner, _ = rasterizer.cast(K, POSE, 1)
    check_view(_view(mask=owner.astype(np.int32)), rasterizer)
    turned = owner[:, ::-1].astype(np.int32)
    assert _reason(_view(mask=turned), rasterizer) == "mask disagrees with the mesh"


def test_the_error_names_the_view_and_both_values(rasterizer):
    with pytest.raises(SceneError, match=r"v: 0% of the depth readings agree .* at least 80%"):
        check_view(_view(EXACT // 2), rasterizer)
