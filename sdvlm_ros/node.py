"""SpatialQueryNode: answers spatial questions about the images of a camera.

Connects subscriptions, dispatcher, services, action and publishers, and implements the life cycle:
configure loads the model, activate subscribes. Decodes nothing, computes nothing, and never blocks
the executor on the model; does not know how an answer is found (`sdvlm_core`).

    ros2 run sdvlm sdvlm_node --ros-args -p model:=nano -r rgb/image_rect_color:=/camera/color/...
"""

from __future__ import annotations

import sys
import time
import traceback
from dataclasses import asdict
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn

from sdvlm_core.errors import ParameterError, SdvlmError
from sdvlm_ros import diagnostics, parameters, process
from sdvlm_ros.action import ReasoningAction
from sdvlm_ros.dispatch import Backend, Dispatcher
from sdvlm_ros.parameters import Settings
from sdvlm_ros.publishers import Publishers
from sdvlm_ros.services import Services
from sdvlm_ros.subscriptions import SILENCE_S
from sdvlm_ros.transforms import Transforms
from sdvlm_ros.visualization import Visualization

if TYPE_CHECKING:
    from sdvlm_core.engine import SpatialEngine

# Time between two warnings about a missing input, seconds.
_REMINDER_S = 5.0


class SpatialQueryNode(process.ServedNode):
    """Answers questions about the newest frame of an RGB-D camera.

    Subscribes (relative names; SensorData QoS by default, see the parameters and `qos_overrides`):
        rgb/image_rect_color, depth_registered/image_rect, rgb/camera_info; with a compressed
        transport the topics of image_transport, <topic>/compressed and <topic>/compressedDepth.
        With the parameter depth_estimator there is no depth subscription.
    Services: ~/query (sdvlm/srv/SpatialQuery), ~/measure_regions (sdvlm/srv/MeasureRegions: from
        depth alone, without the model), ~/capture (std_srvs/srv/Trigger: hold the newest
        frame, so that later questions can name its stamp).
    Action: ~/reason (sdvlm/action/SpatialReasoning: several questions on one frame).
    Publishes: ~/answers (sdvlm/msg/SpatialAnswer), ~/latency (sdvlm/msg/Latency), ~/markers and
        ~/annotated_image (see `sdvlm_ros.visualization`), /diagnostics at 1 Hz.
    Parameters: docs/parameters.md, from `sdvlm_ros.parameters`.

    Raises:
        ParameterError: an unknown parameter was given, or one with an invalid value.
    """

    def __init__(self) -> None:
        super().__init__("spatial_query")
        parameters.declare(self)
        self._engine: SpatialEngine | None = None
        self._configure_error = ""
        self._problem_since: float | None = None
        self._visualization = Visualization(self)
        self._dispatcher = Dispatcher(self, self._why_not_ready, self._visualization)
        self._answer_publishers = Publishers(self)
        self._transforms = Transforms(self)
        backend = Backend(self._dispatcher, self._answer_publishers, self._transforms)
        self._query_services = Services(self, backend)
        self._reasoning_action = ReasoningAction(self, backend)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Not the node's clock: a paused bag must not stop the diagnostics.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._monitor_timer = self.create_timer(1.0, self._monitor, clock=steady)

    # The life cycle. rclpy hides an exception in a transition behind the state ERROR, so each
    # transition catches and logs its own.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model; FAILURE with the reason in the log when it cannot be loaded."""
        try:
            self._engine = load_model(parameters.read(self), self.get_logger())
        except Exception as error:  # noqa: BLE001 - logged here, and reported in every error reply
            self._configure_error = f"{type(error).__name__}: {error}"
            log_load_error(error, self.get_parameter("model").value, self.get_logger())
            return TransitionCallbackReturn.FAILURE
        self._configure_error = ""
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe, and start the worker threads."""
        if self._engine is None:
            return TransitionCallbackReturn.FAILURE
        try:
            self._dispatcher.start(self._engine, parameters.read(self))
            self._transforms.listen()
        except Exception as error:  # noqa: BLE001 - usually an invalid QoS override
            self.get_logger().error(f"cannot be activated: {error}")
            self.get_logger().debug(traceback.format_exc())
            self.close()
            return TransitionCallbackReturn.FAILURE
        self.get_logger().info("ready for questions on ~/query")
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe; waiting and running questions and goals are canceled."""
        self.close()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model."""
        self._free()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Deactivate and free the model, from any state."""
        self._free()
        return super().on_shutdown(state)

    def autostart(self) -> None:
        """Configure and activate, if the parameter `autostart` is true."""
        if not self.get_parameter("autostart").value:
            return
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def close(self) -> None:
        """Unsubscribe, cancel all requests, end the threads; may be called twice."""
        self._dispatcher.stop()
        self._transforms.close()
        self._problem_since = None

    @property
    def active(self) -> bool:
        """Whether questions are accepted."""
        return self._dispatcher.subscriptions is not None

    @property
    def in_flight(self) -> int:
        """Requests and goals without a reply."""
        return self._dispatcher.in_flight

    def _free(self) -> None:
        self.close()
        self._engine = None
        process.release_memory()

    def _why_not_ready(self) -> str:
        if self._configure_error:
            return f"the model did not load: {self._configure_error}"
        return f"the node is {self._state_label()}, not active; configure and activate it"

    def _state_label(self) -> str:
        return str(self._state_machine.current_state[1])

    # Once a second.

    def _monitor(self) -> None:
        """Log what is wrong with the inputs, and publish the node's state to /diagnostics."""
        subscriptions, dispatcher = self._dispatcher.subscriptions, self._dispatcher
        problem = subscriptions.problem() if subscriptions is not None else ""
        now = time.monotonic()
        since = self._problem_since = (self._problem_since or now) if problem else None
        # Not immediately, because discovery takes time.
        if since is not None and now - since > SILENCE_S:
            self.get_logger().warning(f"no new frame: {problem}", throttle_duration_sec=_REMINDER_S)
        health = diagnostics.Health(
            state=self._state_label(),
            model_id=self._engine.model_id if self._engine is not None else "",
            configure_error=self._configure_error,
            problem=problem,
            notes=tuple(subscriptions.notes()) if subscriptions is not None else (),
            last_error=dispatcher.last_error,
            answered=dispatcher.answered,
            canceled=dispatcher.canceled,
            failed=dispatcher.failed,
            waiting=dispatcher.waiting,
            latency=self._answer_publishers.latency,
            resident_bytes=process.resident_bytes(),
            gpu_bytes=process.gpu_bytes(),
        )
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        name = f"{self.get_fully_qualified_name()}: questions"
        message.status = [diagnostics.status(name, health, subscriptions)]
        self._diagnostics.publish(message)


