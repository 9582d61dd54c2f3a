"""The readings of real depth cameras, with the errors that break measurements.

A second sensor model beside `sensor`: its errors are correlated between neighbouring pixels and
depend on what the colour image shows. Three families:

- `kinect`: structured light. Disparity in steps of 1/8 px, hence depth steps that grow with z^2
  (Khoshelham and Elberink, Sensors 12, 2012); lateral noise and losses that grow with the angle of
  the surface (Nguyen, Izadi and Lovell, 3DIMPVT 2012).
- `realsense`: active stereo. Block matching: noise as wide as the matching window, subpixel steps,
  edges that grow, holes where the image has no texture, filters that fill small holes (Keselman et
  al., "Intel RealSense Stereoscopic Depth Cameras", CVPRW 2017; best-known RMS 0.05 to 0.1 px).
- `time_of_flight`: no baseline. Noise that grows with darkness; pixels between near and far at
  edges ("flying pixels").

All families: a slowly varying scale error of up to 2 %, and a shift between colour and depth of up
to 2 px. Does not know scenes: it sees exact depth, colour and the reflectance of each pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

FAMILIES = ("kinect", "realsense", "time_of_flight")
#: A depth step is an edge from this fraction of the depth on: matching windows keep smaller ones.
_EDGE_FRACTION = 0.012
#: Windows are given for images of this width and grow with it.
_REFERENCE_WIDTH = 640


@dataclass(frozen=True)
class DepthCamera:
    """Parameters of one camera, drawn per frame; pixels are those of the image that is read.

    Attributes:
        family: one of FAMILIES.
        near, far: range, metres.
        baseline: distance of the two views, metres; 0 for time of flight.
        noise_px: standard deviation of the disparity, pixels of a 640 px wide image.
        noise_m: standard deviation of the depth, metres (time of flight).
        window: width of the matching window, pixels: the correlation length of the noise.
        step_px: quantization step of the disparity, pixels.
        growth: pixels by which the foreground grows at its edges, at the least and at the most.
        edge_loss: probability that a pixel beside a depth step has no reading.
        texture: grey levels of local contrast under which matching may fail; 0 = never.
        smear: share of the failed matches that give a neighbour's depth, not a hole.
        grazing: cosine of the angle to the surface normal under which readings are lost.
        dark: luminance (0 to 1) under which readings may be lost.
        flying: pixels on each side of an edge that mix near and far.
        fill: rounds of hole filling; each closes a border of one pixel.
        scale: fraction by which all depths are too large.
        bend: (3,) fractions: tilt along x and y, curvature, at the image corner.
        shift: (x, y) pixels by which depth is displaced from colour.
    """

    family: str
    near: float
    far: float
    baseline: float = 0.0
    noise_px: float = 0.0
    noise_m: float = 0.0
    window: float = 1.0
    step_px: float = 1 / 32
    growth: tuple[float, float] = (0.0, 0.0)
    edge_loss: float = 0.0
    texture: float = 0.0
    smear: float = 0.0
    grazing: float = 0.0
    dark: float = 0.0
    flying: float = 0.0
    fill: int = 0
    scale: float = 0.0
    bend: tuple[float, float, float] = (0.0, 0.0, 0.0)
    shift: tuple[float, float] = (0.0, 0.0)


def draw_camera(rng: np.random.Generator, family: str | None = None) -> DepthCamera:
    """A camera of random quality; of a random family if none is given."""
    name = family or str(rng.choice(FAMILIES, p=[0.35, 0.45, 0.2]))
    camera = {"kinect": _kinect, "realsense": _realsense, "time_of_flight": _flight}[name](rng)
    tilt_x, tilt_y, curve = (float(np.clip(rng.normal(0, 0.003), -0.004, 0.004)) for _ in range(3))
    reach, angle = rng.choice([0.5, 1.0, 2.0], p=[0.4, 0.4, 0.2]), rng.uniform(0, 2 * math.pi)
    return replace(
        camera,
        scale=float(np.clip(rng.normal(0, 0.006), -0.012, 0.012)),
        bend=(tilt_x, tilt_y, curve),
        shift=(float(reach * math.cos(angle)), float(reach * math.sin(angle))),
    )


def _growth(least: float, rng: np.random.Generator) -> tuple[float, float]:
    return least, least + rng.uniform(1.0, 2.5)


def _kinect(rng: np.random.Generator) -> DepthCamera:
    return DepthCamera(
        "kinect",
        near=0.4,
        far=8.0,
        baseline=0.075,
        noise_px=rng.uniform(0.05, 0.13),
        window=rng.uniform(5.0, 9.0),
        step_px=0.125,
        growth=_growth(rng.uniform(0.0, 1.5), rng),
        edge_loss=rng.uniform(0.2, 0.8),
        grazing=rng.uniform(0.12, 0.22),
        dark=rng.uniform(0.0, 0.06),
        fill=int(rng.integers(0, 3)),
    )


def _realsense(rng: np.random.Generator) -> DepthCamera:
    return DepthCamera(
        "realsense",
        near=0.2,
        far=10.0,
        baseline=rng.uniform(0.050, 0.095),
        noise_px=rng.uniform(0.05, 0.14),
        window=rng.uniform(6.0, 14.0),
        growth=_growth(rng.uniform(1.0, 2.5), rng),
        edge_loss=rng.uniform(0.0, 0.5),
        texture=float(rng.choice([0.0, 1.0, 2.0, 3.0], p=[0.35, 0.3, 0.25, 0.1]))
        * rng.uniform(0.6, 1.4),
        smear=rng.uniform(0.0, 0.7),
        grazing=rng.uniform(0.08, 0.18),
        dark=rng.uniform(0.0, 0.08),
        fill=int(rng.integers(0, 6)),
    )


def _flight(rng: np.random.Generator) -> DepthCamera:
    return DepthCamera(
        "time_of_flight",
        near=0.2,
        far=5.5,
        noise_m=rng.uniform(0.0007, 0.0022),
        window=2.0,
        grazing=rng.uniform(0.08, 0.16),
        dark=rng.uniform(0.0, 0.10),
        flying=rng.uniform(0.7, 2.0),
    )


def smooth_noise(
    shape: tuple[int, int], width: float, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Gaussian noise (H, W) of unit variance; neighbours within about `width` pixels agree."""
    white = rng.standard_normal(shape, dtype=np.float32)
    if width <= 1:
        return white
    sigma = width / 2.5
    blurred = cv2.GaussianBlur(white, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    # The variance of white noise under a Gaussian of this sigma.
    return np.asarray(blurred * (2 * math.sqrt(math.pi) * sigma), np.float32)


def _uniform_blobs(shape: tuple[int, int], width: float, rng: np.random.Generator) -> Image:
    """Values (H, W) uniform in 0 to 1 that vary slowly: losses come in patches, not in pixels."""
    field = smooth_noise(shape, width, rng)
    return np.asarray(1 / (1 + np.exp(-1.702 * field)), np.float32)  # the logistic for the normal


def depth_edges(exact: Image) -> Mask:
    """Pixels (H, W) beside a depth step, not on a slope: inverse depth is linear on any plane."""
    inverse = 1 / exact
    bend = np.zeros(exact.shape, np.float32)
    bend[1:-1] = np.abs(inverse[2:] + inverse[:-2] - 2 * inverse[1:-1])
    across = np.abs(inverse[:, 2:] + inverse[:, :-2] - 2 * inverse[:, 1:-1])
    bend[:, 1:-1] = np.maximum(bend[:, 1:-1], across)
    return np.asarray(bend * exact > _EDGE_FRACTION)


def grow_foreground(exact: Image, growth: Image) -> Image:
    """Depth (H, W) whose foreground covers `growth` (H, W) more pixels at its depth steps.

    A matching window that contains an edge sees the foreground's texture: the background beside the
    edge gets the foreground's depth.
    """
    grown, edges = exact.copy(), depth_edges(exact).astype(np.uint8)
    for radius in range(1, math.ceil(float(growth.max(initial=0.0))) + 1):
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        nearest = cv2.erode(exact, kernel, borderType=cv2.BORDER_REPLICATE)
        take = (growth >= radius - 0.5) & (cv2.dilate(edges, kernel) > 0)
        take &= grown - nearest > _EDGE_FRACTION * nearest
        grown[take] = nearest[take]
    return grown


def cosine_to_normal(exact: Image, focal: float) -> Image:
    """Cosine (H, W) of the angle between the viewing ray and the surface's normal, from slopes.

    The image's centre is taken for the principal point.
    """
    height, width = exact.shape
    x = (np.arange(width, dtype=np.float32) - width / 2) / focal
    y = ((np.arange(height, dtype=np.float32) - height / 2) / focal)[:, None]
    down, across = np.gradient(exact)
    # For z(u, v) the normal is along (-f z_u, -f z_v, z + x f z_u + y f z_v).
    normal = (-focal * across, -focal * down, exact + focal * (x * across + y * down))
    length = np.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2)
    ray = np.sqrt(1 + x**2 + y**2)
    along = normal[0] * x + normal[1] * y + normal[2]
    return np.asarray(np.abs(along) / np.maximum(length * ray, 1e-9), np.float32)


