"""SpatialQueryNode: answers spatial questions about the images of one or several cameras.

Connects subscriptions, dispatcher, services, action and publishers, and implements the life cycle:
configure loads the model on a thread, activate subscribes. If a thread of the active node fails,
the node goes through its error state to unconfigured. Decodes nothing, computes nothing, and never
blocks the executor on the model; does not know how an answer is found (`sdvlm_core`).

    ros2 run sdvlm sdvlm_node --ros-args -p model:=nano -r rgb/image_rect_color:=/camera/color/...
"""

from __future__ import annotations

import sys
import time
import traceback
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State, Transition
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn

from sdvlm_core import threads
from sdvlm_core.camera.settings import DEFAULT_SETTINGS
from sdvlm_core.errors import ParameterError, shown
from sdvlm_ros import alive, diagnostics, parameters, process
from sdvlm_ros.action import ReasoningAction
from sdvlm_ros.backend import Backend
from sdvlm_ros.camera import Camera
from sdvlm_ros.camera_names import MAX_CAMERAS
from sdvlm_ros.detections_in import DetectionsIn
from sdvlm_ros.dispatch import Dispatcher
from sdvlm_ros.lifecycle import AsyncLifecycleNode, on_thread
from sdvlm_ros.loading import ModelLoader, log_load_error
from sdvlm_ros.outputs import Outputs
from sdvlm_ros.responses import Responses
from sdvlm_ros.services import Services
from sdvlm_ros.standing import StandingQuestions
from sdvlm_ros.subscriptions import SILENCE_S
from sdvlm_ros.tally import Tally
from sdvlm_ros.throttle import Throttle
from sdvlm_ros.transforms import Transforms

if TYPE_CHECKING:
    from sdvlm_core.engine import SpatialEngine

# Time between two warnings about the inputs, or two reports of a load, seconds.
_REMINDER_S = 5.0
# Time between two warnings about one caution, seconds.
_CAUTION_PERIOD_S = 3600.0
# Longest text of a reason, characters.
_MAX_TEXT = 1000


