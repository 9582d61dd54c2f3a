"""The SROS 2 policy allows all interfaces of the node; the health check queries the node."""

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
    """A peer of an unconfigured node: the interfaces exist without a model."""
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=rclpy.SignalHandlerOptions.NO)
    with running("sdvlm_ros.node", "--ros-args", "-p", "autostart:=false"):
        peer = Peer(context)
        assert peer.query.wait_for_service(PATIENCE_S)
        # The graph reports the node of each name separately and later than the name.
        peer.spin_until(lambda: services_of(peer.node), "the node's services")
        yield peer
    context.try_shutdown()


def allowed(kind: str, right: str) -> set[str]:
    """Full names for which the policy gives the node the permission `right`."""
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
    """Names without the topics and services of actions; the policy lists those as actions."""
    return {name for name, _ in names_and_types if "/_action/" not in name}


def services_of(node: Node) -> set[str]:
    """Discovered services of the spatial query node; empty before its discovery."""
    if ("spatial_query", "/") not in node.get_node_names_and_namespaces():
        return set()
    return visible(node.get_service_names_and_types_by_node("spatial_query", "/"))


def test_the_policy_allows_exactly_the_services_of_the_node(peer: Peer) -> None:
    node: Node = peer.node
    wanted = allowed("service", "reply")
    # Some services may not be discovered yet. A service that is not allowed makes the test fail.
    peer.spin_until(lambda: services_of(node) >= wanted, "every service of the policy")
    assert services_of(node) == wanted


def test_the_policy_allows_all_topics_of_the_node(peer: Peer) -> None:
    node: Node = peer.node
    published = visible(node.get_publisher_names_and_types_by_node("spatial_query", "/"))
    assert "/spatial_query/answers" in published
    assert published <= allowed("topic", "publish")
    subscribed = visible(node.get_subscriber_names_and_types_by_node("spatial_query", "/"))
    assert subscribed <= allowed("topic", "subscribe")


def test_the_policy_allows_the_remappable_input_names(peer: Peer) -> None:
    assert {f"/{topic}" for topic in peer.publishers} <= allowed("topic", "subscribe")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/spatial_query", "is unconfigured, not active"),
        ("/nobody", "is not answering, not active"),
    ],
)
def test_the_health_check_fails_for_an_inactive_node(peer: Peer, name: str, reason: str) -> None:
    command = [sys.executable, "docker/healthcheck.py", name, "--timeout", "20"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{name} {reason}" in done.stderr
