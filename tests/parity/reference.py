"""What the official SD-VLM computes, written again in NumPy from its description.

Independent of the code under test and of torch: no line of the official code is copied, and
nothing was recorded from it. Sources: the paper (arXiv 2509.17664, section 3 and the equation of
the DPE), and what the official release does where the paper is silent: colour is padded to a square
with CLIP's mean colour; depth is pooled on the frame that is not padded; every map is stretched to
0..100; the code is added behind the projector. CLIP's and LLaMA's layers follow their papers.

Weights are a mapping of the release's names to arrays. Arrays are float64; pictures (H, W, 3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[np.float64]
Weights = Mapping[str, Array]

MEAN = np.array((0.48145466, 0.4578275, 0.40821073))
STD = np.array((0.26862954, 0.26130258, 0.27577711))
TOWER = "model.vision_tower.vision_tower.vision_model."


def picture(rgb: npt.NDArray[np.uint8], size: int) -> Array:
    """(3, size, size): padded to a square, resized (Pillow, bicubic), normalised for CLIP."""
    height, width = rgb.shape[:2]
    side = max(height, width)
    square = np.empty((side, side, 3), np.uint8)
    square[:] = (122, 116, 104)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = rgb
    resized = Image.fromarray(square).resize((size, size), Image.Resampling.BICUBIC)
    return ((np.asarray(resized) / 255 - MEAN) / STD).transpose(2, 0, 1)


def estimated_grid(depth: npt.NDArray[np.float32], cells: int) -> Array:
    """(cells, cells) of an estimated map: means over windows rounded outwards, then stretched.

    The release adds the pixels of a window in float32, one by one; stretching enlarges what an
    exact sum would differ by.
    """
    height, width = depth.shape
    grid = np.empty((cells, cells))
    for i in range(cells):
        rows = slice(i * height // cells, math.ceil((i + 1) * height / cells))
        for j in range(cells):
            columns = slice(j * width // cells, math.ceil((j + 1) * width / cells))
            window = depth[rows, columns].ravel()
            grid[i, j] = window.cumsum(dtype=np.float32)[-1] / window.size
    return stretched(grid)


def sensor_grid(depth: npt.NDArray[np.float32], cells: int) -> Array:
    """(cells, cells) of a sensor's map, 0 = no reading: means over whole pixels, then stretched.

    A window runs from the truncated start to the truncated end of its cell. Pixels without a
    reading do not count; a cell without any reading is 0.
    """
    height, width = depth.shape
    grid = np.zeros((cells, cells))
    for i in range(cells):
        rows = slice(int(i * height / cells), int((i + 1) * height / cells))
        for j in range(cells):
            columns = slice(int(j * width / cells), int((j + 1) * width / cells))
            window = depth[rows, columns]
            if (window > 0).any():
                grid[i, j] = window[window > 0].mean(dtype=np.float64)
    return stretched(grid)


def stretched(grid: Array) -> Array:
    """The map's minimum at 0 and its maximum at 100."""
    return (grid - grid.min()) / (grid.max() - grid.min() + 1e-9) * 100


