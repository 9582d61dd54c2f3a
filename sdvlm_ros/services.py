"""The node's services: ask a question, measure regions without the model, hold a frame.

Each callback makes a ticket, awaits it, and builds the reply; a failure is a reply with an error
code. Does not know how frames are found or which worker runs a ticket.
"""

from __future__ import annotations

import uuid

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile

from sdvlm.srv import Capture, MeasureRegions, SpatialQuery
from sdvlm_ros.backend import Backend
from sdvlm_ros.conversions import answer_message, header_message, measured_response
from sdvlm_ros.questions import stated
from sdvlm_ros.responses import Responses

# The default depth of 10 loses requests of a burst. The queue must reject them instead.
_QOS = QoSProfile(depth=100)


class Services:
    """~/query, ~/measure_regions and ~/capture of a node."""

    def __init__(self, node: Node, backend: Backend, responses: Responses) -> None:
        self._backend = backend
        # Reentrant: a callback that awaits its ticket must not block the next request.
        group = ReentrantCallbackGroup()
        self._query = node.create_service(
            SpatialQuery, "~/query", self._on_query, qos_profile=_QOS, callback_group=group
        )
        self._measure_regions = node.create_service(
            MeasureRegions,
            "~/measure_regions",
            self._on_measure_regions,
            qos_profile=_QOS,
            callback_group=group,
        )
        self._capture = node.create_service(
            Capture, "~/capture", self._on_capture, qos_profile=_QOS, callback_group=group
        )
        responses.watch(self._query, self._measure_regions, self._capture)

    async def _on_query(
        self, request: SpatialQuery.Request, response: SpatialQuery.Response
    ) -> SpatialQuery.Response:
        return await answered(self._backend, request, response)

    async def _on_measure_regions(
        self, request: MeasureRegions.Request, response: MeasureRegions.Response
    ) -> MeasureRegions.Response:
        with self._backend.tally.request_in_flight():
            try:
                ticket = self._backend.dispatcher.measure(request)
                (measured,) = await ticket.wait()
                response = measured_response(measured, ticket.stamp_ns, ticket.frame_id)
                await self._backend.transforms.apply_to_regions(response, request.target_frame)
            except Exception as error:  # noqa: BLE001 - every failure becomes a code and a text
                return self._backend.tally.refuse(response, error)
            return response

    async def _on_capture(
        self, request: Capture.Request, response: Capture.Response
    ) -> Capture.Response:
        with self._backend.tally.request_in_flight():
            try:
                held = await self._backend.dispatcher.hold_frame(request).wait()
            except Exception as error:  # noqa: BLE001 - every failure becomes a code and a text
                return self._backend.tally.refuse(response, error)
            response.header = header_message(*held)
            return response


async def answered(
    backend: Backend,
    request: SpatialQuery.Request,
    response: SpatialQuery.Response,
    who: str = "request",
) -> SpatialQuery.Response:
    """The response with the answer, which is published, or with an error code and a text.

    Args:
        who: what the log calls the request if it is refused.
    """
    with backend.tally.request_in_flight():
        try:
            typed = stated(request.asked)
            words = [request.question] if request.question or not typed else []
            ticket = backend.dispatcher.ask(request, words, typed)
            (answer,) = await ticket.wait()
            response.answer = answer_message(
                answer, ticket.stamp_ns, ticket.frame_id, uuid.uuid4().hex, ticket.camera
            )
            await backend.transforms.apply(response.answer, request.target_frame)
        except Exception as error:  # noqa: BLE001 - every failure becomes a code and a text
            return backend.tally.refuse(response, error, who)
        backend.tally.count_answers(1)
        backend.outputs[ticket.camera].answers.publish(
            response.answer, answer.timings, ticket.elapsed_s(), ticket.frame_id
        )
        return response
