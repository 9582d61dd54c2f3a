"""One software-GL context that renders lists of primitives: colour, exact depth, instance ids.

Writes primitives directly into MuJoCo's abstract visual scene: no model is recompiled and no
kinematics run. Does not know what a primitive belongs to, nor sensors: depth is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import mujoco
import numpy as np
import numpy.typing as npt

from sdvlm_core.frame import CameraIntrinsics

NEAR_M, FAR_M = 0.05, 40.0
MAX_PRIMITIVES = 600
_TYPES = {
    "box": mujoco.mjtGeom.mjGEOM_BOX,
    "sphere": mujoco.mjtGeom.mjGEOM_SPHERE,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE,
    "ellipsoid": mujoco.mjtGeom.mjGEOM_ELLIPSOID,
    "mesh": mujoco.mjtGeom.mjGEOM_MESH,
}
#: Textured materials by name; drawn on boxes, tinted by the primitive's colour.
MATERIALS = ("tiles", "boards", "speckle")


@dataclass(frozen=True, eq=False)
class Solid:
    """A primitive in the world: MuJoCo geom type and size, pose, colour, instance number.

    `instance` is 0 for the room and 1, 2, ... for objects. `mesh` names a mesh of the renderer's
    assets if the kind is "mesh".
    """

    kind: str
    half: tuple[float, float, float]
    position: npt.NDArray[np.float64]
    rotation: npt.NDArray[np.float64]
    rgb: tuple[float, float, float]
    instance: int = 0
    material: str | None = None
    shininess: float = 0.2
    mesh: str | None = None


@dataclass(frozen=True)
class Light:
    """A directional light: direction, diffuse and ambient intensity."""

    direction: tuple[float, float, float]
    diffuse: float
    ambient: float
    casts_shadow: bool


@dataclass(frozen=True, eq=False)
class Rendering:
    """rgb (H, W, 3) uint8; depth (H, W) float32 exact metres along Z; instance (H, W) uint8."""

    rgb: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32]
    instance: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Assets:
    """What solids may name: children of MJCF's <asset> element, and their files by name.

    slices: flat faces of a round solid.
    """

    mjcf: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    slices: int = 28


@cache
def shared_renderer(width: int) -> Renderer:
    """The renderer of this process for images of a width, of 3/4 of it in height at most.

    One per process: a GL context is expensive to create.
    """
    return Renderer(width, width * 3 // 4)


ROOM_ASSETS = Assets("""
      <texture name="tiles" type="2d" builtin="checker" rgb1="1 1 1" rgb2=".78 .78 .78"
               width="128" height="128"/>
      <texture name="boards" type="2d" builtin="gradient" rgb1="1 1 1" rgb2=".74 .70 .66"
               width="64" height="64"/>
      <texture name="speckle" type="2d" builtin="flat" rgb1=".95 .95 .95" mark="random"
               markrgb=".6 .6 .6" random=".06" width="128" height="128"/>
      <material name="tiles" texture="tiles" texrepeat="2 2" texuniform="true"/>
      <material name="boards" texture="boards" texrepeat="3 3" texuniform="true"/>
      <material name="speckle" texture="speckle" texrepeat="1 1" texuniform="true"/>""")


def _context_model(width: int, height: int, assets: Assets) -> mujoco.MjModel:
    mjcf = f"""
      <mujoco><visual>
        <quality offsamples="0" shadowsize="1024" numslices="{assets.slices}"/>
        <global offwidth="{width}" offheight="{height}"/></visual>
      <statistic extent="1"/><asset>{assets.mjcf}</asset>
      <worldbody><light pos="0 0 4"/><geom type="box" size="1 1 1"/></worldbody></mujoco>"""
    return mujoco.MjModel.from_xml_string(mjcf, dict(assets.files))


class Renderer:
    """Renders into an off-screen buffer of at most `width` x `height` pixels.

    Args:
        assets: the materials and meshes that solids name.

    Raises:
        RuntimeError: headless OpenGL is missing (libegl1 and libgl1-mesa-dri on Debian/Ubuntu).
    """

    def __init__(self, width: int, height: int, assets: Assets = ROOM_ASSETS) -> None:
        self._model = _context_model(width, height, assets)
        try:
            self._gl = mujoco.GLContext(width, height)
            self._gl.make_current()
        except Exception as error:
            raise RuntimeError(
                "headless OpenGL is missing; on Debian/Ubuntu install it with "
                f"`apt-get install libegl1 libgl1-mesa-dri` ({error})"
            ) from error
        self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._scene = mujoco.MjvScene(self._model, maxgeom=MAX_PRIMITIVES)
        data = mujoco.MjData(self._model)
        mujoco.mj_forward(self._model, data)
        mujoco.mjv_updateScene(
            self._model,
            data,
            mujoco.MjvOption(),
            None,
            mujoco.MjvCamera(),
            mujoco.mjtCatBit.mjCAT_ALL,
            self._scene,
        )
        self._materials = {self._model.material(i).name: i for i in range(self._model.nmat)}
        self._meshes = {self._model.mesh(i).name: i for i in range(self._model.nmesh)}

    def close(self) -> None:
        """Free the context; the renderer cannot be used again."""
        self._context.free()
        self._gl.free()

    def render(
        self,
        solids: list[Solid],
        lights: list[Light],
        intrinsics: CameraIntrinsics,
        camera_to_world: npt.NDArray[np.float64],
    ) -> Rendering:
        """Render the solids for a camera with square pixels (fx = fy) at the pose (4, 4)."""
        self._place_camera(intrinsics, camera_to_world)
        self._place_solids(solids)
        self._place_lights(lights)
        width, height = intrinsics.width, intrinsics.height
        viewport = mujoco.MjrRect(0, 0, width, height)
        flags = self._scene.flags
        shadow, segment, idcolor = (
            mujoco.mjtRndFlag.mjRND_SHADOW,
            mujoco.mjtRndFlag.mjRND_SEGMENT,
            mujoco.mjtRndFlag.mjRND_IDCOLOR,
        )
        rgb = np.empty((height, width, 3), np.uint8)
        flags[shadow], flags[segment], flags[idcolor] = True, False, False
        flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        flags[mujoco.mjtRndFlag.mjRND_SKYBOX] = False
        mujoco.mjr_render(viewport, self._scene, self._context)
        mujoco.mjr_readPixels(rgb, None, viewport, self._context)
        ids = np.empty((height, width, 3), np.uint8)
        depth = np.empty((height, width), np.float32)
        flags[shadow], flags[segment], flags[idcolor] = False, True, True
        mujoco.mjr_render(viewport, self._scene, self._context)
        mujoco.mjr_readPixels(ids, depth, viewport, self._context)
        # Reverse-z buffer value d in [0, 1]: z = near far / (near + d (far - near)).
        metres = NEAR_M * FAR_M / (NEAR_M + depth.astype(np.float64) * (FAR_M - NEAR_M))
        # An id colour is segid + 1 and segid is the instance: 0 is the empty background.
        instance = np.maximum(ids[..., 0], 1) - 1
        return Rendering(
            np.ascontiguousarray(rgb[::-1]),
            np.ascontiguousarray(metres[::-1].astype(np.float32)),
            np.ascontiguousarray(instance[::-1].astype(np.uint8)),
        )

    def _place_camera(self, intrinsics: CameraIntrinsics, pose: npt.NDArray[np.float64]) -> None:
        k = intrinsics
        left = NEAR_M * (-0.5 - k.cx) / k.fx
        right = NEAR_M * (k.width - 0.5 - k.cx) / k.fx
        for camera in self._scene.camera:
            camera.pos = pose[:3, 3]
            camera.forward = pose[:3, 2]
            camera.up = -pose[:3, 1]
            camera.frustum_center = (left + right) / 2
            camera.frustum_width = (right - left) / 2
            camera.frustum_top = NEAR_M * (k.cy + 0.5) / k.fy
            camera.frustum_bottom = -NEAR_M * (k.height - 0.5 - k.cy) / k.fy
            camera.frustum_near, camera.frustum_far = NEAR_M, FAR_M

    def _place_solids(self, solids: list[Solid]) -> None:
        if len(solids) > MAX_PRIMITIVES:
            raise ValueError(f"{len(solids)} primitives, room for {MAX_PRIMITIVES}")
        for slot, solid in enumerate(solids):
            geom = self._scene.geoms[slot]
            position, rotation = self._pose(solid)
            mujoco.mjv_initGeom(
                geom,
                _TYPES[solid.kind],
                np.array(solid.half),
                position,
                rotation.reshape(9),
                np.array([*solid.rgb, 1.0], np.float32),
            )
            geom.category = mujoco.mjtCatBit.mjCAT_STATIC
            geom.segid = solid.instance
            geom.castshadow = 1
            geom.specular = geom.shininess = solid.shininess
            if solid.mesh is not None:
                geom.dataid = 2 * self._meshes[solid.mesh]  # odd numbers are convex hulls
            if solid.material is None:
                geom.matid = -1
            else:
                geom.matid = self._materials[solid.material]
                geom.texuniform = 1
                geom.texrepeat = self._model.mat_texrepeat[geom.matid]
        self._scene.ngeom = len(solids)

    def _pose(self, solid: Solid) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Position and rotation for MuJoCo, which stores a mesh about its centre of mass."""
        position = np.asarray(solid.position, np.float64)
        rotation = np.asarray(solid.rotation, np.float64)
        if solid.mesh is None:
            return position, rotation
        mesh = self._meshes[solid.mesh]
        own = np.zeros(9)
        mujoco.mju_quat2Mat(own, self._model.mesh_quat[mesh])
        return position + rotation @ self._model.mesh_pos[mesh], rotation @ own.reshape(3, 3)

    def _place_lights(self, lights: list[Light]) -> None:
        self._scene.nlight = len(lights)
        for slot, spec in enumerate(lights):
            light = self._scene.lights[slot]
            light.type = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
            light.dir = spec.direction
            light.pos = [-8.0 * component for component in spec.direction]
            light.diffuse = [spec.diffuse] * 3
            light.ambient = [spec.ambient] * 3
            light.specular = [0.15] * 3
            light.headlight = 0
            light.castshadow = int(spec.casts_shadow)
            light.attenuation = [1.0, 0.0, 0.0]
            light.cutoff = 180.0
