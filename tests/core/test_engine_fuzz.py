"""Any frame that can be made is answered, or refused by an error that has a code."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdvlm_core.engine import load
from sdvlm_core.errors import ErrorCode, SdvlmError, error_code
from sdvlm_core.frame import DEPTH_SOURCES, CameraIntrinsics, RgbdFrame, point_at
from sdvlm_core.model.depth_encoding import EncodingSettings, encode
from sdvlm_core.model.generation_options import GenerationOptions
from tests.square_pooling import pool_square

FOCAL = st.sampled_from((5e-324, 1e-200, 1e-3, 1.0, 60.0, 600.0, 1e9, 1e200, 1.7e308))
CENTER = st.sampled_from((0.0, -0.5, 31.5, -1e9, 1e9, 1.7e308, -1.7e308))
READING = st.sampled_from(
    (0.0, -1.0, 1e-45, 1e-3, 0.5, 3.0, 70.0, 65.535, 1e6, 3.4e38, np.nan, np.inf, -np.inf)
)


@st.composite
def frames(draw) -> RgbdFrame:
    """1xN, Nx1, constant, holes with one reading; any calibration."""
    width, height = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    if draw(st.booleans()):
        width, height = draw(st.sampled_from(((1, height), (width, 1), (1, 1), (1, 900), (900, 1))))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    depth = None
    if draw(st.integers(0, 5)):
        depth = np.full((height, width), draw(READING), np.float32)
        for _ in range(draw(st.integers(0, 3))):
            depth[rng.integers(height), rng.integers(width)] = draw(READING)
        if draw(st.booleans()):
            depth[rng.random((height, width)) < 0.5] = draw(READING)
    intrinsics = None
    if draw(st.integers(0, 5)):
        intrinsics = CameraIntrinsics(
            draw(FOCAL), draw(FOCAL), draw(CENTER), draw(CENTER), width, height
        )
    rgb = rng.integers(0, 256, (height, width, 3), np.uint8)
    return RgbdFrame(rgb, depth, intrinsics, depth_source=draw(st.sampled_from(DEPTH_SOURCES)))


@pytest.fixture(scope="module")
def nano():
    return load("nano", "cpu")


def _refusal(work: Callable[[], object]) -> ErrorCode:
    """The code of the error that refuses the work; NONE = it was done."""
    try:
        work()
    except SdvlmError as error:
        return error_code(error)
    return ErrorCode.NONE


@settings(max_examples=25)
@given(frames())
def test_nano_answers_about_a_frame_or_refuses_it_with_a_code(nano, frame):
    options = GenerationOptions(max_new_tokens=3)
    code = _refusal(lambda: nano.open(frame).ask("How tall is the mug?", options))
    assert code in (ErrorCode.NONE, ErrorCode.BAD_DEPTH, ErrorCode.BAD_CAMERA_INFO)


@settings(max_examples=200)
@given(
    frames(),
    st.sampled_from(("relative", "metric", "xyz")),
    st.sampled_from(("padded", "reference")),
    st.sampled_from(("inverse", "direct", "source")),
)
def test_a_depth_code_is_finite_or_refused_with_a_code(frame, kind, alignment, orientation):
    import torch

    chosen = EncodingSettings(kind=kind, alignment=alignment, orientation=orientation)

    def work() -> None:
        if frame.depth is None:
            return
        grid = pool_square(frame.depth, frame.intrinsics, chosen, 12, frame.depth_source)
        code = encode(torch.from_numpy(grid.coordinates), torch.from_numpy(grid.valid), chosen, 64)
        assert torch.isfinite(code).all()

    assert _refusal(work) in (ErrorCode.NONE, ErrorCode.BAD_DEPTH, ErrorCode.BAD_CAMERA_INFO)


@settings(max_examples=200)
@given(frames(), st.floats(-100, 1000), st.floats(-100, 1000))
def test_a_point_of_a_frame_is_finite_or_none(frame, u, v):
    point = point_at(frame, u, v)
    assert point is None or np.isfinite((point.x, point.y, point.z)).all()
