"""The node's services: a question, a measurement without the model, a frame held for later.

A request becomes a task for a worker, and what the worker says becomes a response; every failure is
a response too, with its code. Does not know how frames are found or who does the work.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from functools import partial

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_srvs.srv import Trigger

from sdvlm.srv import MeasureRegions, SpatialQuery
from sdvlm_core.camera.decoding import regions_from_messages
from sdvlm_core.errors import QueryError, SdvlmError, error_code
from sdvlm_ros import tasks
from sdvlm_ros.conversions import answer_message, measured_response
from sdvlm_ros.dispatch import Dispatcher
from sdvlm_ros.publishers import Outputs
from sdvlm_ros.transforms import Transforms


class Services:
    """~/query, ~/measure_regions and ~/capture of a node."""

    def __init__(
        self, node: Node, dispatcher: Dispatcher, outputs: Outputs, transforms: Transforms
    ) -> None:
        self._node = node
        self._dispatcher = dispatcher
        self._outputs = outputs
        self._transforms = transforms
        # Reentrant, because a question that is being answered must not keep the next one out; deep,
        # because the default of 10 loses requests of a burst that the queue should refuse.
        for kind, name, callback in (
            (SpatialQuery, "~/query", self._on_query),
            (MeasureRegions, "~/measure_regions", self._on_measure_regions),
        ):
            node.create_service(
                kind,
                name,
                callback,
                qos_profile=QoSProfile(depth=100),
                callback_group=ReentrantCallbackGroup(),
            )
        node.create_service(Trigger, "~/capture", self._on_capture)

    async def _on_query(
        self, request: SpatialQuery.Request, response: SpatialQuery.Response
    ) -> SpatialQuery.Response:
        arrived = time.monotonic()
        dispatcher = self._dispatcher
        with dispatcher.replying():
            try:
                question = dispatcher.question(request.question, request.regions, request.verify)
                work = partial(tasks.answer, question)
                reply = await dispatcher.ask(work, request, arrived).outcome()
                timings = replace(reply.result.timings, queue=reply.queue, encode=reply.encode)
                answer = replace(reply.result, timings=timings)
                stamp_ns, frame_id = reply.stamp_ns, reply.frame_id
                response.answer = answer_message(answer, stamp_ns, frame_id, uuid.uuid4().hex)
                if request.target_frame:
                    await self._transforms.apply(
                        response.answer, request.target_frame, self._tf_timeout()
                    )
            except Exception as error:  # noqa: BLE001 - every failure becomes a code and a text
                return dispatcher.refused(response, error)
            dispatcher.answered += 1
            total = time.monotonic() - arrived
            self._outputs.publish(response.answer, timings, total, frame_id)
            return response

    async def _on_measure_regions(
        self, request: MeasureRegions.Request, response: MeasureRegions.Response
    ) -> MeasureRegions.Response:
        arrived = time.monotonic()
        dispatcher = self._dispatcher
        with dispatcher.replying():
            try:
                regions = regions_from_messages(request.regions)
                if not regions:
                    raise QueryError("no regions to measure")
                sensor = self._node.get_parameter("sensor").value
                work = partial(tasks.measure, regions, sensor, dispatcher.visualization.show)
                reply = await dispatcher.measure(work, request, arrived).outcome()
                found, pairs = reply.result
                response = measured_response(found, pairs, reply.stamp_ns, reply.frame_id)
                if request.target_frame:
                    await self._transforms.apply_to_regions(
                        response, request.target_frame, self._tf_timeout()
                    )
            except Exception as error:  # noqa: BLE001 - every failure becomes a code and a text
                return dispatcher.refused(response, error)
            return response

    def _on_capture(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            stamp_ns = self._dispatcher.hold_frame()
        except SdvlmError as error:
            response.message = f"{error_code(error).name}: {error}"
            return response
        response.success = True
        response.message = f"{stamp_ns // 10**9}.{stamp_ns % 10**9:09d}"
        return response

    def _tf_timeout(self) -> float:
        return float(self._node.get_parameter("tf_timeout").value)
