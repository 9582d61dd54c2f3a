"""Subscriptions: writes a camera's messages into a FrameBuffer, and diagnoses missing inputs.

Subscribes with the QoS and transport of the settings, refuses what is too large, and counts lost
messages and QoS mismatches. If an input is missing, reads the ROS graph to find the cause and a
remedy. Does not decode images; does not know the users of the frames.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from functools import partial
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import (
    DurabilityPolicy,
    QoSCompatibility,
    QoSPresetProfiles,
    QoSProfile,
    qos_check_compatible,
    qos_policy_name_from_kind,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from sdvlm_core.camera.decoding import serialized_stamp_ns
from sdvlm_core.camera.pairing import Input
from sdvlm_core.errors import FrameError, shown
from sdvlm_ros import screening
from sdvlm_ros.frame_buffer import FrameBuffer
from sdvlm_ros.parameters import Settings, camera_settings
from sdvlm_ros.throttle import Throttle

#: An input without a message for this time, seconds, causes a warning.
SILENCE_S = 2.0
#: A publisher that was just discovered has this time to send its first message, and an input
#: without a publisher has it after activation, seconds.
START_S = 10.0
# Time between two warnings of one kind about messages or publishers, seconds.
_REMINDER_S = 5.0
# Publishers or topics that one text names at most.
_NAMED = 5

PROFILES = {
    "sensor_data": QoSPresetProfiles.SENSOR_DATA.value,
    "reliable": QoSProfile(depth=10),
    "system_default": QoSPresetProfiles.SYSTEM_DEFAULT.value,
}
#: Input -> topic name, and prefix of the input's parameters.
TOPICS = {
    Input.COLOR: ("rgb/image_rect_color", "rgb"),
    Input.DEPTH: ("depth_registered/image_rect", "depth"),
    Input.INFO: ("rgb/camera_info", "info"),
}


class Subscriptions:
    """The subscriptions of an active node to one camera.

    Args:
        on_message: called after a message has been stored.
        name: the camera's, before the names of its topics; "" = none.

    Raises:
        RuntimeError: a QoS override has an invalid value. No subscription is left then.

    Attributes:
        buffer: the received messages.
        color_type, depth_type: message types of the serialized images in the buffer.
        camera: how the messages become a frame.
        depth_info: the newest serialized camera_info beside the depth topic; None = none, which is
            usual: it only helps to tell whether depth is registered to colour.
        mismatches: number of publishers with incompatible QoS since activation, by input.
    """

    def __init__(
        self,
        node: Node,
        settings: Settings,
        on_message: Callable[[], None] = lambda: None,
        name: str = "",
    ) -> None:
        self._node = node
        self._prefix = f"{name}/" if name else ""
        self._on_message = on_message
        self.camera = camera_settings(settings)
        self.depth_info: bytes | None = None
        self._others: list[Subscription[CameraInfo]] = []
        self._latched = False  # whether a latched camera_info is subscribed
        # Input without a message -> monotonic seconds since when one can be expected.
        self._expected_since = dict.fromkeys(Input, time.monotonic())
        self._discovered: set[Input] = set()
        self.color_type = Image if settings.rgb_transport == "raw" else CompressedImage
        self.depth_type = Image if settings.depth_transport == "raw" else CompressedImage
        kinds = tuple(k for k in Input if k is not Input.DEPTH or not settings.depth_estimator)
        slop_ns = round(settings.sync_slop * 1e9)
        self.buffer = FrameBuffer(
            settings.buffer_size, slop_ns, self._describe_publishers, kinds, camera=name
        )
        node.add_post_set_parameters_callback(self._on_parameters)
        self.mismatches = dict.fromkeys(kinds, 0)
        self._warned = Throttle(_REMINDER_S)
        self._subscriptions: dict[Input, Subscription[Image | CompressedImage | CameraInfo]] = {}
        self._suffixes: dict[Input, str] = {}  # appended to the topic names
        # As rclpy takes them. It remaps what it is given: a resolved name would be remapped twice,
        # and with left:=right, right:=left each camera would get its own topics again.
        self._given: dict[Input, str] = {}
        chosen = {
            Input.COLOR: (self.color_type, settings.rgb_transport, settings.rgb_qos),
            Input.DEPTH: (self.depth_type, settings.depth_transport, settings.depth_qos),
            Input.INFO: (CameraInfo, "raw", settings.info_qos),
        }
        try:
            for kind in kinds:
                self._subscribe(kind, *chosen[kind])
            self._subscribe_depth_info()
        except Exception:
            self.close()
            raise
        self._warn_of_unused_overrides()

    def close(self) -> None:
        """Unsubscribe."""
        for subscription in (*self._subscriptions.values(), *self._others):
            self._node.destroy_subscription(subscription)
        self._subscriptions, self._others = {}, []
        with suppress(ValueError):  # closed already
            self._node.remove_post_set_parameters_callback(self._on_parameters)

    def problem(self) -> str:
        """The reason why no complete frame is available, and what to do; "" = no problem."""
        return self.buffer.problem(SILENCE_S)

    def topic(self, kind: Input) -> str:
        """Resolved name of an input's topic, without the transport; "" = not subscribed."""
        subscription = self._subscriptions.get(kind)
        if subscription is None:
            return ""
        return subscription.topic_name.removesuffix(self._suffixes[kind])

    def frame_expected(self) -> bool:
        """Whether the first complete frame can be expected soon.

        Each input must have sent a message, or still have time for its first one: START_S after its
        publisher was discovered, and as long after activation without a publisher. Complete inputs
        whose stamps do not match have SILENCE_S.
        """
        if self.buffer.complete:
            return False
        now = time.monotonic()
        silent = [kind for kind in self.buffer.inputs if not self.buffer.counters[kind].received]
        for kind in silent:
            topic = self._subscriptions[kind].topic_name
            if kind not in self._discovered and self._node.count_publishers(topic):
                self._discovered.add(kind)
                self._expected_since[kind] = now
        if silent:
            return all(now - self._expected_since[kind] < START_S for kind in silent)
        return now - max(self._expected_since.values()) < SILENCE_S

    def _on_parameters(self, changed: list[Parameter[Any]]) -> None:
        for parameter in changed:
            if parameter.name == "sync_slop":
                self.buffer.slop_ns = round(parameter.value * 1e9)

    def _subscribe(self, kind: Input, message: type, transport: str, qos: str) -> None:
        self._suffixes[kind] = suffix = "" if transport == "raw" else f"/{transport}"
        topic = self._prefix + TOPICS[kind][0]
        if suffix:
            # As in image_transport, the base name is remapped and then the transport is appended.
            topic = self._node.resolve_topic_name(topic) + suffix
        self._given[kind] = topic
        self._subscriptions[kind] = self._node.create_subscription(
            message,
            topic,
            partial(self._store, kind),
            copy(PROFILES[qos]),  # rclpy writes the overrides into it
            raw=True,  # serialized, because deserializing an image is expensive
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            event_callbacks=SubscriptionEventCallbacks(
                message_lost=partial(self._on_lost, kind),
                incompatible_qos=partial(self._on_mismatch, kind),
            ),
        )

    def look_for_latched_info(self) -> None:
        """Receive a camera_info that was published once, before this node; called once a second.

        Only a transient_local subscription gets it. It is made only for such a publisher: with the
        volatile publishers of other drivers it is incompatible, and they would log a warning.
        """
        if self._latched or self.buffer.counters[Input.INFO].received:
            return
        topic = self._given[Input.INFO]
        self._latched = any(
            info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
            for info in self._node.get_publishers_info_by_topic(topic)
        )
        if self._latched:
            profile = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            self._others.append(
                self._node.create_subscription(
                    CameraInfo, topic, self._store_latched_info, profile, raw=True
                )
            )

    def _store_latched_info(self, data: bytes) -> None:
        if not self.buffer.counters[Input.INFO].received:
            self._store(Input.INFO, data)

    def _subscribe_depth_info(self) -> None:
        depth, info = self.topic(Input.DEPTH), self.topic(Input.INFO)
        topic = f"{depth.rpartition('/')[0]}/camera_info"
        if depth and topic != info:
            self._others.append(
                self._node.create_subscription(
                    CameraInfo, topic, self._store_depth_info, PROFILES["sensor_data"], raw=True
                )
            )

    def _store_depth_info(self, data: bytes) -> None:
        if len(data) <= screening.MAX_INFO_BYTES:
            self.depth_info = data

    def _store(self, kind: Input, data: bytes) -> None:
        raw_image = self._subscriptions[kind].msg_type is Image
        try:
            stamp_ns = serialized_stamp_ns(data)
            refusal = screening.refusal(kind, data, self.camera, raw_image=raw_image)
        except FrameError as error:
            self._warn(kind, "message", f"{self._subscriptions[kind].topic_name}: {error}")
            return
        if not self.buffer.counters[kind].received:
            self._expected_since[kind] = time.monotonic()
        self.buffer.add(kind, stamp_ns, data, refusal)
        self._on_message()

    def _warn(self, kind: Input, what: str, text: str) -> None:
        """Not rclpy's throttle: it is for a line of code, whatever the camera and input."""
        if self._warned.allows(f"{kind.value} {what}"):
            self._node.get_logger().warning(text)

    def _on_lost(self, kind: Input, info: object) -> None:
        self.buffer.counters[kind].dropped += getattr(info, "total_count_change", 0)

    def _on_mismatch(self, kind: Input, info: object) -> None:
        self.mismatches[kind] += getattr(info, "total_count_change", 0)
        policy = qos_policy_name_from_kind(getattr(info, "last_policy_kind", 0)).lower()
        self._warn(
            kind,
            "QoS",
            f"{kind.value}: a publisher's {policy} is incompatible with the subscription, so "
            f"nothing arrives from it; {self._describe_publishers(kind)}",
        )

    def _describe_publishers(self, kind: Input) -> str:
        """The publishers of an input in the ROS graph, and what to do if all are incompatible."""
        subscription = self._subscriptions.get(kind)
        if subscription is None:
            return "not subscribed"
        topic = subscription.topic_name
        publishers = self._node.get_publishers_info_by_topic(self._given[kind])
        if not publishers:
            return f"{topic} has no publisher: {self._other_topics(kind)}"
        offered = ", ".join(
            f"{shown(info.node_name)} ({shown(info.topic_type)}, "
            f"{info.qos_profile.reliability.name.lower()}, "
            f"{info.qos_profile.durability.name.lower()})"
            for info in publishers[:_NAMED]
        )
        if len(publishers) > _NAMED:
            offered += f" and {len(publishers) - _NAMED} others"
        return f"{topic} is published by {offered}{self._incompatibility(kind, publishers)}"

    def _incompatibility(self, kind: Input, publishers: list[TopicEndpointInfo]) -> str:
        """Why all publishers of a topic are incompatible; "" = at least one is compatible."""
        subscription, name = self._subscriptions[kind], TOPICS[kind][1]
        wanted = _type_name(subscription.msg_type)
        typed = [info for info in publishers if info.topic_type == wanted]
        if not typed:
            return f", but {wanted} is expected: set {name}_transport, or remap to another topic"
        own = subscription.qos_profile
        reasons = []
        for info in typed:
            verdict, reason = qos_check_compatible(info.qos_profile, own)
            if verdict != QoSCompatibility.ERROR:
                return ""
            reasons.append(reason.strip())
        return (
            f", but its QoS is incompatible with the subscription ({own.reliability.name.lower()}, "
            f"{own.durability.name.lower()}; {reasons[0]}): set {name}_qos to sensor_data, or "
            f"qos_overrides.{subscription.topic_name}.subscription"
        )

    def _other_topics(self, kind: Input) -> str:
        """Topics of the input's type that it could be remapped to."""
        topic = self._prefix + TOPICS[kind][0]
        # Excludes ~/annotated_image, which is not a camera's topic.
        own = f"{self._node.get_fully_qualified_name()}/"
        wanted = _type_name(self._subscriptions[kind].msg_type)
        others = sorted(
            name.removesuffix(self._suffixes[kind])
            for name, types in self._node.get_topic_names_and_types()
            if wanted in types and self._node.count_publishers(name) and not name.startswith(own)
        )
        found = (
            f" (topics of that type: {', '.join(map(shown, others[:_NAMED]))})" if others else ""
        )
        return f"start the camera, or remap {topic} to its topic{found}"

    def _warn_of_unused_overrides(self) -> None:
        """Warn about qos_overrides of topics that are not subscribed: they have no effect."""
        unused = [
            name
            for name in self._node._parameter_overrides
            if name.startswith("qos_overrides.") and not self._node.has_parameter(name)
        ]
        if unused:
            topics = ", ".join(s.topic_name for s in self._subscriptions.values())
            self._node.get_logger().warning(
                f"{', '.join(unused)} has no effect; the subscribed topics are {topics}"
            )


def _type_name(kind: type) -> str:
    """Image -> sensor_msgs/msg/Image."""
    return f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}"
