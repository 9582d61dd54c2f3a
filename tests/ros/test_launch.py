"""Camera presets are complete. If launch is installed, launch files start the node and RViz."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import yaml

from sdvlm_core.geometry.sensor_noise import SENSORS
from sdvlm_ros.client import SpatialClient, SpatialQueryFailed
from sdvlm_ros.launch_arguments import check_rviz, params_file, token, truth
from tests.ros.conftest import ROOT
from tests.waiting import PATIENCE_S

PRESETS = sorted((ROOT / "config" / "cameras").glob("*.yaml"))
FILES = ("spatial_query", "replay", "demo")


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_names_every_topic_and_a_sensor_that_exists(path: Path) -> None:
    preset = yaml.safe_load(path.read_text())
    assert set(preset) == {"topics", "parameters"}
    assert set(preset["topics"]) == {"rgb", "depth", "info"}
    assert preset["parameters"]["sensor"] in SENSORS
    assert 1e-5 < preset["parameters"]["depth_unit"] < 1e-2
    assert preset["parameters"]["rgb_transport"] in ("raw", "compressed")
    assert preset["parameters"]["depth_transport"] in ("raw", "compressedDepth")


def test_every_camera_that_the_issue_names_has_a_preset() -> None:
    known = {"realsense", "zed", "oak_d", "orbbec", "azure_kinect", "simulated"}
    known |= {"realsense_d405", "realsense_l515"}
    assert {path.stem for path in PRESETS} == known


@pytest.mark.parametrize(
    ("name", "sensor", "unit_m"), [("d405", "d405", 0.0001), ("l515", "l515", 0.00025)]
)
def test_a_camera_with_another_unit_of_depth_has_it_in_its_preset(
    name: str, sensor: str, unit_m: float
) -> None:
    path = ROOT / "config" / "cameras" / f"realsense_{name}.yaml"
    parameters = yaml.safe_load(path.read_text())["parameters"]
    assert (parameters["sensor"], parameters["depth_unit"]) == (sensor, unit_m)


# The tests below need launch, which ROS provides; there is no wheel.


def described(name: str) -> Any:
    """The launch file's module, loaded as by launch."""
    reason = "launch is not installed; it comes with ROS and not as a wheel"
    # Not "launch", because that name also matches the directory launch/ of this repository.
    pytest.importorskip("launch.actions", reason=reason)
    pytest.importorskip("launch_ros.actions", reason=reason)
    packages = pytest.importorskip("ament_index_python.packages")
    try:
        packages.get_package_share_directory("sdvlm")
    except packages.PackageNotFoundError:
        pytest.skip("the package sdvlm is not installed")
    spec = spec_from_file_location("launch_file", ROOT / "launch" / f"{name}.launch.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def arguments(name: str) -> dict[str, Any]:
    entities = described(name).generate_launch_description().entities
    from launch.actions import DeclareLaunchArgument

    return {entity.name: entity for entity in entities if isinstance(entity, DeclareLaunchArgument)}


def started_with(**given: str) -> tuple[Any, list[Any]]:
    """The context, and what spatial_query.launch.py starts: the node, and RViz if requested."""
    module = described("spatial_query")
    from launch import LaunchContext

    context = LaunchContext()
    for name, (default, _) in module.ARGUMENTS.items():
        context.launch_configurations[name] = given.get(name, default)
    return context, module.nodes(context)


def remappings_of(node: Any) -> dict[str, str]:
    return {source[0].text: target[0].text for source, target in node._Node__remappings}


def node_of(**given: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Remappings and parameters of the node, without those of params_file."""
    context, (node,) = started_with(**given)
    from launch_ros.utilities import evaluate_parameters

    merged: dict[str, Any] = {}
    for parameters in evaluate_parameters(context, node._Node__parameters):
        if isinstance(parameters, dict):
            merged |= parameters
    return remappings_of(node), merged


@pytest.mark.parametrize("name", FILES)
def test_every_launch_argument_has_a_description(name: str) -> None:
    assert all(argument.description for argument in arguments(name).values())


def test_the_node_has_the_usual_launch_arguments() -> None:
    expected = {"namespace", "params_file", "use_sim_time", "autostart", "log_level", "rviz"}
    expected |= {"camera", "respawn", "node_name", "namespace_tf"}
    assert expected <= set(arguments("spatial_query"))


def test_tf_is_global_and_with_namespace_tf_that_of_the_namespace() -> None:
    remappings, _ = node_of(namespace="robot1")
    assert not {"/tf", "/tf_static"} & set(remappings)
    remappings, _ = node_of(namespace="robot1", namespace_tf="true")
    assert (remappings["/tf"], remappings["/tf_static"]) == ("tf", "tf_static")


def test_a_node_has_the_given_name() -> None:
    _, (node,) = started_with(node_name="wrist_view")
    assert node._Node__node_name == "wrist_view"
    with pytest.raises(ValueError, match="node_name:='arm/view' is not a name"):
        started_with(node_name="arm/view")


def test_a_preset_remaps_the_inputs_by_their_base_names() -> None:
    remappings, parameters = node_of(camera="realsense")
    color = "camera/camera/color/image_raw"
    assert remappings["rgb/image_rect_color"] == color
    assert remappings["rgb/camera_info"] == "camera/camera/color/camera_info"
    assert parameters["sensor"] == "realsense"


def test_a_presets_topics_are_relative_for_drivers_in_a_namespace() -> None:
    presets = sorted((ROOT / "config" / "cameras").glob("*.yaml"))
    topics = [
        topic
        for preset in presets
        for topic in yaml.safe_load(preset.read_text())["topics"].values()
    ]
    assert len(topics) == 3 * len(presets)
    assert not [topic for topic in topics if topic.startswith("/")]


def test_several_cameras_have_their_own_topics() -> None:
    _, parameters = node_of(cameras="left, right")
    assert list(parameters["cameras"]) == ["left", "right"]
    remappings, parameters = node_of(
        cameras="left,right",
        camera="realsense",
        rgb="/{camera}/color/image_raw",
        depth="/{camera}/aligned_depth_to_color/image_raw",
        info="/{camera}/color/camera_info",
        detections="yolo/{camera}",
    )
    assert remappings["left/rgb/image_rect_color"] == "/left/color/image_raw"
    assert remappings["right/rgb/camera_info"] == "/right/color/camera_info"
    assert remappings["right/detections"] == "yolo/right"
    assert "rgb/image_rect_color" not in remappings
    assert parameters["sensor"] == "realsense"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"cameras": "left,left"}, "has the name left twice"),
        ({"cameras": "left,1"}, "has the name '1'"),
        ({"cameras": "_left"}, "with a letter first"),
        ({"cameras": "a,b,c,d,e,f,g,h,i"}, "has 9 names; it must have 1 to 8"),
        ({"cameras": "left,right", "rgb": "/image"}, "rgb:='/image' is one topic for the cameras"),
        ({"cameras": "left,right", "camera": "zed"}, "is of one camera only: set rgb:="),
    ],
)
def test_cameras_that_would_share_a_topic_are_refused(
    arguments: dict[str, str], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        node_of(**arguments)


def test_the_unit_of_depth_of_a_preset_can_be_overridden() -> None:
    assert node_of(camera="realsense_d405")[1]["depth_unit"] == 0.0001
    assert node_of(camera="realsense_d405", depth_unit="0.001")[1]["depth_unit"] == 0.001
    with pytest.raises(ValueError, match="depth_unit:='mm' is not a number"):
        node_of(depth_unit="mm")


def test_an_explicit_argument_overrides_the_preset() -> None:
    remappings, parameters = node_of(camera="zed", rgb="/mine", rgb_transport="compressed")
    assert remappings["rgb/image_rect_color"] == "/mine"
    assert remappings["depth_registered/image_rect"] == "zed/zed_node/depth/depth_registered"
    assert parameters["rgb_transport"] == "compressed"


def test_a_detectors_topic_is_remapped_and_measured() -> None:
    remappings, parameters = node_of(detections="/yolo/detections")
    assert remappings["detections"] == "/yolo/detections"
    assert parameters["measure_detections"] is True
    remappings, parameters = node_of()
    assert "detections" not in remappings
    assert "measure_detections" not in parameters


def test_without_a_preset_the_params_file_applies() -> None:
    remappings, parameters = node_of()
    assert remappings["rgb/image_rect_color"] == "rgb/image_rect_color"
    assert parameters == {}


def test_a_given_argument_overrides_the_params_file() -> None:
    _, parameters = node_of(use_sim_time="true", autostart="false")
    assert parameters == {"use_sim_time": True, "autostart": False}


@pytest.mark.parametrize(
    ("word", "expected"),
    [("1", True), ("True", True), ("yes", True), ("on", True), ("0", False), ("No", False)],
)
def test_the_usual_words_for_true_and_false_are_understood(word: str, expected: bool) -> None:
    assert truth("autostart", word) == expected


def test_another_word_for_true_is_an_error_that_names_the_argument() -> None:
    with pytest.raises(ValueError, match="autostart:='maybe' is neither true nor false"):
        truth("autostart", "maybe")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "there is no such file"),
        ("a: [", "not readable as YAML"),
        ("- 1\n", "has no mapping"),
        ("/**:\n  ros_parameters:\n    max_age: 1.0\n", "'ros_parameters'; it must be ros__para"),
        ("robot:\n  spatial_query:\n    ros__parameter: {}\n", "'robot/spatial_query' has the key"),
        ("/**:\n  max_age: 1.0\n", "has no ros__parameters"),
    ],
)
def test_a_wrong_params_file_is_an_error_that_names_it(
    tmp_path: Path, content: str | None, text: str
) -> None:
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=text) as error:
        params_file(str(path))
    assert str(path) in str(error.value)


def test_the_shipped_params_file_and_nested_namespaces_are_accepted(tmp_path: Path) -> None:
    shipped = str(ROOT / "config" / "spatial_query.params.yaml")
    assert params_file(shipped) == shipped
    nested = tmp_path / "nested.yaml"
    nested.write_text("robot:\n  arm:\n    spatial_query:\n      ros__parameters: {}\n")
    assert params_file(str(nested), "robot/arm/spatial_query") == str(nested)


@pytest.mark.parametrize(
    ("entry", "node"),
    [
        ("/**", "/spatial_query"),
        ("/**", "/robot/arm/view"),
        ("spatial_query", "spatial_query"),
        ("/robot/view", "/robot/view"),
        ("/*/view", "robot/view"),
        ("/**/view", "/view"),
    ],
)
def test_a_params_file_is_for_the_nodes_that_rcl_matches(
    tmp_path: Path, entry: str, node: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f'"{entry}":\n  ros__parameters: {{}}\n')
    assert params_file(str(path), node) == str(path)


@pytest.mark.parametrize(
    ("entry", "node"),
    [
        ("spatial_query", "/robot/spatial_query"),
        ("spatial_query", "/wrist_view"),
        ("/*/view", "/view"),
        ("/robot.1/view", "/robot_1/view"),
    ],
)
def test_a_params_file_for_other_nodes_only_is_an_error_and_not_ignored(
    tmp_path: Path, entry: str, node: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f'"{entry}":\n  ros__parameters: {{}}\n')
    with pytest.raises(ValueError, match=f"not for the node {node} .*node_name"):
        params_file(str(path), node)


def test_the_name_of_a_node_is_one_name() -> None:
    assert token("node_name", "wrist_view") == "wrist_view"
    for wrong in ("", "/view", "1st", "arm-view", "view\n"):
        with pytest.raises(ValueError, match="use letters"):
            token("node_name", wrong)


def test_rviz_that_is_not_installed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(ROOT))
    with pytest.raises(ValueError, match="install ros-"):
        check_rviz()


def test_respawn_makes_the_node_exit_when_its_model_fails() -> None:
    _, parameters = node_of(respawn="yes")
    assert parameters == {"exit_on_failure": True}
    _, (node,) = started_with(respawn="yes")
    assert node._ExecuteLocal__respawn
    _, (node,) = started_with()
    assert not node._ExecuteLocal__respawn


def test_rviz_uses_the_nodes_topics_and_clock_and_the_given_fixed_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sdvlm_ros.launch_arguments.check_rviz", lambda: None)
    context, (node, rviz) = started_with(
        rviz="true", camera="realsense", use_sim_time="true", fixed_frame="base_link"
    )
    from launch.utilities import perform_substitutions
    from launch_ros.utilities import evaluate_parameters

    topics = {f"spatial_query/{topic}" for topic in ("annotated_image", "markers")}
    assert remappings_of(rviz) == remappings_of(node) | {topic: topic for topic in topics}
    assert evaluate_parameters(context, rviz._Node__parameters) == ({"use_sim_time": True},)
    words = [perform_substitutions(context, word) for word in rviz.cmd[1:5]]
    assert words[words.index("-f") + 1] == "base_link"
    assert len(started_with()[1]) == 1


def test_the_demo_answers_and_ends_with_the_launch_process(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    described("demo")
    pytest.importorskip("ros2launch", reason="ros2launch is not installed; it comes with ROS")
    # Runs `ros2 launch` in a separate session: SIGINT must end all processes that it started.
    script = "import sys; from ros2cli.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", script, "launch", "sdvlm", "demo.launch.py", "namespace:=demo"]
    log = tmp_path / "launch.log"
    with log.open("w") as output:
        launched = subprocess.Popen(
            [*command, f"python:={sys.executable}"],
            env=os.environ | {"ROS_LOG_DIR": str(tmp_path)},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # If a shell runs the tests in the background, they and their child processes ignore
            # SIGINT.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        with SpatialClient("/demo/spatial_query") as client:
            client.wait_for_node(PATIENCE_S)
            assert answered(client, launched), log.read_text()
        launched.send_signal(signal.SIGINT)
        assert launched.wait(PATIENCE_S) == 0, log.read_text()
        assert log.read_text().count("process has finished cleanly") == 2
    finally:
        if launched.poll() is None:
            os.killpg(launched.pid, signal.SIGKILL)


def answered(client: SpatialClient, launched: subprocess.Popen[bytes]) -> bool:
    """Whether the node answers within two minutes after it is active and has a frame."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and launched.poll() is None:
        try:
            return client.ask("How tall is the red mug?").text != ""
        except SpatialQueryFailed:
            time.sleep(0.5)
    return False
