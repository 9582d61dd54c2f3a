"""What works on this machine, what does not, and how to get it: the checks of `sdvlm doctor`.

Each check is a function that returns a `Check` and never raises. What could take the process down
with it (GL drivers, ROS middleware) runs in a child. Knows the names of optional parts, but
imports none of them here; prints nothing.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np

from sdvlm_core.frame import CameraIntrinsics, RgbdFrame

PROBE_SECONDS = 30.0
_LEAST_DISK = 2e9  # bytes; what a small download and a bag want
_LEAST_SHARED_MEMORY = 64e6  # bytes; two Fast DDS segments of the profile that config/ ships


class State(str, Enum):
    """How a check ended."""

    OK = "ok"
    MISSING = "missing"  # something optional
    BROKEN = "broken"  # something that answering needs


@dataclass(frozen=True)
class Check:
    """One finding; `remedy` says how to get what is missing, "" when nothing is."""

    name: str
    state: State
    detail: str
    remedy: str = ""


def examine() -> list[Check]:
    """All checks, in the order in which one would set a machine up; takes a few seconds."""
    checks = [_python(), *(_package(name) for name in ("numpy", "cv2", "torch", "transformers"))]
    if all(check.state is State.OK for check in checks):
        checks += [_device(), _model()]
    return [*checks, _ros(), _gl(), _disk(), _shared_memory()]


def _python() -> Check:
    return Check("python", State.OK, f"{platform.python_version()} at {sys.executable}")


def _package(name: str) -> Check:
    try:
        module = importlib.import_module(name)
    except (ImportError, OSError) as error:  # OSError: a shared library that does not load
        pip_name = {"cv2": "opencv-python-headless"}.get(name, name)
        return Check(name, State.BROKEN, str(error), f"pip install {pip_name}, or make setup")
    return Check(name, State.OK, str(getattr(module, "__version__", "present")))


def _device() -> Check:
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        return Check("device", State.OK, f"{name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free")
    threads = torch.get_num_threads()
    return Check("device", State.OK, f"CPU, {threads} threads of {os.cpu_count()} cores; no CUDA")


def _model() -> Check:
    from sdvlm_core.engine import SpatialEngine
    from sdvlm_core.model.checkpoint import NANO, load

    started = time.perf_counter()
    try:
        engine = SpatialEngine(load(NANO))
        loaded = time.perf_counter() - started
        session = engine.open(_grey_frame())
        seconds = []
        for _ in range(3):
            asked = time.perf_counter()
            encode = session.ask("How tall is the red box?").timings.encode
            seconds.append(encode + time.perf_counter() - asked)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        remedy = "git checkout sdvlm_core/assets/nano, or install the package again"
        return Check("model nano", State.BROKEN, f"{type(error).__name__}: {error}", remedy)
    answer = statistics.median(seconds)
    detail = f"loads in {loaded:.1f} s, answers in {answer:.2f} s on {engine.checkpoint.device}"
    return Check("model nano", State.OK, detail)


def _grey_frame() -> RgbdFrame:
    """A 640x480 wall at 2 m: what it shows does not matter, only that it is a legal frame."""
    return RgbdFrame(
        np.full((480, 640, 3), 127, np.uint8),
        np.full((480, 640), 2.0, np.float32),
        CameraIntrinsics(525.0, 525.0, 319.5, 239.5, 640, 480),
    )


_ROS_PROBE = """
import rclpy
from rclpy.utilities import get_rmw_implementation_identifier
import os
print(os.environ.get("ROS_DISTRO", "wheels"), get_rmw_implementation_identifier())
import sdvlm.srv
"""


def _ros() -> Check:
    worked, output = _probe(_ROS_PROBE)
    if worked:
        return Check("ros", State.OK, output)
    if "No module named 'sdvlm'" in output:
        remedy = "build the interfaces: make setup, or colcon build and source install/setup.bash"
    else:
        remedy = "source /opt/ros/<distro>/setup.bash, or make setup; `sdvlm ask` needs no ROS"
    return Check("ros", State.MISSING, output, remedy)


_GL_PROBE = """
import os
os.environ.setdefault("MUJOCO_GL", "egl")
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><light/></worldbody></mujoco>")
mujoco.Renderer(model, 16, 16).close()
print("mujoco", mujoco.__version__, "renders with", os.environ["MUJOCO_GL"])
"""


def _gl() -> Check:
    worked, output = _probe(_GL_PROBE)
    if worked:
        return Check("simulator", State.OK, output)
    if "No module named 'mujoco'" in output:
        remedy = "pip install mujoco; only `python -m training.simulate` needs it"
    else:
        remedy = "apt install libegl1 libgl1-mesa-dri; only `python -m training.simulate` needs it"
    return Check("simulator", State.MISSING, output, remedy)


def _probe(code: str) -> tuple[bool, str]:
    """Run Python code in a child: whether it ended well, and its last line of output."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer within {PROBE_SECONDS:.0f} s"
    said = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return done.returncode == 0, said[-1] if said else f"exit status {done.returncode}"


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free
    detail = f"{free / 1e9:.1f} GB free here"
    if free >= _LEAST_DISK:
        return Check("disk", State.OK, detail)
    return Check("disk", State.MISSING, detail, "free some space: models and bags are gigabytes")


def _shared_memory() -> Check:
    path = Path("/dev/shm")
    if not path.is_dir():
        return Check("shared memory", State.MISSING, "no /dev/shm", "DDS falls back to UDP")
    free = shutil.disk_usage(path).free
    detail = f"{free / 1e6:.0f} MB free in /dev/shm"
    if free >= _LEAST_SHARED_MEMORY:
        return Check("shared memory", State.OK, detail)
    remedy = "images over DDS want 64 MB; in docker: --shm-size=512m"
    return Check("shared memory", State.MISSING, detail, remedy)
