"""SpatialQueryNode: a camera's topics in, answers to spatial questions out.

Wires inputs, dispatcher, services, action and outputs together and lives the life cycle: configure
loads the model, activate subscribes. Decodes nothing, computes nothing, and never blocks the
executor on the model; what an answer is, is up to `sdvlm_core`.

    ros2 run sdvlm sdvlm_node --ros-args -p model:=nano -r rgb/image_rect_color:=/camera/color/...
"""

from __future__ import annotations

import sys
import time
import traceback
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from sdvlm_core.errors import ParameterError
from sdvlm_ros import diagnostics, loading, memory, parameters, process
from sdvlm_ros.action import Reasoning
from sdvlm_ros.dispatch import Dispatcher
from sdvlm_ros.publishers import Outputs
from sdvlm_ros.services import Services
from sdvlm_ros.subscriptions import SILENT
from sdvlm_ros.transforms import Transforms
from sdvlm_ros.visualization import Visualization

if TYPE_CHECKING:
    from sdvlm_core.engine import SpatialEngine

# How often a missing input is told in the log; seconds.
REMINDER = 5.0


class SpatialQueryNode(LifecycleNode):
    """Answers questions about the newest frame of an RGB-D camera.

    Subscribes (relative, SensorData QoS unless a parameter says otherwise, `qos_overrides` apply):
        rgb/image_rect_color, depth_registered/image_rect, rgb/camera_info; with a compressed
        transport the topics image_transport uses, <topic>/compressed and <topic>/compressedDepth.
        With the parameter depth_estimator there is no depth subscription.
    Services: ~/query (sdvlm/srv/SpatialQuery), ~/measure_regions (sdvlm/srv/MeasureRegions: from
        depth alone, without the model), ~/capture (std_srvs/srv/Trigger: hold the newest
        frame, so that later questions can name its stamp).
    Action: ~/reason (sdvlm/action/SpatialReasoning: several questions on one frame).
    Publishes: ~/answers (sdvlm/msg/SpatialAnswer), ~/latency (sdvlm/msg/Latency), ~/markers and
        ~/annotated_image (see `sdvlm_ros.visualization`), /diagnostics at 1 Hz.
    Parameters: docs/parameters.md, from `sdvlm_ros.parameters`.

    Raises:
        ParameterError: a parameter was given that does not exist, or cannot have its value.
    """

    def __init__(self) -> None:
        super().__init__("spatial_query")
        parameters.declare(self)
        self._engine: SpatialEngine | None = None
        self._configure_error = ""
        self._wrong_since: float | None = None
        self._dispatcher = Dispatcher(self, self._why_not_ready, Visualization(self))
        self._outputs = Outputs(self)
        self._transforms = Transforms(self)
        parts = (self, self._dispatcher, self._outputs, self._transforms)
        Services(*parts)  # what they create keeps them
        Reasoning(*parts)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Not the node's clock: a paused bag must not silence the diagnostics.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._look_after, clock=steady)

    # The life cycle. rclpy turns an exception in a transition into a silent ERROR, so each one is
    # caught and told here.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model; FAILURE with the reason in the log when it cannot be had."""
        try:
            self._engine = loading.load_engine(parameters.read(self), self.get_logger())
        except Exception as error:  # noqa: BLE001 - told below, and in every refusal
            self._configure_error = f"{type(error).__name__}: {error}"
            loading.explain(error, self.get_parameter("model").value, self.get_logger())
            return TransitionCallbackReturn.FAILURE
        self._configure_error = ""
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe, and start the threads that work."""
        if self._engine is None:
            return TransitionCallbackReturn.FAILURE
        try:
            self._dispatcher.start(self._engine, parameters.read(self))
            self._transforms.listen()
        except Exception as error:  # noqa: BLE001 - a QoS override that means nothing, usually
            self.get_logger().error(f"cannot be activated: {error}")
            self.get_logger().debug(traceback.format_exc())
            self.close()
            return TransitionCallbackReturn.FAILURE
        self.get_logger().info("ready for questions on ~/query")
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe; questions and goals that wait or run are canceled."""
        self.close()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model."""
        self._free()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Deactivate and free, from whatever state."""
        self._free()
        return super().on_shutdown(state)

    def autostart(self) -> None:
        """Go to active by itself, if the parameter says so; a model that fails stays reported."""
        if not self.get_parameter("autostart").value:
            return
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def close(self) -> None:
        """Unsubscribe, cancel what waits, end the threads; may be called twice."""
        self._dispatcher.stop()
        self._transforms.close()
        self._wrong_since = None

    @property
    def active(self) -> bool:
        """Whether questions are taken."""
        return self._dispatcher.inputs is not None

    @property
    def pending(self) -> int:
        """Requests and goals that have not been replied to."""
        return self._dispatcher.pending

    def _free(self) -> None:
        self.close()
        self._engine = None
        memory.give_back()

    def _why_not_ready(self) -> str:
        if self._configure_error:
            return f"the model did not load: {self._configure_error}"
        return f"the node is {self._state_label()}, not active; configure and activate it"

    def _state_label(self) -> str:
        return str(self._state_machine.current_state[1])

    # Once a second.

    def _look_after(self) -> None:
        """Say what is wrong with the inputs, in the log, and how the node is, in /diagnostics."""
        inputs, dispatcher = self._dispatcher.inputs, self._dispatcher
        problem = inputs.problem() if inputs is not None else ""
        now = time.monotonic()
        since = self._wrong_since = (self._wrong_since or now) if problem else None
        # Not at once: discovery takes its time.
        if since is not None and now - since > SILENT:
            self.get_logger().warning(f"no new frame: {problem}", throttle_duration_sec=REMINDER)
        health = diagnostics.Health(
            state=self._state_label(),
            model_id=self._engine.model_id if self._engine is not None else "",
            configure_error=self._configure_error,
            problem=problem,
            notes=tuple(inputs.notes()) if inputs is not None else (),
            last_error=dispatcher.last_error,
            answered=dispatcher.answered,
            canceled=dispatcher.canceled,
            failed=dispatcher.failed,
            waiting=dispatcher.waiting,
            latency=self._outputs.latency,
            resident_bytes=memory.resident_bytes(),
            gpu_bytes=memory.gpu_bytes(),
        )
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        name = f"{self.get_fully_qualified_name()}: questions"
        message.status = [diagnostics.status(name, health, inputs)]
        self._diagnostics.publish(message)


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; 0 = ended so, 2 = a parameter is wrong."""
    try:
        process.run(SpatialQueryNode, args)
    except ParameterError as error:
        print(f"sdvlm_node: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
