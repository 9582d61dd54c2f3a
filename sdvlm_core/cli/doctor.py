"""`sdvlm doctor`: what works on this machine, what is missing, and how to get it.

Each check is a function that returns a `Check` and never raises. A part that could crash the
process (GL drivers, ROS middleware) is checked in a child process. Imports no optional part.
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
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sdvlm_core.cli import options
from sdvlm_core.cli.output import print_json
from sdvlm_core.frame import CameraIntrinsics, RgbdFrame
from sdvlm_core.threads import usable_cores

_PROBE_TIMEOUT_S = 30.0
_MIN_DISK_BYTES = 2e9  # a small model and a bag
_MIN_SHARED_MEMORY_BYTES = 64e6  # two Fast DDS segments of the profile in config/


class State(str, Enum):
    """The state of a checked part."""

    OK = "ok"
    MISSING = "missing"  # an optional part
    BROKEN = "broken"  # a required part


@dataclass(frozen=True)
class Check:
    """The result of one check; `remedy` states how to fix the problem, "" = no problem."""

    name: str
    state: State
    detail: str
    remedy: str = ""


def doctor(as_json: options.AsJson = False) -> None:
    """Report what works on this machine, what is missing, and how to get it.

    Exit status 1 if a required part is broken; ROS and the simulator are optional.

    Example:

      sdvlm doctor --json | jq '.checks[] | select(.state != "ok")'
    """
    with redirect_stdout(sys.stderr):
        checks = examine()
    healthy = all(check.state is not State.BROKEN for check in checks)
    if as_json:
        print_json({"ok": healthy, "checks": [asdict(check) for check in checks]})
    else:
        table = Table(box=None, show_header=False)
        colours = {State.OK: "green", State.MISSING: "yellow", State.BROKEN: "red"}
        for check in checks:
            remedy = f"\n-> {check.remedy}" if check.remedy else ""
            state = f"[{colours[check.state]}]{check.state.value}[/]"
            table.add_row(state, check.name, escape(check.detail + remedy))
        Console().print(table)
        Console().print("ready to answer" if healthy else "[red]cannot answer[/], see above")
    if not healthy:
        raise typer.Exit(1)


def examine() -> list[Check]:
    """All checks, in the order of the installation; takes a few seconds."""
    checks = [_python(), *(_package(name) for name in ("numpy", "cv2", "torch", "transformers"))]
    if all(check.state is State.OK for check in checks):
        checks += [_device(), _model()]
    return [*checks, _ros(), _front(), _gl(), _disk(), _shared_memory()]


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
    cores = f"CPU, {usable_cores()} of {os.cpu_count()} cores may be used"
    return Check("device", State.OK, f"{cores}; no CUDA")


def _model() -> Check:
    from sdvlm_core.engine import LoadOptions, load_engine

    started = time.perf_counter()
    try:
        engine = load_engine(LoadOptions("nano"))
        engine.use_threads()
        loaded = time.perf_counter() - started
        session = engine.open(_grey_frame())
        seconds = []
        for _ in range(3):
            asked = time.perf_counter()
            encode = session.ask("How tall is the red box?").timings.encode
            seconds.append(encode + time.perf_counter() - asked)
    except Exception as error:  # noqa: BLE001 - any failure is the result of the check
        remedy = "git checkout sdvlm_core/assets/nano, or install the package again"
        return Check("model nano", State.BROKEN, f"{type(error).__name__}: {error}", remedy)
    answer = statistics.median(seconds)
    detail = f"loads in {loaded:.1f} s, answers in {answer:.2f} s on {engine.checkpoint.device}"
    return Check("model nano", State.OK, detail)


def _grey_frame() -> RgbdFrame:
    """A grey 640x480 wall at 2 m: the content does not matter, only that the frame is valid."""
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


_GL_PROBE = """
import os
os.environ.setdefault("MUJOCO_GL", "egl")
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><light/></worldbody></mujoco>")
mujoco.Renderer(model, 16, 16).close()
print("mujoco", mujoco.__version__, "renders with", os.environ["MUJOCO_GL"])
"""


def _ros() -> Check:
    return _optional_part(
        "ros",
        _ROS_PROBE,
        module="sdvlm",
        install="build the interfaces: make setup, or colcon build and source install/setup.bash",
        repair="source /opt/ros/<distro>/setup.bash, or make setup; `sdvlm ask` needs no ROS",
    )


_FRONT_PROBE = """
import mcp, uvicorn
import starlette
print("starlette", starlette.__version__)
"""


def _front() -> Check:
    install = "pip install 'sdvlm-python[front]'; only `sdvlm view` and `sdvlm mcp` need it"
    return _optional_part("page", _FRONT_PROBE, "starlette", install, install)


def _gl() -> Check:
    return _optional_part(
        "simulator",
        _GL_PROBE,
        module="mujoco",
        install="pip install mujoco; only `python -m training.simulate` needs it",
        repair="apt install libegl1 libgl1-mesa-dri; only `python -m training.simulate` needs it",
    )


def _optional_part(name: str, probe: str, module: str, install: str, repair: str) -> Check:
    """Probe an optional part; the remedy is `install` if its module is missing, else `repair`."""
    worked, output = _probe(probe)
    if worked:
        return Check(name, State.OK, output)
    missing = f"No module named '{module}'" in output
    return Check(name, State.MISSING, output, install if missing else repair)


def _probe(code: str) -> tuple[bool, str]:
    """Run Python code in a child process: whether it succeeded, and its last line of output."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer within {_PROBE_TIMEOUT_S:.0f} s"
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return done.returncode == 0, lines[-1] if lines else f"exit status {done.returncode}"


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free
    detail = f"{free / 1e9:.1f} GB free here"
    if free >= _MIN_DISK_BYTES:
        return Check("disk", State.OK, detail)
    return Check("disk", State.MISSING, detail, "free some space: models and bags need gigabytes")


def _shared_memory() -> Check:
    path = Path("/dev/shm")
    if not path.is_dir():
        return Check("shared memory", State.MISSING, "no /dev/shm", "DDS falls back to UDP")
    free = shutil.disk_usage(path).free
    detail = f"{free / 1e6:.0f} MB free in /dev/shm"
    if free >= _MIN_SHARED_MEMORY_BYTES:
        return Check("shared memory", State.OK, detail)
    remedy = "images over DDS need 64 MB; in docker: --shm-size=512m"
    return Check("shared memory", State.MISSING, detail, remedy)
