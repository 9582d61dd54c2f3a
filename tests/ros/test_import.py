"""Without ROS, or without the built interfaces, the node reports what is missing and what to do."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.paths import ROOT

# A finder that hides a package and its modules, then `python -m sdvlm_ros.node` or an import.
HIDE = """
import runpy, sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
sys.argv = ["sdvlm_node"]
{statement}
"""


@pytest.mark.parametrize(
    ("package", "advice"),
    [
        ("rclpy", "source /opt/ros/$ROS_DISTRO/setup.bash"),
        ("sdvlm", "colcon build --packages-select sdvlm"),
    ],
)
@pytest.mark.parametrize(
    ("statement", "shows_traceback"),
    [("runpy._run_module_as_main('sdvlm_ros.node')", False), ("import sdvlm_ros.node", True)],
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    package: str, advice: str, statement: str, shows_traceback: bool
) -> None:
    code = HIDE.format(package=package, statement=statement)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert advice in done.stderr
    assert "make setup" in done.stderr
    assert f"No module named '{package}" in done.stderr
    # An import raises ImportError; `python -m` prints the message alone.
    assert ("Traceback" in done.stderr) == shows_traceback
