"""SpatialClient: the planner's door. Ask or measure, get an answer or an exception.

Hides a node, a service client and an executor; blocks the caller's thread only. Does not know
images, models or how an answer comes about.

    with SpatialClient() as client:
        client.wait_for_node()
        print(client.ask("How tall is the red mug?").text)
        print(client.measure({"mug": (320, 180, 406, 270)}).regions[0].height)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import rclpy
from rclpy.client import Client
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import RegionOfInterest

from sdvlm.msg import Region, SpatialAnswer
from sdvlm.srv import MeasureRegions, SpatialQuery
from sdvlm_core.errors import SdvlmError
from sdvlm_ros.conversions import duration_message, time_message
from sdvlm_ros.error_codes import NAMES

#: Label -> (x1, y1, x2, y2) or (u, v), pixels of the colour image.
Regions = Mapping[str, Sequence[int]]


class SpatialQueryFailed(SdvlmError):
    """The node refused, or did not reply.

    Attributes:
        code: an error code of srv/SpatialQuery; TIMEOUT where no reply came at all.
        answer: what there is of an answer (TF_ERROR: in the optical frame), else None.
    """

    def __init__(self, code: int, message: str, answer: SpatialAnswer | None = None) -> None:
        super().__init__(f"{NAMES.get(code, code)}: {message}")
        self.code = code
        self.answer = answer


class SpatialClient:
    """Asks a spatial query node, from any thread that has no executor of its own to spin.

    Args:
        server: name of the node, with its namespace.
    """

    def __init__(self, server: str = "/spatial_query") -> None:
        # A context of its own: neither needs the caller's rclpy.init nor shuts it down.
        self._context = Context()
        rclpy.init(context=self._context, signal_handler_options=rclpy.SignalHandlerOptions.NO)
        self._node = rclpy.create_node("spatial_client", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._query = self._node.create_client(SpatialQuery, f"{server}/query")
        self._measure = self._node.create_client(MeasureRegions, f"{server}/measure_regions")

    def wait_for_node(self, timeout: float = 30.0) -> None:
        """Wait until the node's services are there.

        Raises:
            SpatialQueryFailed: they are not after `timeout` seconds; code MODEL_NOT_READY.
        """
        for client in (self._query, self._measure):
            if not client.wait_for_service(timeout_sec=timeout):
                raise SpatialQueryFailed(
                    SpatialQuery.Response.MODEL_NOT_READY,
                    f"no service {client.srv_name} after {timeout:g} s; is the node running, "
                    "with the same ROS_DOMAIN_ID?",
                )

    def ask(
        self,
        question: str,
        *,
        verify: bool = False,
        regions: Regions | None = None,
        target_frame: str = "",
        stamp_ns: int = 0,
        max_age: float = 0.0,
        timeout: float = 30.0,
    ) -> SpatialAnswer:
        """Ask one question; zeros and "" mean what they mean in srv/SpatialQuery.

        Args:
            verify: check lengths against the depth image; `regions` say where the objects are,
                else the model is asked.
            target_frame: frame of the positions.
            stamp_ns: of the frame to look at, nanoseconds.
            max_age, timeout: seconds.

        Raises:
            SpatialQueryFailed: with the node's error code and message.
        """
        request = SpatialQuery.Request(
            question=question,
            regions=_regions(regions or {}),
            verify=verify,
            target_frame=target_frame,
            stamp=time_message(stamp_ns),
            max_age=duration_message(max_age),
            timeout=duration_message(timeout),
        )
        response = self._call(self._query, request, timeout)
        if response.error_code == SpatialQuery.Response.NONE:
            return response.answer
        answer = response.answer if response.answer.id else None
        raise SpatialQueryFailed(response.error_code, response.error_msg, answer)

    def measure(
        self,
        regions: Regions,
        *,
        target_frame: str = "",
        stamp_ns: int = 0,
        max_age: float = 0.0,
        timeout: float = 5.0,
    ) -> MeasureRegions.Response:
        """Measure objects from depth alone; the arguments are those of `ask`.

        Raises:
            SpatialQueryFailed: with the node's error code and message.
        """
        request = MeasureRegions.Request(
            regions=_regions(regions),
            target_frame=target_frame,
            stamp=time_message(stamp_ns),
            max_age=duration_message(max_age),
            timeout=duration_message(timeout),
        )
        response = self._call(self._measure, request, timeout)
        if response.error_code == SpatialQuery.Response.NONE:
            return response
        raise SpatialQueryFailed(response.error_code, response.error_msg)

    def _call(self, client: Client, request: Any, timeout: float) -> Any:
        future = client.call_async(request)
        # The node keeps the deadline; the second more is for the way.
        self._executor.spin_until_future_complete(future, timeout_sec=timeout + 1.0)
        response = future.result() if future.done() else None
        if response is None:
            client.remove_pending_request(future)
            raise SpatialQueryFailed(
                SpatialQuery.Response.TIMEOUT, f"no reply from the node within {timeout + 1:g} s"
            )
        return response

    def close(self) -> None:
        """Leave the ROS graph."""
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def __enter__(self) -> SpatialClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _regions(regions: Regions) -> list[Region]:
    messages = []
    for label, corners in regions.items():
        x, y = corners[0], corners[1]
        width, height = (corners[2] - x, corners[3] - y) if len(corners) == 4 else (0, 0)
        roi = RegionOfInterest(x_offset=x, y_offset=y, width=width, height=height)
        messages.append(Region(label=label, roi=roi))
    return messages