def hidden_from_second_view(disparity: Image) -> Mask:
    """Pixels (H, W) that the second camera does not see: left of a nearer edge."""
    height, width = disparity.shape
    columns = np.arange(width)[None, :]
    other = np.round(columns - disparity).astype(np.int64)
    inside = (other >= 0) & (other < width)
    rows = np.broadcast_to(np.arange(height)[:, None], disparity.shape)
    nearest = np.zeros(height * width, np.float32)
    flat = (rows * width + np.clip(other, 0, width - 1)).ravel()
    np.maximum.at(nearest, flat[inside.ravel()], disparity[inside])
    shadow = (nearest[flat].reshape(disparity.shape) > disparity + 1.0) & inside
    # Two neighbours can fall onto one column of the second view: single pixels are no shadow.
    beside = np.zeros_like(shadow)
    beside[:, 1:] = shadow[:, :-1]
    beside[:, :-1] |= shadow[:, 1:]
    return np.asarray(shadow & beside)


def _contrast(rgb: npt.NDArray[np.uint8], window: float) -> Image:
    """Standard deviation (H, W) of the grey levels in a window of the colour image."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    size = (2 * round(window / 2) + 1,) * 2
    mean = cv2.blur(grey, size)
    variance = cv2.blur(grey * grey, size) - mean * mean
    return np.asarray(np.sqrt(np.maximum(variance, 0)), np.float32)


def fill_holes(depth: Image, rounds: int) -> Image:
    """Depth (H, W) with small holes (0) closed by the mean of readings around, a border a round."""
    filled = depth.copy()
    for _ in range(rounds):
        valid = (filled > 0).astype(np.float32)
        count = cv2.boxFilter(valid, -1, (3, 3), normalize=False)
        total = cv2.boxFilter(filled, -1, (3, 3), normalize=False)
        take = (filled == 0) & (count >= 4)
        filled[take] = (total / np.maximum(count, 1))[take]
    return filled


def _match(exact: Image, rgb: npt.NDArray[np.uint8], focal: float, camera: DepthCamera,
           window: float, rng: np.random.Generator) -> tuple[Image, Mask]:  # fmt: skip
    """Depth (H, W) by matching two views, and the pixels without a match."""
    low, high = (value * window / camera.window for value in camera.growth)
    drawn = _uniform_blobs(exact.shape, 3 * window, rng)
    surface = grow_foreground(exact, np.asarray(low + (high - low) * drawn, np.float32))
    disparity = np.asarray(focal * camera.baseline / surface, np.float32)
    hidden = hidden_from_second_view(disparity)
    # A window averages over smaller steps than edges: creases and the rims of flat things.
    smoothed = cv2.bilateralFilter(disparity, -1, 0.8, window / 4)
    unit = exact.shape[1] / _REFERENCE_WIDTH
    contrast = _contrast(rgb, window)
    weak = np.clip(1 - contrast / camera.texture, 0, 1) if camera.texture else np.zeros(1)
    spread = camera.noise_px * unit * (1 + 2 * weak)
    noisy = smoothed + spread * smooth_noise(exact.shape, window, rng)
    failed = _uniform_blobs(exact.shape, 2 * window, rng) < 0.9 * weak
    smeared = failed & (_uniform_blobs(exact.shape, 3 * window, rng) < camera.smear)
    wide = 2 * round(2 * window) + 1
    noisy = np.where(smeared, cv2.blur(np.asarray(noisy, np.float32), (wide, wide)), noisy)
    step = camera.step_px * unit
    stored = np.maximum(np.round(noisy / step) * step, step)
    beside = depth_edges(surface)
    beside &= _uniform_blobs(exact.shape, window, rng) < camera.edge_loss
    depth = np.asarray(focal * camera.baseline / stored, np.float32)
    return depth, hidden | beside | (failed & ~smeared)


def _time_of_flight(
    exact: Image, luminance: Image, camera: DepthCamera, rng: np.random.Generator
) -> Image:
    """Depth (H, W) with flying pixels and noise that grows with z^2 and with darkness."""
    reach = np.ones((2 * round(camera.flying) - 1,) * 2, np.uint8)
    edge = cv2.dilate(depth_edges(exact).astype(np.uint8), reach)
    mixed = cv2.GaussianBlur(exact, (0, 0), max(0.5, camera.flying / 1.5))
    share = np.clip(rng.random(exact.shape, dtype=np.float32) * 1.6 - 0.3, 0, 1)
    flying = np.where(edge > 0, exact + share * (mixed - exact), exact)
    spread = camera.noise_m * (0.5 + 0.5 * exact**2) / np.sqrt(np.maximum(luminance, 0.05))
    return np.asarray(flying + spread * smooth_noise(exact.shape, camera.window, rng), np.float32)


def _bent(depth: Image, camera: DepthCamera) -> Image:
    """Depth (H, W) with the scale error and its slow change over the image."""
    height, width = depth.shape
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    tilt_x, tilt_y, curve = camera.bend
    return np.asarray(
        depth * (1 + camera.scale + tilt_x * x + tilt_y * y + curve * (x**2 + y**2 - 0.67)),
        np.float32,
    )


def read_stereo_depth(
    exact: Image,
    rgb: npt.NDArray[np.uint8],
    absorbs: Image,
    focal: float,
    camera: DepthCamera,
    rng: np.random.Generator,
) -> npt.NDArray[np.uint16]:
    """The depth image that a camera gives.

    Args:
        exact: (H, W) metres along Z.
        rgb: (H, W, 3) the colour image; its contrast decides where matching works.
        absorbs: (H, W) probability that the material gives no reading (dark, shiny).
        focal: focal length, pixels.

    Returns:
        (H, W) uint16 millimetres, 0 = no reading.
    """
    window = max(1.0, camera.window * exact.shape[1] / _REFERENCE_WIDTH)
    luminance = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    if camera.baseline:
        depth, lost = _match(exact, rgb, focal, camera, window, rng)
    else:
        depth = _time_of_flight(exact, luminance, camera, rng)
        lost = np.zeros(exact.shape, bool)
    blobs = _uniform_blobs(exact.shape, window, rng)
    cosine = cv2.blur(cosine_to_normal(exact, focal), (3, 3))
    edge = cv2.dilate(depth_edges(exact).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    lost |= (blobs < np.clip(1.5 - cosine / max(camera.grazing, 1e-6), 0, 1)) & ~edge
    lost |= blobs < np.clip(0.8 * (camera.dark - luminance) / max(camera.dark, 1e-6), 0, 1)
    lost |= blobs < absorbs
    depth = _bent(depth, camera)
    depth[lost | (depth < camera.near) | (depth > camera.far)] = 0
    depth = fill_holes(depth, camera.fill)
    shift = np.array([[1, 0, camera.shift[0]], [0, 1, camera.shift[1]]], np.float32)
    moved = cv2.warpAffine(depth, shift, depth.shape[::-1], flags=cv2.INTER_NEAREST)
    return np.asarray(np.clip(np.round(moved * 1000), 0, 65535), np.uint16)
