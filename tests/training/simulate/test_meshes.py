"""Meshes of an installed package: hulls of true size, placed, measured and rendered like others."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip(
    "training.simulate.renderer", reason="the simulator needs mujoco (requirements/train.txt)"
)

import trimesh

from sdvlm_core.frame import CameraIntrinsics
from training.simulate.gaps import signed_gaps
from training.simulate.geometry_frames import geometry_renderer
from training.simulate.geometry_groups import draw_finish
from training.simulate.meshes import PACKAGE, package_meshes
from training.simulate.placement import set_on, shifted, stand
from training.simulate.renderer import Light
from training.simulate.shapes import cuboid, mesh_shapes
from training.simulate.silhouette import silhouette_pixels
from training.simulate.truth import upright_box

FINISH = draw_finish(np.random.default_rng(0))
#: No other test renders at this width: the renderer of a width is kept with its meshes.
WIDTH = 96


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of that name with a carton (off its origin) and a ring, which is not convex."""
    folder = tmp_path / PACKAGE / "models/assets/objects/meshes"
    folder.mkdir(parents=True)
    (tmp_path / PACKAGE / "__init__.py").touch()
    carton = trimesh.creation.box(extents=(0.06, 0.10, 0.16))
    carton.apply_translation((0.3, 0.0, -0.2))
    carton.export(folder / "carton.stl")
    trimesh.creation.annulus(0.02, 0.05, 0.05).export(folder / "ring.stl")
    monkeypatch.syspath_prepend(str(tmp_path))
    package_meshes.cache_clear()
    yield package_meshes()
    package_meshes.cache_clear()


@pytest.fixture
def carton(package):
    return stand(mesh_shapes()[0], FINISH, (0.0, 0.0), 0.4)


def test_convex_meshes_are_used_and_others_are_named(package):
    assert list(package.meshes) == ["carton"]
    assert package.left_out == ("ring",)


def test_a_mesh_stands_with_its_true_sizes(carton):
    box = upright_box(carton.solids())
    assert (box.length, box.width, box.height) == pytest.approx((0.10, 0.06, 0.16), abs=1e-6)
    assert box.foot == pytest.approx(0.0, abs=1e-9)


def test_gaps_of_a_mesh_are_those_of_a_box_of_its_size(carton):
    box = stand(cuboid(0.06, 0.10, 0.16), FINISH, (0.0, 0.0), 0.4)
    other = stand(cuboid(0.1, 0.1, 0.1), FINISH, (0.3, 0.1), 0.1)
    expected = signed_gaps([*box.solids(1), *other.solids(2)])[1, 2]
    assert signed_gaps([*carton.solids(1), *other.solids(2)])[1, 2] == pytest.approx(
        expected, abs=1e-5
    )


def test_a_mesh_is_rendered_where_its_box_is(carton):
    below = stand(cuboid(0.2, 0.2, 0.1), FINISH, (0.05, 0.02), 0.0)
    placed = shifted(set_on(carton, below), (0.01, 0.0))
    try:
        renderer = geometry_renderer(WIDTH)
    except RuntimeError as error:
        pytest.skip(str(error))
    camera = CameraIntrinsics(100, 100, 47.5, 35.5, WIDTH, 72)
    pose = np.eye(4)
    pose[:3, :3] = [[1, 0, 0], [0, 0, 1], [0, -1, 0]]  # level, looking along +y
    pose[:3, 3] = [0.05, -0.6, 0.15]
    light = Light((0, 0, -1), 0.5, 0.5, False)
    picture = renderer.render([*below.solids(1), *placed.solids(2)], [light], camera, pose)
    rows, columns = np.nonzero(picture.instance == 2)
    points = camera.back_project(columns, rows, picture.depth[rows, columns])
    world = points @ pose[:3, :3].T + pose[:3, 3]
    box = upright_box(placed.solids())
    c, s = np.cos(box.yaw), np.sin(box.yaw)
    own = (world - box.centre) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    assert (np.abs(own) < np.array([box.length, box.width, box.height]) / 2 + 1e-3).all()
    assert np.ptp(own[:, 2]) == pytest.approx(box.height, abs=0.012)
    alone, cut = silhouette_pixels(placed.solids(), camera, np.linalg.inv(pose))
    assert not cut
    assert alone == pytest.approx(len(rows), rel=0.08)


def test_without_the_package_there_are_no_meshes(tmp_path, monkeypatch):
    (tmp_path / PACKAGE).mkdir()
    (tmp_path / PACKAGE / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    package_meshes.cache_clear()
    assert mesh_shapes() == []
    package_meshes.cache_clear()