class SpatialQueryNode(AsyncLifecycleNode):
    """Answers questions about the newest frame of an RGB-D camera, or of several.

    Subscribes (relative names; SensorData QoS by default, see the parameters and `qos_overrides`):
        rgb/image_rect_color, depth_registered/image_rect, rgb/camera_info; with a compressed
        transport the topics of image_transport, <topic>/compressed and <topic>/compressedDepth.
        With the parameter depth_estimator there is no depth subscription.
        With the parameter measure_detections also detections (vision_msgs/Detection2DArray), see
        `sdvlm_ros.detections_in`.
        With the parameter cameras, the topics of each camera are below its name, such as
        left/rgb/image_rect_color; so are those that are published, such as ~/left/answers.
    Services: ~/query (sdvlm/srv/SpatialQuery), ~/measure_regions (sdvlm/srv/MeasureRegions: from
        depth alone, without the model), ~/capture (sdvlm/srv/Capture: hold the newest frame, so
        that later questions can name its stamp), ~/ask_every (sdvlm/srv/AskEvery: a question that
        the node asks itself at a period, see `sdvlm_ros.standing`).
    Action: ~/reason (sdvlm/action/SpatialReasoning: several questions on one frame).
    Publishes: ~/answers and, latched, ~/last_answer (sdvlm/msg/SpatialAnswer), ~/latency
        (sdvlm/msg/Latency), ~/detections_3d (vision_msgs/Detection3DArray, if it is installed: what
        was measured), ~/markers and ~/annotated_image (see `sdvlm_ros.visualization`), /diagnostics
        at 1 Hz; ~/alive (no messages, see `sdvlm_ros.alive`).
    Parameters: docs/parameters.md, from `sdvlm_ros.parameters`.

    Raises:
        ParameterError: an unknown parameter was given, or one with an invalid value.
    """

    def __init__(self) -> None:
        super().__init__("spatial_query")
        parameters.declare(self)
        self._engine: SpatialEngine | None = None
        self._loader = ModelLoader(self)
        self._failure = ""
        self._problem_since: dict[str, float] = {}  # by camera
        self._cautions_logged = Throttle(_CAUTION_PERIOD_S, 64 * MAX_CAMERAS)
        self._problems_logged = Throttle(_REMINDER_S)
        transforms = self._transforms = Transforms(self)
        self._tally = Tally(self)
        cameras = parameters.read(self).cameras
        self._outputs = {name: Outputs(self, transforms, name) for name in cameras}
        self._dispatcher = Dispatcher(
            self, self._why_not_ready, self._outputs, transforms.gravity, self._on_worker_end
        )
        backend = Backend(self._dispatcher, self._tally, self._outputs, transforms)
        self._detections = {name: DetectionsIn(self, backend, name) for name in cameras}
        responses = Responses(self)
        self._query_services = Services(self, backend, responses)
        self._standing = StandingQuestions(self, backend, responses)
        self._reasoning_action = ReasoningAction(self, backend)
        self._ended = self.create_guard_condition(self._leave_active)
        self._alive = alive.publisher(self)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Not the node's clock: a paused bag must not stop the diagnostics.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._monitor_timer = self.create_timer(1.0, self._monitor, clock=steady)

    # The life cycle.

    async def prepare(self, state: int) -> None:
        """Load the model, or end the threads: an image that is being encoded delays their end."""
        if state == State.TRANSITION_STATE_CONFIGURING:
            await self._loader.load(parameters.read(self))
        elif state != State.TRANSITION_STATE_ACTIVATING:
            self._cancel()
            await on_thread(self, self._dispatcher.stop, "sdvlm_stopping")

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take the loaded model; FAILURE with the reason in the log when it did not load."""
        settings = parameters.read(self)
        try:
            self._engine = self._loader.take(settings)
        except Exception as error:  # noqa: BLE001 - logged here, and reported in every error reply
            reason = shown(f"{type(error).__name__}: {error}", _MAX_TEXT)
            self._failure = f"the model did not load: {reason}"
            log_load_error(error, settings.model, self.get_logger())
            return TransitionCallbackReturn.FAILURE
        self._failure = ""
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe, and start the worker threads."""
        if self._engine is None:
            return TransitionCallbackReturn.FAILURE
        try:
            settings = parameters.read(self)
            self._dispatcher.start(self._engine, settings)
            self._transforms.listen()
            for detections in self._detections.values():
                detections.listen(settings)
        except Exception as error:  # noqa: BLE001 - usually an invalid QoS override
            self.get_logger().error(f"cannot be activated: {error}")
            self.get_logger().debug(traceback.format_exc())
            self.close()
            return TransitionCallbackReturn.FAILURE
        if settings.depth_unit != DEFAULT_SETTINGS.depth_unit_m:
            # A wrong unit within the sensor's range is not noticed.
            self.get_logger().warning(
                f"16UC1 depth is read in units of {settings.depth_unit:g} m (parameter depth_unit),"
                " not in millimetres as REP-118 says: compare one known distance"
            )
        self.get_logger().info("ready for questions on ~/query")
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe; waiting and running questions and goals are canceled."""
        self.close()
        if self._failure:
            return TransitionCallbackReturn.ERROR
        return super().on_deactivate(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model, whose state is unknown; the node is unconfigured then."""
        self._free()
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model."""
        self._free()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Deactivate and free the model, from any state."""
        self._free()
        return super().on_shutdown(state)

    # The end of a worker's thread.

    def _on_worker_end(self, error: BaseException) -> None:
        """Called by the thread: leave the active state, on the executor."""
        self._fail(error)
        self._ended.trigger()

    def _fail(self, error: BaseException | None) -> None:
        what = "a thread has ended" if error is None else f"{type(error).__name__}: {error}"
        self._failure = self._failure or f"a worker has failed: {shown(what, _MAX_TEXT)}"
        self.get_logger().error(f"{self._failure}; configure and activate the node again")
        if error is not None:
            self._tally.log_traceback(error)

    def _leave_active(self) -> None:
        if self.active:
            self.start(self.change, Transition.TRANSITION_DEACTIVATE)
        self._monitor()

    def close(self) -> None:
        """Unsubscribe, cancel all requests, end the threads; may be called twice."""
        self._cancel()
        self._dispatcher.stop()

    def _cancel(self) -> None:
        """The part of `close` that does not wait."""
        for detections in self._detections.values():
            detections.close()
        self._dispatcher.cancel()
        self._transforms.close()
        self._problem_since = {}

    @property
    def active(self) -> bool:
        """Whether questions are accepted."""
        return self._dispatcher.active

    @property
    def loading(self) -> bool:
        """Whether a thread loads a model; it cannot be interrupted."""
        return self._loader.loading

    @property
    def broken(self) -> bool:
        """Whether the process must end, so that a supervisor starts it again."""
        failed = self._failure and self._engine is None and not self.active
        return bool(failed and self.get_parameter("exit_on_failure").value)

    @property
    def in_flight(self) -> int:
        """Requests and goals without a reply."""
        return self._tally.in_flight

    def _free(self) -> None:
        self.close()
        if self._engine is not None:
            self._engine.close()
        self._engine = None
        process.release_memory()

    def _why_not_ready(self) -> str:
        if self._loader.loading:
            return f"{self._loader.progress}; ask again later"
        if self._failure:
            return f"{self._failure}; configure and activate the node again"
        return f"the node is {self.state_label}, not active; configure and activate it"

    # Once a second.

    def _monitor(self) -> None:
        """Log what is wrong with the inputs, and publish the node's state to /diagnostics."""
        if self.active and not self._dispatcher.alive and not self._failure:
            self._fail(None)
            self.start(self.change, Transition.TRANSITION_DEACTIVATE)
        self._dispatcher.monitor()
        if self._loader.loading:
            progress = self._loader.progress
            self.get_logger().info(progress, throttle_duration_sec=_REMINDER_S)
        tally = self._tally
        health = diagnostics.Health(
            state=self.state_label,
            model_id=self._engine.model_id if self._engine is not None else "",
            loading=self._loader.progress,
            failure="" if self._loader.loading else self._failure,
            last_error=tally.last_error,
            answered=tally.answered,
            canceled=tally.canceled,
            failed=tally.failed,
            waiting=self._dispatcher.waiting,
            standing=self._standing.counted(),
            resident_bytes=process.resident_bytes(),
            gpu_bytes=process.gpu_bytes(),
        )
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        cameras = [self._camera_health(name) for name in self._outputs]
        message.status = diagnostics.statuses(self.get_fully_qualified_name(), health, cameras)
        self._diagnostics.publish(message)

    def _camera_health(self, name: str) -> diagnostics.CameraHealth:
        """The state of a camera; what is wrong with it is logged, too."""
        camera = self._dispatcher.cameras.get(name)
        problem = cautions = ""
        if camera is not None:
            problem, cautions = self._problem(camera), self._cautions(camera)
            self._log(name, problem)
        return diagnostics.CameraHealth(
            name=name,
            problem=problem,
            cautions=cautions,
            latency=self._outputs[name].answers.latency,
            detections=self._detections[name].counted(),
            inputs=camera.inputs if camera is not None else None,
        )

    def _problem(self, camera: Camera) -> str:
        """Why a question about the newest frame would be refused; "" = it would not."""
        server = self._engine.problem() if self._engine is not None else ""
        found = (server, camera.refusal(), camera.inputs.problem())
        return shown("; ".join(dict.fromkeys(filter(None, found))), _MAX_TEXT)

    def _cautions(self, camera: Camera) -> str:
        """The cautions of the last inspected frame and why; each caution is logged once."""
        finding = camera.finding
        codes = [caution.value for caution in finding.cautions]
        reasons = "; ".join(finding.reasons)
        text = shown(f"{', '.join(codes)}: {reasons}" if reasons else ", ".join(codes), _MAX_TEXT)
        new = [code for code in codes if self._cautions_logged.allows(f"{camera.name} {code}")]
        if new:
            self.get_logger().warning(_of(camera.name) + text)
        return text

    def _log(self, name: str, problem: str) -> None:
        if not problem:
            self._problem_since.pop(name, None)
            return
        now = time.monotonic()
        # Not immediately, because discovery takes time. rclpy's own throttle is for a line of code,
        # whatever the camera.
        late = now - self._problem_since.setdefault(name, now) > SILENCE_S
        if late and self._problems_logged.allows(name):
            self.get_logger().warning(f"{_of(name)}no new frame: {problem}")


def _of(camera: str) -> str:
    """The beginning of a line of the log about a camera."""
    return f"camera {camera}: " if camera else ""


def main(args: list[str] | None = None) -> int:
    """Run the node; 0 = help or ended by a signal, 1 = failed, 2 = an invalid parameter."""
    if process.helped(f"{__doc__}\nThe parameters are described in docs/parameters.md.", args):
        return 0
    threads.wait_passively()
    try:
        return process.run(SpatialQueryNode, args)
    except ParameterError as error:
        print(f"sdvlm_node: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
