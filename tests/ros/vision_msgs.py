"""vision_msgs for tests: built from field lists, because the wheels of ROS have no such package.

The fields are those of vision_msgs 4 (ROS 2 Humble to Kilted). The package is built once with CMake
into build/, under a hash of the lists and of the interpreter. If ROS has the package, it is used.

    python -m tests.ros.vision_msgs    # builds, and prints the prefix
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.paths import ROOT

MESSAGES = {
    "Point2D": ["float64 x", "float64 y"],
    "Pose2D": ["Point2D position", "float64 theta"],
    "BoundingBox2D": ["Pose2D center", "float64 size_x", "float64 size_y"],
    "BoundingBox3D": ["geometry_msgs/Pose center", "geometry_msgs/Vector3 size"],
    "ObjectHypothesis": ["string class_id", "float64 score"],
    "ObjectHypothesisWithPose": [
        "ObjectHypothesis hypothesis",
        "geometry_msgs/PoseWithCovariance pose",
    ],
    "Detection2D": [
        "std_msgs/Header header",
        "ObjectHypothesisWithPose[] results",
        "BoundingBox2D bbox",
        "string id",
    ],
    "Detection2DArray": ["std_msgs/Header header", "Detection2D[] detections"],
    "Detection3D": [
        "std_msgs/Header header",
        "ObjectHypothesisWithPose[] results",
        "BoundingBox3D bbox",
        "string id",
    ],
    "Detection3DArray": ["std_msgs/Header header", "Detection3D[] detections"],
}
_PACKAGE = """\
<package format="3">
  <name>vision_msgs</name>
  <version>4.0.0</version>
  <description>The messages of the tests.</description>
  <maintainer email="maintainers@users.noreply.github.com">sdvlm maintainers</maintainer>
  <license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <buildtool_depend>rosidl_default_generators</buildtool_depend>
  <depend>geometry_msgs</depend>
  <depend>std_msgs</depend>
  <member_of_group>rosidl_interface_packages</member_of_group>
  <export><build_type>ament_cmake</build_type></export>
</package>
"""
_CMAKE = """\
cmake_minimum_required(VERSION 3.16)
project(vision_msgs)
# So that a process that is already running finds the libraries, too.
set(CMAKE_INSTALL_RPATH "$ORIGIN;$ORIGIN/../../..")
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
find_package(geometry_msgs REQUIRED)
find_package(std_msgs REQUIRED)
rosidl_generate_interfaces(vision_msgs {files} DEPENDENCIES geometry_msgs std_msgs)
ament_package()
"""


def is_installed() -> bool:
    """Whether ROS has the package."""
    return importlib.util.find_spec("vision_msgs") is not None


def build() -> Path:
    """The prefix of the built package; takes half a minute for the first time."""
    files = {f"msg/{name}.msg": "\n".join(fields) + "\n" for name, fields in MESSAGES.items()}
    files["CMakeLists.txt"] = _CMAKE.format(files=" ".join(files))
    files["package.xml"] = _PACKAGE
    content = repr((sys.prefix, sys.version, files)).encode()
    directory = ROOT / "build" / f"vision_msgs-{hashlib.sha256(content).hexdigest()[:12]}"
    prefix, done = directory / "prefix", directory / "done"
    if done.exists():
        return prefix
    for name, text in files.items():
        path = directory / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    python = Path(sys.prefix, "bin", "python")
    environment = os.environ | {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    configure = [
        *("cmake", "-S", directory / "source", "-B", directory / "build", "-G", "Ninja"),
        f"-DCMAKE_PROJECT_INCLUDE={ROOT / 'cmake/wheels.cmake'}",
        f"-DPython3_EXECUTABLE={python}",
        f"-DCMAKE_INSTALL_PREFIX={prefix}",
        "-DBUILD_TESTING=OFF",
    ]
    for command in (configure, ["cmake", "--build", directory / "build", "--target", "install"]):
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]
    done.touch()
    return prefix


def environment(prefix: Path) -> dict[str, str]:
    """What another process needs to import the package from a prefix."""
    return {
        name: os.pathsep.join(filter(None, [str(path), os.environ.get(name, "")]))
        for name, path in (("PYTHONPATH", packages(prefix)), ("LD_LIBRARY_PATH", prefix / "lib"))
    }


def packages(prefix: Path) -> Path:
    """The directory of a prefix that belongs on sys.path."""
    return prefix / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)


def load_libraries(prefix: Path) -> None:
    """Load the package's libraries into this process.

    The middleware loads them by name, and the search path of a running process cannot be changed.
    """
    for library in sorted(prefix.glob("lib/libvision_msgs__rosidl_typesupport_*_c.so")):
        ctypes.CDLL(str(library))


if __name__ == "__main__":
    print(build())