def code(grid: Array, channels: int) -> Array:
    """(cells^2, channels): sine and cosine of one frequency side by side, 1 down to 1e-4."""
    frequencies = 10000.0 ** (-np.arange(channels // 2) / (channels // 2))
    angles = grid.reshape(-1, 1) * frequencies
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(-1, channels)


def features(weights: Weights, pixels: Array, heads: int) -> Array:
    """(tokens, channels): CLIP's last layer but one without its class token, then the projector."""
    patches = weights[f"{TOWER}embeddings.patch_embedding.weight"]
    width, _, patch, _ = patches.shape
    cells = pixels.shape[-1] // patch
    cut = pixels.reshape(3, cells, patch, cells, patch).transpose(1, 3, 0, 2, 4)
    tokens = cut.reshape(cells * cells, -1) @ patches.reshape(width, -1).T
    hidden = np.vstack([weights[f"{TOWER}embeddings.class_embedding"], tokens])
    hidden = hidden + weights[f"{TOWER}embeddings.position_embedding.weight"]
    hidden = _layer_norm(hidden, weights, f"{TOWER}pre_layrnorm")
    layers = sum(f"{TOWER}encoder.layers.{i}.mlp.fc1.bias" in weights for i in range(99))
    for layer in range(layers - 1):
        base = f"{TOWER}encoder.layers.{layer}."
        normed = _layer_norm(hidden, weights, f"{base}layer_norm1")
        q, k, v = (_linear(normed, weights, f"{base}self_attn.{name}_proj") for name in "qkv")
        mixed = _attention(q, k, v, heads)
        hidden = hidden + _linear(mixed, weights, f"{base}self_attn.out_proj")
        normed = _layer_norm(hidden, weights, f"{base}layer_norm2")
        inner = _linear(normed, weights, f"{base}mlp.fc1")
        hidden = hidden + _linear(inner * _sigmoid(1.702 * inner), weights, f"{base}mlp.fc2")
    inner = _linear(hidden[1:], weights, "model.mm_projector.0")
    erf = np.vectorize(math.erf)
    return _linear(inner * (1 + erf(inner / math.sqrt(2))) / 2, weights, "model.mm_projector.2")


def logits(weights: Weights, embeddings: Array, heads: int, eps: float) -> Array:
    """(words,): LLaMA's logits of the token that follows embeddings (tokens, channels)."""
    hidden = embeddings
    layers = sum(f"model.layers.{i}.mlp.up_proj.weight" in weights for i in range(99))
    causal = np.triu(np.full((len(hidden), len(hidden)), -np.inf), 1)
    for layer in range(layers):
        base = f"model.layers.{layer}."
        normed = _rms_norm(hidden, weights[f"{base}input_layernorm.weight"], eps)
        q, k, v = (_linear(normed, weights, f"{base}self_attn.{name}_proj") for name in "qkv")
        mixed = _attention(_rotated(q, heads), _rotated(k, heads), v, heads, causal)
        hidden = hidden + _linear(mixed, weights, f"{base}self_attn.o_proj")
        normed = _rms_norm(hidden, weights[f"{base}post_attention_layernorm.weight"], eps)
        gate = _linear(normed, weights, f"{base}mlp.gate_proj")
        inner = gate * _sigmoid(gate) * _linear(normed, weights, f"{base}mlp.up_proj")
        hidden = hidden + _linear(inner, weights, f"{base}mlp.down_proj")
    return _rms_norm(hidden[-1], weights["model.norm.weight"], eps) @ weights["lm_head.weight"].T


def _linear(x: Array, weights: Weights, name: str) -> Array:
    return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0.0)


def _layer_norm(x: Array, weights: Weights, name: str) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return normed * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _rms_norm(x: Array, weight: Array, eps: float) -> Array:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _attention(q: Array, k: Array, v: Array, heads: int, mask: Array | float = 0.0) -> Array:
    split = (x.reshape(len(x), heads, -1).transpose(1, 0, 2) for x in (q, k, v))
    queries, keys, values = split
    scores = queries @ keys.transpose(0, 2, 1) / math.sqrt(queries.shape[-1]) + mask
    share = np.exp(scores - scores.max(-1, keepdims=True))
    share /= share.sum(-1, keepdims=True)
    return (share @ values).transpose(1, 0, 2).reshape(len(q), -1)


def _rotated(x: Array, heads: int) -> Array:
    """Rotary positions, base 10000: channel i of a head turns with channel i + half."""
    split = x.reshape(len(x), heads, -1)
    half = split.shape[-1] // 2
    angles = np.arange(len(x))[:, None] * 10000.0 ** (-np.arange(half) / half)
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
    first, second = split[..., :half], split[..., half:]
    turned = np.concatenate([first * cosine - second * sine, second * cosine + first * sine], -1)
    return turned.reshape(len(x), -1)
