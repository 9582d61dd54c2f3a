"""`import sdvlm_core` is fast, has no side effects, and provides the public names."""

from __future__ import annotations

import subprocess
import sys

import pytest

import sdvlm_core

_HEAVY = ("torch", "transformers", "numpy", "cv2", "scipy", "PIL", "rclpy")


def _loaded(statement: str) -> set[str]:
    """The heavy packages that a new interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(*(name for name in {_HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_no_heavy_library():
    assert _loaded("import sdvlm_core") == set()


def test_frames_and_errors_need_no_torch():
    statement = "from sdvlm_core import CameraIntrinsics, Measurement, SdvlmError, read_frame"
    assert _loaded(statement).isdisjoint({"torch", "transformers", "rclpy"})


def test_importing_the_package_leaves_other_loggers_alone():
    code = "import sdvlm_core, logging; print(*logging.Logger.manager.loggerDict)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", sdvlm_core.__all__)
def test_every_public_name_exists_and_is_listed(name):
    assert getattr(sdvlm_core, name) is not None
    assert name in dir(sdvlm_core)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        sdvlm_core.nothing  # noqa: B018 - the access is what is tested
