"""Minting and deleting join tokens, and reading nodes, against a server that speaks Kubernetes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from control_api.cluster.kubernetes import Kubernetes
from control_api.db import utc_now
from control_api.errors import BadSettings, ClusterUnavailable
from tests.k3s_stand_in.machines import Machine, Server, free_port, wait_until


@pytest.fixture
def cluster(server: Server) -> Iterator[Kubernetes]:
    cluster = Kubernetes(server.kubeconfig)
    yield cluster
    cluster.close()


def test_an_agent_joins_with_a_minted_token(server: Server, agent: Machine, cluster: Kubernetes) -> None:
    minted = cluster.mint(uuid4(), utc_now())
    agent.config["token"] = minted.value
    agent.up("agent")
    wait_until(lambda: cluster.nodes().get("worker"))
    assert cluster.nodes() == {"master": True, "worker": True}


def test_a_deleted_token_lets_nobody_in(server: Server, agent: Machine, cluster: Kubernetes) -> None:
    minted = cluster.mint(uuid4(), utc_now())
    assert f"bootstrap-token-{minted.id}" in server.secrets()
    cluster.delete(minted.id)
    assert f"bootstrap-token-{minted.id}" not in server.secrets()


def test_deleting_a_token_that_is_gone_is_fine(cluster: Kubernetes) -> None:
    cluster.delete("nobody")


def kubeconfig_of(machine: Server, path: Path, **cluster: object) -> Path:
    config = yaml.safe_load(machine.kubeconfig.read_text())
    config["clusters"][0]["cluster"].update(cluster)
    path.write_text(yaml.safe_dump(config))
    return path


def test_a_cluster_that_does_not_answer_is_unavailable(server: Server, tmp_path: Path) -> None:
    path = kubeconfig_of(server, tmp_path / "config", server=f"https://127.0.0.1:{free_port()}")
    cluster = Kubernetes(path)
    with pytest.raises(ClusterUnavailable):
        cluster.mint(uuid4(), utc_now())
    with pytest.raises(ClusterUnavailable):
        cluster.nodes()
    with pytest.raises(ClusterUnavailable):
        cluster.delete("abcdef")


@pytest.mark.parametrize("content", ["", "{", "clusters: []", "kind: Config"])
def test_a_kubeconfig_that_is_none_refuses_to_start(tmp_path: Path, content: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(content)
    with pytest.raises(BadSettings, match="MUSTER_KUBECONFIG names"):
        Kubernetes(path)
