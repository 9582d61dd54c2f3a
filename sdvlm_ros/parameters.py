"""Parameters: declared once with description, range and read_only, read as one frozen dataclass.

This module is the reference of all parameters: `python -m sdvlm_ros.parameters` writes
docs/parameters.md from it, and config/spatial_query.params.yaml repeats the defaults. Does not know
how the values are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter

from sdvlm_core.answer import AnswerBy
from sdvlm_core.camera.settings import RECTIFY, CameraSettings, Rectify
from sdvlm_core.errors import ParameterError, shown
from sdvlm_core.geometry.sensor_noise import DEFAULT_SENSOR, SENSORS
from sdvlm_core.model.generation_options import GenerationOptions, Sampling
from sdvlm_ros.camera_names import refusal
from sdvlm_ros.descriptors import changeable, choice, count, fixed, number, table_row

QOS = ("sensor_data", "reliable", "system_default")
CHOICES: dict[str, tuple[str, ...]] = {
    "backend": ("local", "served"),
    "rgb_transport": ("raw", "compressed"),
    "depth_transport": ("raw", "compressedDepth"),
    "rgb_qos": QOS,
    "depth_qos": QOS,
    "info_qos": QOS,
    "sensor": tuple(SENSORS),
    "rectify": RECTIFY,
    "constrained": ("auto", "always", "never"),
    "answer_by": tuple(one.value for one in AnswerBy),
}
#: Longest target_frame, characters.
MAX_FRAME_CHARS = 255
#: Limits of the period of a standing question, seconds.
PERIOD_S = (0.1, 86_400.0)
# Logits divided by a lower temperature overflow.
MIN_TEMPERATURE = 0.01


@dataclass(frozen=True)
class Settings:
    """The node's parameters; times in seconds."""

    model: str
    backend: str
    server: str
    served_model: str
    device: str
    dtype: str
    quantization: str
    attention: str
    captured: bool
    compile: bool
    threads: int
    depth_estimator: str
    allow_download: bool
    cameras: list[str]
    autostart: bool
    exit_on_failure: bool
    rgb_transport: str
    depth_transport: str
    rgb_qos: str
    depth_qos: str
    info_qos: str
    sensor: str
    depth_unit: float
    rectify: Rectify
    gravity_frame: str
    max_pixels: int
    max_aspect: float
    max_regions: int
    measure_detections: bool
    detections_rate: float
    buffer_size: int
    queue_size: int
    max_rows: int
    sync_slop: float
    max_age: float
    timeout: float
    target_frame: str
    tf_timeout: float
    max_new_tokens: int
    temperature: float
    top_k: int
    seed: int
    constrained: str
    answer_by: str
    standing_questions: list[str]
    standing_period: float


