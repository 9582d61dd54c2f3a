"""The SROS 2 policy allows what the node does, and the health check asks the node itself."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

import pytest
import rclpy
from rclpy.node import Node

from tests.ros.conftest import ROOT, running
from tests.ros.peer import Peer
from tests.waiting import PATIENCE_S

POLICY = ROOT / "config" / "sros_policy.xml"


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    """Beside a node that is not configured: its interfaces are there, no model is needed."""
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=rclpy.SignalHandlerOptions.NO)
    with running("sdvlm_ros.node", "--ros-args", "-p", "autostart:=false"):
        peer = Peer(context)
        assert peer.query.wait_for_service(PATIENCE_S)
        # Which names belong to which node is told apart from the names, and later.
        peer.spin_until(lambda: services_of(peer.node), "the node's services")
        yield peer
    context.try_shutdown()


def allowed(kind: str, right: str) -> set[str]:
    """Full names that the policy allows the node to `right`."""
    profile = ElementTree.parse(POLICY).find(
        "./enclaves/enclave[@path='/sdvlm/spatial_query']//profile"
    )
    assert profile is not None
    names = {
        str(entry.text)
        for group in profile.findall(f"{kind}s[@{right}='ALLOW']")
        for entry in group.findall(kind)
    }
    return {
        name.replace("~", "/spatial_query") if name.startswith("~") else f"/{name.lstrip('/')}"
        for name in names
    }


def visible(names_and_types: list[tuple[str, list[str]]]) -> set[str]:
    """Names without the parts of actions, which the policy has as actions."""
    return {name for name, _ in names_and_types if "/_action/" not in name}


def services_of(node: Node) -> set[str]:
    """What the spatial query node offers, as far as it is known; empty before it is."""
    if ("spatial_query", "/") not in node.get_node_names_and_namespaces():
        return set()
    return visible(node.get_service_names_and_types_by_node("spatial_query", "/"))


def test_what_the_node_offers_is_what_the_policy_lets_it_offer(peer: Peer) -> None:
    node: Node = peer.node
    wanted = allowed("service", "reply")
    # Later ones may still be on their way here; what is not allowed stays and fails.
    peer.spin_until(lambda: services_of(node) >= wanted, "every service of the policy")
    assert services_of(node) == wanted


def test_the_node_publishes_and_subscribes_to_nothing_else(peer: Peer) -> None:
    node: Node = peer.node
    published = visible(node.get_publisher_names_and_types_by_node("spatial_query", "/"))
    assert "/spatial_query/answers" in published
    assert published <= allowed("topic", "publish")
    subscribed = visible(node.get_subscriber_names_and_types_by_node("spatial_query", "/"))
    assert subscribed <= allowed("topic", "subscribe")


def test_the_nodes_inputs_are_allowed_by_their_own_names(peer: Peer) -> None:
    assert {f"/{topic}" for topic in peer.publishers} <= allowed("topic", "subscribe")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/spatial_query", "is unconfigured, not active"),
        ("/nobody", "is not answering, not active"),
    ],
)
def test_a_node_that_is_not_active_is_not_well(peer: Peer, name: str, reason: str) -> None:
    command = [sys.executable, "docker/healthcheck.py", name, "--timeout", "20"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{name} {reason}" in done.stderr