def load_model(settings: Settings, logger: RcutilsLogger) -> SpatialEngine:
    """Load the model of the settings, and warm it up.

    Raises:
        CheckpointError: the model is missing, incomplete, or cannot run on this machine.
        ImportError: a package that the model needs is not installed.
    """
    # Imported here, because the interfaces and error replies do not need torch.
    from sdvlm_core.engine import LoadOptions, load_engine
    from sdvlm_core.model import hub

    started = time.monotonic()
    if settings.allow_download:
        for name in filter(None, (settings.model, settings.depth_estimator)):
            hub.obtain(name, logger.info)
    engine = load_engine(
        LoadOptions(
            model=settings.model,
            device=settings.device,
            dtype=settings.dtype,
            quantization=settings.quantization,
            attention=settings.attention,
            depth_estimator=settings.depth_estimator,
        )
    )
    if engine.estimator is not None:
        logger.warning(
            f"depth is estimated by {engine.estimator.name} ({engine.estimator.source}), "
            "not measured"
        )
    engine.warm_up()
    logger.info(
        f"{engine.model_id} loaded in {time.monotonic() - started:.1f} s; settings: "
        + ", ".join(f"{name}={value}" for name, value in asdict(settings).items())
    )
    return engine


def log_load_error(error: Exception, model: str, logger: RcutilsLogger) -> None:
    """Log why a model did not load, and what to do where that is known."""
    logger.error(f"model {model!r} cannot be loaded: {type(error).__name__}: {error}")
    if isinstance(error, ImportError):
        logger.error(
            f"{sys.executable} lacks a package that the model needs; start the node with an "
            "interpreter that has requirements/core.txt (launch argument python:=)"
        )
    elif not isinstance(error, (SdvlmError, ValueError)):
        logger.error("".join(traceback.format_exception(error)))


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; 0 = ended by a signal, 2 = an invalid parameter."""
    try:
        process.run(SpatialQueryNode, args)
    except ParameterError as error:
        print(f"sdvlm_node: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
