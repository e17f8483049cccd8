"""Minting and deleting join tokens, and reading nodes, against a server that speaks Kubernetes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from control_api.cluster import tokens
from control_api.cluster.kubernetes import Kubernetes
from control_api.db import utc_now
from control_api.errors import BadSettings, ClusterUnavailable
from control_api.workers.lifecycle import Node
from tests.k3s_stand_in.machines import Machine, Server, free_port, wait_until


@pytest.fixture
def kubernetes(server: Server) -> Iterator[Kubernetes]:
    cluster = Kubernetes(server.kubeconfig)
    yield cluster
    cluster.close()


def states(cluster: Kubernetes) -> dict[str, Node]:
    return {node.name: node.state for node in cluster.nodes()}


def test_an_agent_joins_with_a_minted_token(server: Server, agent: Machine, kubernetes: Kubernetes) -> None:
    agent.config["token"] = kubernetes.mint(tokens.new_token(), uuid4(), utc_now())
    agent.up("agent")
    wait_until(lambda: states(kubernetes).get("worker") is Node.READY)
    assert states(kubernetes) == {"master": Node.READY, "worker": Node.READY}
    assert kubernetes.pods() == {}
    seen = kubernetes.node("worker")
    assert seen is not None
    assert (seen.name, seen.state, seen.pod_capacity) == ("worker", Node.READY, 110)
    assert abs((utc_now() - seen.created_at).total_seconds()) < 60


def test_a_deleted_token_lets_nobody_in(server: Server, agent: Machine, kubernetes: Kubernetes) -> None:
    token = tokens.new_token()
    kubernetes.mint(token, uuid4(), utc_now())
    assert f"bootstrap-token-{token.id}" in server.secrets()
    kubernetes.delete(token.id)
    assert f"bootstrap-token-{token.id}" not in server.secrets()


def test_deleting_a_token_that_is_gone_is_fine(kubernetes: Kubernetes) -> None:
    kubernetes.delete("nobody")


def test_a_reinstalled_machine_joins_once_its_old_node_is_deleted(
    server: Server, agent: Machine, kubernetes: Kubernetes
) -> None:
    """The node password of the wiped disk is lost: K3s says 403 until the node is gone, and its Secret with it."""
    server.kubectl("delete", "node", "worker", "--ignore-not-found")
    agent.config["token"] = kubernetes.mint(tokens.new_token(), uuid4(), utc_now())
    agent.up("agent")
    wait_until(lambda: states(kubernetes).get("worker") is Node.READY)
    agent.stop()
    for disk in (agent.state, agent.path("etc/rancher/node")):
        shutil.rmtree(disk)
    agent.config["token"] = kubernetes.mint(tokens.new_token(), uuid4(), utc_now())
    agent.start("agent")
    agent.wait_for("Node password rejected")
    seen = kubernetes.node("worker")
    assert seen is not None
    assert kubernetes.remove_node(seen._replace(version="1")) is False  # it has changed since
    assert "worker.node-password.k3s" in server.secrets()
    wait_until(lambda: kubernetes.remove_node(kubernetes.node("worker") or seen))
    wait_until(lambda: states(kubernetes).get("worker") is Node.READY)
    assert kubernetes.remove_node(seen) is False  # of the same name, and another one


def test_a_node_that_is_gone_is_none_and_deleting_it_is_fine(
    server: Server, agent: Machine, kubernetes: Kubernetes
) -> None:
    master = kubernetes.node("master")
    assert master is not None
    assert kubernetes.node("nobody") is None
    assert kubernetes.remove_node(master._replace(name="nobody")) is True


def kubeconfig_of(machine: Server, path: Path, **cluster: object) -> Path:
    config = yaml.safe_load(machine.kubeconfig.read_text())
    config["clusters"][0]["cluster"].update(cluster)
    path.write_text(yaml.safe_dump(config))
    return path


def test_a_cluster_that_does_not_answer_is_unavailable(server: Server, tmp_path: Path) -> None:
    live = Kubernetes(server.kubeconfig)
    master = live.node("master")
    live.close()
    assert master is not None
    path = kubeconfig_of(server, tmp_path / "config", server=f"https://127.0.0.1:{free_port()}")
    cluster = Kubernetes(path)
    asks: list[Callable[[], object]] = [
        lambda: cluster.mint(tokens.new_token(), uuid4(), utc_now()),
        lambda: cluster.delete("abcdef"),
        cluster.nodes,
        cluster.pods,
        lambda: cluster.node("master"),
        lambda: cluster.remove_node(master),
    ]
    for ask in asks:
        with pytest.raises(ClusterUnavailable):
            ask()


@pytest.mark.parametrize("content", ["", "{", "clusters: []", "kind: Config"])
def test_a_kubeconfig_that_is_none_refuses_to_start(tmp_path: Path, content: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(content)
    with pytest.raises(BadSettings, match="MUSTER_KUBECONFIG names"):
        Kubernetes(path)
