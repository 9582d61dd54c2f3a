"""SpatialQueryNode: a camera's topics in, answers to spatial questions out.

Wires parameters, frame buffer, worker and messages together and lives the life cycle: configure
loads the model, activate subscribes. Decodes nothing, computes nothing, and never blocks the
executor on the model; what an answer is, is up to `sdvlm_core`.

    ros2 run sdvlm sdvlm_node --ros-args -p model:=nano -r rgb/image_rect_color:=/camera/color/...
"""

from __future__ import annotations

import sys
import time
import traceback
import uuid
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import rclpy
from builtin_interfaces.msg import Duration
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import Trigger

from sdvlm.msg import Latency, SpatialAnswer
from sdvlm.srv import MeasureRegions, SpatialQuery
from sdvlm_core import geometry
from sdvlm_core.answer import SpatialAnswer as Answer
from sdvlm_core.errors import QueryError, QueryTimeout, SdvlmError
from sdvlm_core.frame import Region
from sdvlm_core.messages import regions_from_messages
from sdvlm_core.prompt import check_question
from sdvlm_ros import diagnostics, parameters
from sdvlm_ros.conversions import (
    answer_message,
    latency_message,
    measured_response,
    nanoseconds,
    serialized_stamp_ns,
)
from sdvlm_ros.error_codes import NAMES, ModelNotReadyError, error_code
from sdvlm_ros.frame_buffer import FrameBuffer, Input, RawFrame, check_age
from sdvlm_ros.parameters import Settings
from sdvlm_ros.promise import Promise
from sdvlm_ros.transforms import Transforms
from sdvlm_ros.visualization import Visualization
from sdvlm_ros.worker import Job, Reply, Worker, warm_up

if TYPE_CHECKING:
    from sdvlm_core.engine import FrameSession, SpatialEngine