# Name -> (default, descriptor). A parameter that is not read-only is read for every question.
PARAMETERS: dict[str, tuple[Any, ParameterDescriptor]] = {
    "model": (
        "nano",
        fixed("Model: nano, a model directory, or the name of a model from `sdvlm download`."),
    ),
    "backend": (
        "local",
        choice(
            CHOICES["backend"],
            "Where the language model runs: local = in this process; served = on `server`, and "
            "only the image encoder of `model` is loaded.",
        ),
    ),
    "server": (
        "",
        fixed(
            "URL of a vLLM server as `sdvlm serve` starts it, e.g. http://10.0.0.5:8000; its key "
            "is in the environment: SDVLM_SERVER_KEY, or the file SDVLM_SERVER_KEY_FILE."
        ),
    ),
    "served_model": ("", fixed("The model's name on the server; empty = as `model`.")),
    "device": (
        "auto",
        fixed(
            "Device of the model: auto (CUDA if available, but the CPU for a model under 200 MB), "
            "cpu, cuda, cuda:1, balanced (all GPUs)."
        ),
    ),
    "dtype": (
        "auto",
        fixed("Data type: float32, float16, bfloat16; auto = float16 on CUDA, float32 on the CPU."),
    ),
    "quantization": ("none", fixed("Quantization of the weights: none, bnb-int8 or bnb-nf4.")),
    "attention": (
        "auto",
        fixed("Attention implementation: auto, eager, sdpa or flash_attention_2."),
    ),
    "captured": (
        True,
        fixed("On one CUDA device, decode with captured graphs; false = kernel by kernel."),
    ),
    "compile": (
        False,
        fixed("Compile the decode step before it is captured: minutes at the first start."),
    ),
    "threads": (
        0,
        count(
            "Threads of the CPU that compute, at most the cores of the process; 0 = one for a "
            "small model or one on a GPU, all physical cores but one for others.",
            0,
            1024,
        ),
    ),
    "depth_estimator": (
        "",
        fixed("Directory or name of a depth network that replaces the depth topic; empty = none."),
    ),
    "allow_download": (
        False,
        fixed("Download missing models when the node is configured; never while it answers."),
    ),
    "cameras": (
        [""],
        fixed(
            "Names of the node's cameras, at most 8. Each name is before the camera's input and "
            "output topics (left/rgb/image_rect_color, ~/left/answers) and is the field `camera` "
            "of requests; all share the model, and take turns. One empty name = one camera, whose "
            "topics have no name before them."
        ),
    ),
    "autostart": (True, fixed("Configure and activate at start, without a lifecycle manager.")),
    "exit_on_failure": (
        False,
        fixed(
            "End the process with status 1 if the thread of the model has failed, so that a "
            "supervisor starts it again; otherwise the node stays, unconfigured."
        ),
    ),
    "rgb_transport": ("raw", choice(CHOICES["rgb_transport"], "Transport of colour images.")),
    "depth_transport": ("raw", choice(CHOICES["depth_transport"], "Transport of depth images.")),
    "rgb_qos": (
        "sensor_data",
        choice(
            CHOICES["rgb_qos"],
            "QoS of the colour subscription; sensor_data also matches reliable publishers.",
        ),
    ),
    "depth_qos": ("sensor_data", choice(CHOICES["depth_qos"], "QoS of the depth subscription.")),
    "info_qos": (
        "sensor_data",
        choice(CHOICES["info_qos"], "QoS of the camera_info subscription."),
    ),
    "sensor": (
        DEFAULT_SENSOR,
        choice(CHOICES["sensor"], "Noise model and range of the depth camera."),
    ),
    "depth_unit": (
        0.001,
        number(
            "Metres per unit of 16UC1 depth; 0.0001 for D405, 0.00025 for L515, which the messages "
            "do not state.",
            1e-6,
            1.0,
            read_only=True,
        ),
    ),
    "rectify": (
        "auto",
        choice(
            CHOICES["rectify"],
            "Whether the node rectifies images with lens distortion: auto = unless a word of the "
            "topic's name begins with rect or undistort, always, never.",
        ),
    ),
    "gravity_frame": (
        "",
        fixed(
            "TF frame whose +Z points up, such as base_link: up is looked up at each image's "
            "stamp; empty = from the support plane and the image."
        ),
    ),
    "max_pixels": (
        40_000_000,
        count("Largest image, pixels; a larger one is refused by its header.", 1, 10**9),
    ),
    "max_aspect": (
        8.0,
        number("Largest ratio of an image's sides.", 1.0, 1e6, read_only=True),
    ),
    "max_regions": (64, count("Largest number of regions in a request.", 1, 1000)),
    "measure_detections": (
        False,
        fixed(
            "Measure every vision_msgs/Detection2DArray of the topic `detections` on the frame of "
            "its stamp, and publish the boxes on ~/detections_3d."
        ),
    ),
    "detections_rate": (
        10.0,
        number(
            "Largest number of messages of `detections` measured in a second; of more, the newest.",
            0.01,
            1000.0,
        ),
    ),
    "buffer_size": (8, count("Undecoded messages kept for each input.", 1, 300)),
    "queue_size": (
        8,
        count("Largest number of waiting requests; more are refused with QUEUE_FULL.", 1, 1000),
    ),
    "max_rows": (
        16,
        count(
            "Largest number of questions about one frame that are decoded together; fewer where "
            "memory is short.",
            1,
            256,
        ),
    ),
    "sync_slop": (
        0.03,
        number("Largest difference of the stamps in one frame, seconds.", 0.0, 10.0),
    ),
    "max_age": (
        1.0,
        number("Largest age of an image, seconds; older images are refused.", 0.001, 1e6),
    ),
    "timeout": (
        30.0,
        number("Time limit of a request, including its time in the queue, seconds.", 0.001, 1e6),
    ),
    "target_frame": (
        "",
        changeable(
            "Frame of positions, boxes and planes where a request names none, such as base_link; "
            "empty = the colour optical frame."
        ),
    ),
    "tf_timeout": (
        0.2,
        number(
            "Longest wait for a transform to target_frame or gravity_frame, seconds.", 0.0, 60.0
        ),
    ),
    "max_new_tokens": (
        256,
        count(
            "Largest number of tokens in an answer; a longer answer is cut.",
            1,
            4096,
            read_only=False,
        ),
    ),
    "temperature": (
        0.0,
        number(
            f"Sampling temperature; 0 = greedy decoding, otherwise at least {MIN_TEMPERATURE:g}.",
            0.0,
            5.0,
        ),
    ),
    "top_k": (
        50,
        count("Sampling uses the top_k most probable tokens; 0 = all.", 0, 10**6, False),
    ),
    "seed": (0, count("Seed of the sampling.", 0, 2**31 - 1, read_only=False)),
    "constrained": (
        "auto",
        choice(
            CHOICES["constrained"],
            "Whether questions for one number are answered in a JSON form, which needs no reading: "
            "auto = by chat models, as SD-VLM and nano know their own form, always, never.",
            read_only=False,
        ),
    ),
    "answer_by": (
        AnswerBy.BOTH.value,
        choice(
            CHOICES["answer_by"],
            "Whose numbers an answer has: both = the model's, and with verify geometry's beside "
            "them; geometry = those measured from depth alone, for every question; language = the "
            "model's alone, and verify is refused.",
            read_only=False,
        ),
    ),
    "standing_questions": (
        [""],
        fixed("Questions in words that the active node asks itself again and again (~/ask_every)."),
    ),
    "standing_period": (
        10.0,
        number("Seconds from one time to the next for standing_questions.", *PERIOD_S, True),
    ),
}


