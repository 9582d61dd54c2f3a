"""The scene graph of a room of known blocks: what each object alone covers, and what of it is seen.

The truth comes from intersecting rays with boxes (`tests.blocks`), not with a mesh.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sdvlm_core.frame import CameraIntrinsics
from tests import blocks
from tests.training import scans
from training.build.graph import Rasterizer, shows
from training.build.scene import Mesh

K = CameraIntrinsics(500.0, 502.0, 319.5, 239.5, 640, 480)
RAYS = blocks.pinhole_rays(np.array([[500.0, 0, 319.5], [0, 502.0, 239.5], [0, 0, 1]]), 640, 480)


@pytest.fixture(scope="module")
def rasterizer() -> Rasterizer:
    vertices, faces, owner = scans.mesh()
    return Rasterizer(Mesh(vertices, faces, owner[faces[:, 0]]))


def _covered(pose: np.ndarray, block: blocks.Block) -> np.ndarray:
    """Pixels whose ray hits a block that is alone above the floor."""
    return blocks.picture(pose, RAYS, (block,))[1] != blocks.picture(pose, RAYS, ())[1]


@pytest.mark.parametrize("pose", blocks.POSES[::2])
def test_an_object_alone_covers_the_pixels_whose_rays_hit_it(rasterizer, pose):
    for number, block in enumerate(blocks.WORLD, start=1):
        pixels, _ = rasterizer.alone(number, K, pose, 1)
        true = int(_covered(pose, block).sum())
        outline = 4 * np.sqrt(true)
        assert abs(pixels - true) <= 0.02 * outline + 2, block.label


def test_the_first_surface_of_each_pixel_has_its_owner_and_depth(rasterizer):
    pose = blocks.POSES[0]
    owner, depth = rasterizer.cast(K, pose, 1)
    true = blocks.picture(pose, RAYS)[1]
    inside = np.isfinite(depth) & (np.abs(depth - true) < 1e-4)
    assert inside[np.isfinite(depth)].mean() > 0.995
    seen = np.bincount(owner.ravel(), minlength=len(blocks.WORLD) + 1)
    assert seen[blocks.WORLD.index(blocks.HIDDEN) + 1] < 0.7 * _covered(pose, blocks.HIDDEN).sum()


def test_an_object_without_a_surface_covers_nothing(rasterizer):
    assert rasterizer.alone(99, K, blocks.POSES[0], 1) == (0, True)


def test_other_objects_far_away_do_not_change_what_an_object_covers(rasterizer):
    """An object is cast at on its own vertices, so the size of the scene does not matter."""
    vertices, faces, owner = scans.mesh()
    far = vertices + np.array([4000.0, 0.0, 0.0])
    owners = owner[faces[:, 0]]
    mesh = Mesh(
        np.concatenate([vertices, far]),
        np.concatenate([faces, faces + len(vertices)]),
        np.concatenate([owners, np.where(owners, owners + 50, 0)]),
    )
    larger = Rasterizer(mesh)
    small = replace(K, width=320)
    for number in range(1, len(blocks.WORLD) + 1):
        expected = rasterizer.alone(number, small, blocks.POSES[0], 2)
        assert larger.alone(number, small, blocks.POSES[0], 2) == expected


def test_a_place_shows_an_object_if_all_pixels_of_the_same_coordinates_do():
    """A coordinate of two decimals is the same within half a percent of the image."""
    owner = np.zeros((100, 200), int)
    owner[40:60, 90:110] = 7
    assert shows(owner, 7, 100, 50)
    assert shows(owner, 7, 91, 41)
    assert not shows(owner, 7, 90, 50)  # the column beside it is not the object
    assert not shows(owner, 7, 0, 0)
    owner[50, 100] = 8  # a thin thing before the middle
    assert not shows(owner, 7, 100, 50)