class SpatialQueryNode(LifecycleNode):
    """Answers questions about the newest frame of an RGB-D camera.

    Subscribes (relative, SensorData QoS, `qos_overrides` apply):
        rgb/image_rect_color, depth_registered/image_rect, rgb/camera_info; with a compressed
        transport the topics image_transport uses, <topic>/compressed and <topic>/compressedDepth.
        With the parameter depth_estimator there is no depth subscription.
    Services: ~/query (sdvlm/srv/SpatialQuery), ~/measure_regions (sdvlm/srv/MeasureRegions: from
        depth alone, without the model), ~/capture (std_srvs/srv/Trigger: hold the newest
        frame, so that later questions can name its stamp).
    Publishes: ~/answers (sdvlm/msg/SpatialAnswer), ~/latency (sdvlm/msg/Latency), ~/markers and
        ~/annotated_image (see `sdvlm_ros.visualization`),
        /diagnostics at 1 Hz.
    Parameters: see `sdvlm_ros.parameters`.
    """

    def __init__(self) -> None:
        super().__init__("spatial_query")
        parameters.declare(self)
        self._engine: SpatialEngine | None = None
        self._worker: Worker | None = None
        self._measurer: Worker | None = None
        self._buffer: FrameBuffer | None = None
        self._subscriptions_by_input: dict[Input, Subscription] = {}
        self._transforms = Transforms(self)
        self._visualization = Visualization(self)
        self._configure_error = ""
        self._last_error = ""
        self._answered = self._failed = 0
        self._latency: dict[str, float] = {}
        # Reentrant, because a question that is being answered must not keep the next one out; deep,
        # because the default of 10 loses requests of a burst that the queue should refuse.
        self.create_service(
            SpatialQuery,
            "~/query",
            self._on_query,
            qos_profile=QoSProfile(depth=100),
            callback_group=ReentrantCallbackGroup(),
        )
        self.create_service(
            MeasureRegions,
            "~/measure_regions",
            self._on_measure_regions,
            qos_profile=QoSProfile(depth=100),
            callback_group=ReentrantCallbackGroup(),
        )
        self.create_service(Trigger, "~/capture", self._on_capture)
        self._answers = self.create_publisher(SpatialAnswer, "~/answers", 10)
        self._latencies = self.create_publisher(Latency, "~/latency", 10)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Not the node's clock: a paused bag must not silence the diagnostics.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._publish_diagnostics, clock=steady)

    # The life cycle. rclpy turns an exception in a transition into a silent ERROR, so each one is
    # caught and told here.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model; FAILURE with the reason in the log when it cannot be had."""
        started = time.monotonic()
        try:
            settings = parameters.read(self)
            engine = self._load(settings)
            warm_up(engine)
        except Exception as error:  # noqa: BLE001 - told below, and in every refusal
            self._configure_error = f"{type(error).__name__}: {error}"
            self.get_logger().error(
                f"model {self.get_parameter('model').value!r} cannot be loaded: "
                f"{self._configure_error}"
            )
            if isinstance(error, ImportError):
                self.get_logger().error(
                    f"{sys.executable} lacks what the model needs; start the node with an "
                    "interpreter that has requirements/core.txt (launch argument python:=)"
                )
            elif not isinstance(error, (SdvlmError, ValueError)):
                self.get_logger().error(traceback.format_exc())
            return TransitionCallbackReturn.FAILURE
        self._engine = engine
        self._configure_error = ""
        self.get_logger().info(
            f"{engine.model_id} loaded in {time.monotonic() - started:.1f} s; settings: "
            + ", ".join(f"{name}={value}" for name, value in asdict(settings).items())
        )
        return TransitionCallbackReturn.SUCCESS

    def _load(self, settings: Settings) -> SpatialEngine:
        # Here, so that the interfaces and a refusal need no torch.
        from sdvlm_core import hub
        from sdvlm_core.checkpoint import load
        from sdvlm_core.engine import SpatialEngine

        if settings.allow_download:
            for name in filter(None, (settings.model, settings.depth_estimator)):
                hub.obtain(name, self.get_logger().info)
        checkpoint = load(
            settings.model,
            settings.device,
            settings.dtype,
            settings.quantization,
            settings.attention,
        )
        if not settings.depth_estimator:
            return SpatialEngine(checkpoint)
        from sdvlm_core.depth_estimation import load_estimator

        estimator = load_estimator(settings.depth_estimator, checkpoint.device)
        self.get_logger().warning(
            f"depth is estimated by {estimator.name} ({estimator.source}), not measured"
        )
        return SpatialEngine(checkpoint, estimator)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe, and start the thread that owns the model."""
        if self._engine is None:
            return TransitionCallbackReturn.FAILURE
        settings = parameters.read(self)
        color = CompressedImage if settings.rgb_transport != "raw" else Image
        depth = CompressedImage if settings.depth_transport != "raw" else Image
        size = settings.queue_size
        self._worker = Worker(self._engine.open, "sdvlm_model", size, color, depth)
        # Geometry does not wait for the model.
        self._measurer = Worker(geometry.open_scene, "sdvlm_geometry", size, color, depth)
        topics = {
            Input.COLOR: (color, "rgb/image_rect_color", settings.rgb_transport),
            Input.DEPTH: (depth, "depth_registered/image_rect", settings.depth_transport),
            Input.INFO: (CameraInfo, "rgb/camera_info", "raw"),
        }
        if settings.depth_estimator:
            del topics[Input.DEPTH]
        self._buffer = FrameBuffer(
            settings.buffer_size, round(settings.sync_slop * 1e9), self._offers, tuple(topics)
        )
        for kind, topic in topics.items():
            self._subscribe(kind, *topic)
        self.get_logger().info("ready for questions on ~/query")
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe; questions that wait are canceled."""
        self.close()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model."""
        self.close()
        self._engine = None
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Do both, from whatever state."""
        self.close()
        self._engine = None
        return super().on_shutdown(state)

    def autostart(self) -> None:
        """Go to active by itself, if the parameter says so; a model that fails stays reported."""
        if not self.get_parameter("autostart").value:
            return
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def close(self) -> None:
        """Unsubscribe, cancel what waits, end the worker's thread; may be called twice."""
        for subscription in self._subscriptions_by_input.values():
            self.destroy_subscription(subscription)
        self._subscriptions_by_input = {}
        for worker in (self._worker, self._measurer):
            if worker is not None:
                worker.close()
        self._visualization.close()
        self._worker = self._measurer = self._buffer = None

    # What arrives.

    def _subscribe(self, kind: Input, message: type, topic: str, transport: str) -> None:
        buffer = self._buffer
        assert buffer is not None
        counters = buffer.counters[kind]

        def store(data: bytes) -> None:
            buffer.add(kind, serialized_stamp_ns(data), data)

        def count_lost(info: object) -> None:
            counters.dropped += getattr(info, "total_count_change", 0)

        self._subscriptions_by_input[kind] = self.create_subscription(
            message,
            topic if transport == "raw" else f"{topic}/{transport}",
            store,
            qos_profile_sensor_data,
            raw=True,  # bytes as they came: making a message of an image is the expensive part
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            event_callbacks=SubscriptionEventCallbacks(message_lost=count_lost),
        )

    def _offers(self, kind: Input) -> str:
        """What the graph offers for an input, in words."""
        subscription = self._subscriptions_by_input.get(kind)
        if subscription is None:
            return "not subscribed"
        topic = subscription.topic_name
        publishers = self.get_publishers_info_by_topic(topic)
        if not publishers:
            return f"nobody publishes {topic}"
        offered = ", ".join(
            f"{info.node_name} ({info.topic_type}, {info.qos_profile.reliability.name.lower()}, "
            f"{info.qos_profile.durability.name.lower()})"
            for info in publishers
        )
        return f"{topic} is published by {offered}"

    # What is asked.

    async def _on_query(
        self, request: SpatialQuery.Request, response: SpatialQuery.Response
    ) -> SpatialQuery.Response:
        arrived = time.monotonic()
        try:
            question = check_question(request.question)
            regions = regions_from_messages(request.regions)
            if regions and not request.verify:
                raise QueryError("regions say what to verify by: set verify too, or leave them out")
            sensor = self.get_parameter("sensor").value
            by = sensor if request.verify else None
            work = partial(_answer, question, regions, by, self._visualization)
            reply = await self._done(self._worker, work, request, arrived)
            timings = replace(reply.result.timings, queue=reply.queue, encode=reply.encode)
            answer = replace(reply.result, timings=timings)
            stamp_ns, frame_id = reply.stamp_ns, reply.frame_id
            response.answer = answer_message(answer, stamp_ns, frame_id, uuid.uuid4().hex)
            if request.target_frame:
                timeout = self.get_parameter("tf_timeout").value
                await self._transforms.apply(response.answer, request.target_frame, timeout)
        except Exception as error:  # noqa: BLE001 - every failure becomes a code and a text
            return self._refused(response, error)
        total = time.monotonic() - arrived
        self._answered += 1
        self._latency = {**asdict(answer.timings), "total": total}
        self._answers.publish(response.answer)
        self._latencies.publish(latency_message(answer.timings, total, stamp_ns, frame_id))
        return response

    async def _on_measure_regions(
        self, request: MeasureRegions.Request, response: MeasureRegions.Response
    ) -> MeasureRegions.Response:
        arrived = time.monotonic()
        try:
            regions = regions_from_messages(request.regions)
            if not regions:
                raise QueryError("no regions to measure")
            sensor = self.get_parameter("sensor").value
            work = partial(_measure, regions, sensor, self._visualization)
            reply = await self._done(self._measurer, work, request, arrived)
            found, pairs = reply.result
            response = measured_response(found, pairs, reply.stamp_ns, reply.frame_id)
            if request.target_frame:
                timeout = self.get_parameter("tf_timeout").value
                await self._transforms.apply_to_regions(response, request.target_frame, timeout)
        except Exception as error:  # noqa: BLE001 - every failure becomes a code and a text
            return self._refused(response, error)
        return response

    def _refused(self, response: Any, error: Exception) -> Any:
        """The response with the code and the text of what went wrong."""
        self._failed += 1
        response.error_code = error_code(error)
        response.error_msg = str(error) or type(error).__name__
        self._last_error = f"{NAMES[response.error_code]}: {response.error_msg}"
        # A planner that asks in a loop must not fill the log.
        self.get_logger().warning(f"request refused, {self._last_error}", throttle_duration_sec=1.0)
        if response.error_code == SpatialQuery.Response.UNKNOWN:
            self.get_logger().error("".join(traceback.format_exception(error)))
        return response

    async def _done(
        self,
        worker: Worker | None,
        work: Any,
        request: SpatialQuery.Request | MeasureRegions.Request,
        arrived: float,
    ) -> Reply:
        """Choose the frame now, have the work done by a worker, and wait without blocking."""
        if worker is None:
            raise ModelNotReadyError(self._why_not_ready())
        frame = self._frame(request)
        timeout = _seconds(request.timeout, "timeout") or self.get_parameter("timeout").value
        promise: Promise[Reply] = Promise(
            self,
            timeout,
            lambda: QueryTimeout(f"no answer within {timeout:g} s; {worker.waiting} are waiting"),
        )
        job = Job(work, frame, arrived + timeout, arrived, promise.settle)
        try:
            worker.submit(job)
        except SdvlmError as refusal:
            promise.settle(refusal)
        try:
            return await promise.outcome()
        finally:
            job.cancel.set()  # nobody listens any more, however it ended

    def _frame(self, request: SpatialQuery.Request | MeasureRegions.Request) -> RawFrame:
        buffer = self._buffer
        assert buffer is not None
        buffer.slop_ns = round(self.get_parameter("sync_slop").value * 1e9)
        max_age = _seconds(request.max_age, "max_age")
        stamp_ns = nanoseconds(request.stamp)
        frame = buffer.at(stamp_ns) if stamp_ns else buffer.newest()
        # Whoever names a stamp knows how old it is.
        if max_age or not stamp_ns:
            limit = max_age or self.get_parameter("max_age").value
            check_age(frame, self.get_clock().now().nanoseconds, round(limit * 1e9))
        return frame

    def _on_capture(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            if self._buffer is None:
                raise ModelNotReadyError(self._why_not_ready())
            stamp_ns = self._buffer.hold().color.stamp_ns
        except SdvlmError as error:
            response.message = str(error)
            return response
        response.success = True
        response.message = f"{stamp_ns // 10**9}.{stamp_ns % 10**9:09d}"
        return response

    def _why_not_ready(self) -> str:
        if self._configure_error:
            return f"the model did not load: {self._configure_error}"
        return f"the node is {self._state_label()}, not active; configure and activate it"

    def _state_label(self) -> str:
        return str(self._state_machine.current_state[1])

    def _publish_diagnostics(self) -> None:
        health = diagnostics.Health(
            state=self._state_label(),
            model_id=self._engine.model_id if self._engine is not None else "",
            configure_error=self._configure_error,
            last_error=self._last_error,
            answered=self._answered,
            failed=self._failed,
            waiting=self._worker.waiting if self._worker is not None else 0,
            latency=self._latency,
        )
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        name = f"{self.get_fully_qualified_name()}: questions"
        message.status = [diagnostics.status(name, health, self._buffer)]
        self._diagnostics.publish(message)


def _answer(
    question: str,
    regions: tuple[Region, ...],
    sensor: str | None,
    visualization: Visualization,
    session: FrameSession,
    job: Job,
) -> Answer:
    """The model's answer; with a sensor, verified against that sensor's geometry."""
    answer = session.ask(question, deadline=job.deadline, cancel=job.cancel)
    if sensor is None:
        return answer
    from sdvlm_core.verification import verify

    answer, checks = verify(session, answer, regions, sensor, job.deadline, job.cancel)
    visualization.show_checks(session.frame, checks)
    return answer


def _measure(
    regions: tuple[Region, ...],
    sensor: str,
    visualization: Visualization,
    scene: geometry.Scene,
    _: Job,
) -> tuple[tuple[geometry.Measured, ...], tuple[geometry.Pair, ...]]:
    found, pairs = geometry.measure_in(scene, regions, sensor)
    visualization.show(scene.frame, found, pairs)
    return found, pairs


def _seconds(duration: Duration, name: str) -> float:
    """A Duration of a request -> seconds; 0 = not given."""
    seconds = nanoseconds(duration) / 1e9
    if seconds < 0:
        raise QueryError(f"{name} is {seconds:g} s; it must not be negative")
    return seconds


def main(args: list[str] | None = None) -> None:
    """Run the node until SIGINT or SIGTERM; both end it with exit status 0."""
    rclpy.init(args=args)
    executor = SingleThreadedExecutor()
    node = None
    try:
        node = SpatialQueryNode()
        executor.add_node(node)
        node.autostart()
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass  # the usual ways to end
    except Exception:
        # A signal that comes while the node is being made takes the context away under it.
        if rclpy.ok():
            raise
    finally:
        if node is not None:
            node.close()
            node.destroy_node()
        executor.shutdown()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
