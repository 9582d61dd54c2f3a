"""The depth network matches its publication, and its depth is never marked as sensor depth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import DepthProConfig, DepthProForDepthEstimation

from sdvlm_core.engine import SpatialEngine
from sdvlm_core.errors import CheckpointError, DepthError, FrameError
from sdvlm_core.frame import CameraIntrinsics, RgbdFrame
from sdvlm_core.model import convert
from sdvlm_core.model.checkpoint import load
from sdvlm_core.model.depth_estimation import (
    estimate,
    load_estimator,
    network_pixels,
    network_size,
)
from sdvlm_core.model.generation_options import GenerationOptions
from tests.released_checkpoint import BLOCKS, DEPTH, depth_anything_shapes, random_weights
from tests.tiny_checkpoint import write_tiny_checkpoint

CPU = torch.device("cpu")


def published_block(w, base, x):
    """One DINOv2 block: attention and MLP, each scaled by its LayerScale."""

    def norm(x, name):
        return F.layer_norm(x, (DEPTH,), w[f"{base}{name}.weight"], w[f"{base}{name}.bias"], 1e-6)

    def linear(x, name):
        return F.linear(x, w[f"{base}{name}.weight"], w[f"{base}{name}.bias"])

    q, k, v = linear(norm(x, "norm1"), "attn.qkv").split(DEPTH, dim=-1)  # one head of 64
    mixed = (q @ k.transpose(1, 2) / DEPTH**0.5).softmax(-1) @ v
    x = x + w[f"{base}ls1.gamma"] * linear(mixed, "attn.proj")
    inner = F.gelu(linear(norm(x, "norm2"), "mlp.fc1"))
    return x + w[f"{base}ls2.gamma"] * linear(inner, "mlp.fc2")


def published_tokens(w, pixels):
    """Patches, class token and resized positions (1, 1 + rows * columns, DEPTH)."""
    patches = F.conv2d(
        pixels, w["pretrained.patch_embed.proj.weight"], w["pretrained.patch_embed.proj.bias"], 14
    )
    rows, columns = patches.shape[2:]
    tokens = torch.cat([w["pretrained.cls_token"], patches.flatten(2).transpose(1, 2)], dim=1)
    stored = w["pretrained.pos_embed"]
    grid = stored[:, 1:].reshape(1, 5, 5, DEPTH).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, scale_factor=((rows + 0.1) / 5, (columns + 0.1) / 5), mode="bicubic")
    positions = torch.cat([stored[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)
    return tokens + positions, rows, columns


def published_head(w, outputs, rows, columns):
    """DPT: four levels of tokens -> depth (1, 14 rows, 14 columns)."""

    def conv(x, name, **more):
        name = f"depth_head.{name}"
        return F.conv2d(x, w[f"{name}.weight"], w.get(f"{name}.bias"), **more)

    def up(x, name, factor):
        name = f"depth_head.{name}"
        return F.conv_transpose2d(x, w[f"{name}.weight"], w[f"{name}.bias"], stride=factor)

    levels = []
    for index, tokens in enumerate(outputs):
        tokens = F.layer_norm(
            tokens, (DEPTH,), w["pretrained.norm.weight"], w["pretrained.norm.bias"], 1e-6
        )
        x = tokens[:, 1:].transpose(1, 2).reshape(1, DEPTH, rows, columns)
        x = conv(x, f"projects.{index}")
        if index == 0:
            x = up(x, "resize_layers.0", 4)
        elif index == 1:
            x = up(x, "resize_layers.1", 2)
        elif index == 3:
            x = conv(x, "resize_layers.3", stride=2, padding=1)
        levels.append(conv(x, f"scratch.layer{index + 1}_rn", padding=1))

    def residual(x, name):
        inner = conv(F.relu(x), f"{name}.conv1", padding=1)
        return x + conv(F.relu(inner), f"{name}.conv2", padding=1)

    path = None
    for number in (4, 3, 2, 1):
        name = f"scratch.refinenet{number}"
        level = levels[number - 1]
        path = level if path is None else path + residual(level, f"{name}.resConfUnit1")
        path = residual(path, f"{name}.resConfUnit2")
        size = levels[number - 2].shape[2:] if number > 1 else [2 * s for s in path.shape[2:]]
        path = F.interpolate(path, size, mode="bilinear", align_corners=True)
        path = conv(path, f"{name}.out_conv")
    x = conv(path, "scratch.output_conv1", padding=1)
    x = F.interpolate(x, (14 * rows, 14 * columns), mode="bilinear", align_corners=True)
    x = F.relu(conv(x, "scratch.output_conv2.0", padding=1))
    return F.relu(conv(x, "scratch.output_conv2.2"))[:, 0]


@pytest.fixture(scope="module")
def weights():
    return random_weights(depth_anything_shapes(), seed=3)


@pytest.fixture(scope="module")
def estimator(weights, tmp_path_factory):
    directory = tmp_path_factory.mktemp("depth")
    torch.save(weights, directory / "upstream.pth")
    convert.convert_depth_anything(directory / "upstream.pth", directory / "hf")
    return load_estimator(directory / "hf", CPU)


def _picture(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(width).integers(0, 255, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 320), (360, 500)])
def test_network_and_head_agree_with_the_published_architecture(estimator, weights, width, height):
    pixels = torch.from_numpy(network_pixels(_picture(width, height)))[None]
    with torch.inference_mode():
        x, rows, columns = published_tokens(weights, pixels)
        outputs = []
        for block in range(BLOCKS):
            x = published_block(weights, f"pretrained.blocks.{block}.", x)
            outputs.append(x)
        theirs = published_head(weights, outputs, rows, columns)
        ours = estimator.model(pixels, output_hidden_states=True)
        first = ours.hidden_states[1]
    assert theirs.std() > 0.01  # a constant output would always agree
    scale = float(theirs.abs().max())
    torch.testing.assert_close(first, outputs[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.predicted_depth / scale, theirs / scale, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("frame", "network"),
    [
        ((640, 480), (686, 518)),
        ((1296, 968), (700, 518)),
        ((320, 240), (686, 518)),
        ((400, 300), (686, 518)),
        ((500, 375), (686, 518)),
        ((600, 300), (1036, 518)),
        ((480, 640), (518, 686)),
        ((1280, 720), (924, 518)),
        ((1920, 1080), (924, 518)),
        ((518, 518), (518, 518)),
    ],
)
def test_the_size_rule_equals_the_released_rule(frame, network):
    assert network_size(*frame) == network


@pytest.mark.parametrize("size", [(30_000, 1), (1, 30_000), (170, 10)])
def test_an_image_that_would_make_a_huge_input_is_refused(size):
    with pytest.raises(FrameError, match="at most 16 times"):
        network_size(*size)


def test_an_estimate_has_the_size_of_the_image_and_depends_on_the_image_alone(estimator):
    picture = _picture(64, 48)
    depth, _ = estimate(estimator, picture)
    assert (depth.shape, depth.dtype) == ((48, 64), np.float32)
    np.testing.assert_array_equal(depth, estimate(estimator, picture)[0])
    assert not np.array_equal(depth, estimate(estimator, 255 - picture)[0])


def test_an_incomplete_estimator_is_refused_by_the_name_of_the_weight(estimator, tmp_path):
    from safetensors.torch import save_file

    state = estimator.model.state_dict()
    name = "backbone.encoder.layer.1.layer_scale2.lambda1"
    kept = {key: value for key, value in state.items() if key != name}
    estimator.model.config.save_pretrained(tmp_path)
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=name):
        load_estimator(tmp_path, CPU)


def test_a_frame_without_depth_is_answered_from_an_estimate_and_marked_so(estimator, tmp_path):
    checkpoint = load(str(write_tiny_checkpoint(tmp_path, "relative")), "cpu")
    frame = RgbdFrame(_picture(64, 48), None, CameraIntrinsics(60, 60, 31.5, 23.5, 64, 48))
    with pytest.raises(DepthError, match="none"):
        SpatialEngine(checkpoint).open(frame)
    answer = (
        SpatialEngine(checkpoint, estimator)
        .open(frame)
        .ask("Where is it?", GenerationOptions(max_new_tokens=4))
    )
    assert answer.depth_source == "estimated_relative"
    assert answer.positions == ()


def test_a_sensors_depth_is_never_replaced_by_an_estimate(estimator, tmp_path):
    checkpoint = load(str(write_tiny_checkpoint(tmp_path, "relative")), "cpu")
    depth = np.linspace(1, 2, 48 * 64, dtype=np.float32).reshape(48, 64)
    session = SpatialEngine(checkpoint, estimator).open(RgbdFrame(_picture(64, 48), depth))
    assert session.frame.depth is depth


def test_a_relative_estimate_is_refused_by_an_encoding_in_metres(estimator, tmp_path):
    checkpoint = load(str(write_tiny_checkpoint(tmp_path, "metric")), "cpu")
    with pytest.raises(DepthError, match="needs metres"):
        SpatialEngine(checkpoint, estimator).open(RgbdFrame(_picture(64, 48)))


@pytest.fixture(scope="module")
def depth_pro(tmp_path_factory):
    """A small Depth Pro with random weights: an image of 128x128 in patches of 32."""
    torch.manual_seed(0)
    encoder = {
        "model_type": "dinov2",
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "patch_size": 8,
        "image_size": 32,
        "use_mask_token": False,
    }
    config = DepthProConfig(
        patch_size=32,
        fusion_hidden_size=16,
        intermediate_hook_ids=[1, 0],
        intermediate_feature_dims=[16, 16],
        scaled_images_feature_dims=[16, 16, 16],
        merge_padding_value=0,
        use_fov_model=True,
        image_model_config=dict(encoder),
        patch_model_config=dict(encoder),
        fov_model_config=dict(encoder),
    )
    model = DepthProForDepthEstimation(config)
    # Set a field of view of about 60 degrees and depths of some metres; random weights do not give
    # them.
    model.fov_model.head.layers[-1].bias.data.fill_(60.0)
    model.head.layers[-2].bias.data.fill_(0.5)
    directory = tmp_path_factory.mktemp("depth-pro")
    model.save_pretrained(directory)
    return load_estimator(directory, CPU)


def test_depth_pro_gives_metres_and_the_focal_length_of_an_unknown_camera(depth_pro):
    picture = _picture(64, 48)
    depth, intrinsics = estimate(depth_pro, picture)
    assert depth_pro.source == "estimated_metric"
    assert depth.shape == (48, 64)
    assert (intrinsics.width, intrinsics.height) == (64, 48)
    assert intrinsics.fx == intrinsics.fy
    field_of_view = np.degrees(2 * np.arctan(32 / intrinsics.fx))
    assert 40 < field_of_view < 80


def test_depth_pro_is_scaled_by_the_focal_length_that_is_known(depth_pro):
    picture = _picture(64, 48)
    guessed, camera = estimate(depth_pro, picture)
    known = CameraIntrinsics(2 * camera.fx, 2 * camera.fx, 31.5, 23.5, 64, 48)
    depth, kept = estimate(depth_pro, picture, known)
    assert kept is known
    np.testing.assert_allclose(depth, 2 * guessed, rtol=1e-5)


def test_depth_pro_matches_the_equation_of_its_paper(depth_pro):
    """Constant canonical inverse depth c and field of view: depth = focal length / (width c)."""
    head, angle = depth_pro.model.head.layers[-2], depth_pro.model.fov_model.head.layers[-1]
    saved = [layer.weight.data.clone() for layer in (head, angle)]
    head.weight.data.zero_()
    angle.weight.data.zero_()
    depth, intrinsics = estimate(depth_pro, _picture(160, 120))
    for layer, weight in zip((head, angle), saved, strict=True):
        layer.weight.data.copy_(weight)
    focal = 80 / np.tan(np.radians(30))  # half of 160 pixels over half of 60 degrees
    assert intrinsics.fx == pytest.approx(focal, rel=1e-6)
    assert (intrinsics.cx, intrinsics.cy) == (79.5, 59.5)
    np.testing.assert_allclose(depth, focal / (160 * 0.5), rtol=1e-5)


def test_an_image_alone_has_positions_in_metres_with_depth_pro(depth_pro, tmp_path):
    checkpoint = load(str(write_tiny_checkpoint(tmp_path, "xyz")), "cpu")
    session = SpatialEngine(checkpoint, depth_pro).open(RgbdFrame(_picture(64, 48)))
    options = GenerationOptions(max_new_tokens=2)
    answer = session.ask("Where is it?", options)
    assert answer.depth_source == "estimated_metric"
    assert session.frame.intrinsics is not None


def test_a_model_that_estimates_no_depth_is_refused_by_its_type(tmp_path):
    with pytest.raises(CheckpointError, match="'llava', not one of depth_anything, depth_pro"):
        load_estimator(write_tiny_checkpoint(tmp_path), CPU)