def declare(node: Node) -> None:
    """Declare every parameter; overrides from the command line and yaml apply here.

    Raises:
        ParameterError: an override has the wrong type, range or choice, or names no parameter.
    """
    node.add_on_set_parameters_callback(_check)
    for name, (default, descriptor) in PARAMETERS.items():
        try:
            node.declare_parameter(name, default, descriptor)
        except ParameterException as error:
            whole = isinstance(default, float) and "'INTEGER'" in str(error)
            remedy = "; write it with a decimal point, for example 1.0" if whole else ""
            raise ParameterError(f"parameter {name}: {error}{remedy}") from error
    # rclpy has no public list of undeclared overrides. QoS overrides are declared with their
    # subscription.
    given = node._parameter_overrides
    unknown = [n for n in given if not node.has_parameter(n) and not n.startswith("qos_overrides.")]
    if unknown:
        raise ParameterError("; ".join(map(_unknown, sorted(unknown))))


def _unknown(name: str) -> str:
    near = get_close_matches(name, PARAMETERS, 1)
    hint = f"did you mean {near[0]}?" if near else "see docs/parameters.md"
    return f"there is no parameter '{shown(name)}', {hint}"


def _check(changed: list[Parameter[Any]]) -> SetParametersResult:
    """Validate conditions that a range cannot express."""
    for parameter in changed:
        choices = CHOICES.get(parameter.name)
        if choices is not None and parameter.value not in choices:
            reason = f"'{shown(str(parameter.value))}' is not one of {', '.join(choices)}"
            return SetParametersResult(successful=False, reason=reason)
        if parameter.name == "cameras" and (reason := refusal(parameter.value)):
            return SetParametersResult(successful=False, reason=reason)
        if parameter.name == "target_frame" and len(parameter.value) > MAX_FRAME_CHARS:
            reason = f"target_frame has more than {MAX_FRAME_CHARS} characters"
            return SetParametersResult(successful=False, reason=reason)
        if parameter.name == "temperature" and 0 < parameter.value < MIN_TEMPERATURE:
            reason = (
                f"temperature must be 0 or at least {MIN_TEMPERATURE:g}, not {parameter.value:g}"
            )
            return SetParametersResult(successful=False, reason=reason)
    return SetParametersResult(successful=True)


def read(node: Node) -> Settings:
    """The current values."""
    values = {name: node.get_parameter(name).value for name in PARAMETERS}
    return Settings(**values | {"cameras": [*values["cameras"]]})


def camera_settings(settings: Settings) -> CameraSettings:
    """How the camera's messages become a frame."""
    return CameraSettings(
        depth_unit_m=settings.depth_unit,
        range_m=SENSORS[settings.sensor].range_m,
        rectify=settings.rectify,
        max_pixels=settings.max_pixels,
        max_aspect=settings.max_aspect,
    )


def read_generation(node: Node) -> GenerationOptions:
    """The current settings; a queued question keeps the settings it was queued with."""
    limit, temperature, top_k, seed, constrained = (
        node.get_parameter(name).value
        for name in ("max_new_tokens", "temperature", "top_k", "seed", "constrained")
    )
    sampling = Sampling(temperature, top_k, seed) if temperature else None
    as_json = None if constrained == "auto" else constrained == "always"
    return GenerationOptions(max_new_tokens=limit, sampling=sampling, constrained=as_json)


def document() -> str:
    """docs/parameters.md: a table of every parameter, from the declarations."""
    lines = [
        "# Parameters of the node",
        "",
        "Written by `python -m sdvlm_ros.parameters > docs/parameters.md` from the declarations in",
        "`sdvlm_ros/parameters.py`; `ros2 param describe /spatial_query NAME` prints the same.",
        "An unknown name is an error at start. Parameters marked *running* may be changed at any",
        "time and apply to the next question; the others are read when the node is configured.",
        "Every ROS 2 node also has `qos_overrides.*` and `use_sim_time`.",
        "",
        "| name | default | range | changed | meaning |",
        "|---|---|---|---|---|",
    ]
    lines += [table_row(name, *declared) for name, declared in PARAMETERS.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(document(), end="")
