"""AsyncLifecycleNode: the slow part of a transition is awaited, and the executor keeps answering.

rclpy runs a transition as one blocking callback: until it returns, the node answers neither
~/get_state nor parameters nor requests, and publishes no diagnostics. Here `prepare` comes between
the start of the transition and its callback. As with rclpy, ~/change_state replies when the
transition has ended, and a second transition meanwhile is refused. Does not know what is slow.
"""

from __future__ import annotations

import threading
import traceback
from abc import abstractmethod
from collections.abc import Callable
from typing import TypeVar

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.node import Node

from sdvlm_core.errors import shown
from sdvlm_ros.process import ServedNode
from sdvlm_ros.ticket import Outcome

T = TypeVar("T")


async def on_thread(node: Node, work: Callable[[], T], name: str) -> T:
    """The result of `work`, which runs on a daemon thread; raises its exception."""
    outcome: Outcome[T] = Outcome(node)

    def run() -> None:
        try:
            outcome.settle(work())
        except Exception as error:  # noqa: BLE001 - raised by the await
            outcome.settle(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await outcome.wait()


class AsyncLifecycleNode(ServedNode):
    """A lifecycle node with awaited transitions; do not use rclpy's trigger_... methods."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._transitions = {
            State.TRANSITION_STATE_CONFIGURING: self.on_configure,
            State.TRANSITION_STATE_CLEANINGUP: self.on_cleanup,
            State.TRANSITION_STATE_SHUTTINGDOWN: self.on_shutdown,
            State.TRANSITION_STATE_ACTIVATING: self.on_activate,
            State.TRANSITION_STATE_DEACTIVATING: self.on_deactivate,
            State.TRANSITION_STATE_ERRORPROCESSING: self.on_error,
        }
        service = self._service_change_state
        # Not the default group: the node's other callbacks run while a transition is awaited.
        service.callback_group = ReentrantCallbackGroup()
        service.callback_group.add_entity(service)
        service.callback = self._on_change_state

    @abstractmethod
    async def prepare(self, state: int) -> None:
        """The slow part of a transition, before its callback.

        Args:
            state: the transition state, such as State.TRANSITION_STATE_CONFIGURING.
        """

    @property
    def state_label(self) -> str:
        """The label of the life cycle state."""
        return str(self._state_machine.current_state[1])

    def autostart(self) -> None:
        """Start to configure and activate, if the parameter `autostart` is true."""
        if self.get_parameter("autostart").value:
            self.start(self._configure_and_activate)

    def start(self, transition: Callable[..., object], *arguments: int) -> None:
        """Start a coroutine function, such as `change`, on the executor."""
        if self.executor is not None:
            self.executor.create_task(transition, *arguments)

    async def _configure_and_activate(self) -> None:
        if await self.change(Transition.TRANSITION_CONFIGURE):
            await self.change(Transition.TRANSITION_ACTIVATE)

    async def change(self, transition: int) -> bool:
        """Run a transition to its end; whether it succeeded.

        False also if it cannot start in this state, as while another one runs.
        """
        machine = self._state_machine
        number, label = machine.current_state
        before = LifecycleState(label=label, state_id=number)
        try:
            machine.trigger_transition_by_id(transition, True)
        except RuntimeError:  # RCLError
            self.get_logger().warning(f"transition {transition} cannot start while {label}")
            return False
        result = await self._run(before)
        machine.trigger_transition_by_label(result.to_label(), True)
        if result == TransitionCallbackReturn.ERROR:
            handled = await self._run(before)
            machine.trigger_transition_by_label(handled.to_label(), True)
        return bool(result == TransitionCallbackReturn.SUCCESS)

    async def _run(self, before: LifecycleState) -> TransitionCallbackReturn:
        """Prepare and run the callback of the transition that has started."""
        state, label = self._state_machine.current_state
        try:
            await self.prepare(state)
            return self._transitions[state](before)
        except Exception as error:  # noqa: BLE001 - the state ERROR would hide it
            reason = shown(f"{type(error).__name__}: {error}")
            self.get_logger().error(f"the transition {label} has failed: {reason}")
            self.get_logger().debug(traceback.format_exc())
            return TransitionCallbackReturn.ERROR

    async def _on_change_state(
        self, request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        transition = request.transition.id
        if label := request.transition.label:
            try:
                transition = self._state_machine.get_transition_by_label(label)
            except RuntimeError:  # RCLError: not possible in this state
                response.success = False
                return response
        response.success = await self.change(transition)
        return response
