"""Servers that join a first one: by the server token only, as members of its etcd, and what they answer."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.k3s_stand_in.machines import Machine, Server, wait_until

QUICK = ["node-monitor-grace-period=2s", "node-monitor-period=300ms"]
MoreServers = Callable[..., Server]


@pytest.fixture
def first(own_server: Server) -> Server:
    """The first server of an etcd cluster."""
    own_server.config |= {
        "cluster-init": True,
        "agent-token": "only-agents",
        "kube-controller-manager-arg": QUICK,
    }
    own_server.up("server")
    return own_server


def ended(server: Server) -> str:
    """What a server said that does not start."""
    assert server.start("server").process is not None
    assert server.process is not None
    assert server.process.wait(timeout=15) == 1
    return server.journal


def roles(server: Server) -> dict[str, str]:
    lines = server.kubectl("get", "nodes", "--no-headers").splitlines()
    return {line.split()[0]: line.split()[2] for line in lines}


def test_a_second_server_is_a_member_and_answers_as_the_first(
    first: Server, more_servers: MoreServers
) -> None:
    second = more_servers("server1", first, first.token("token"), **{"agent-token": "only-agents"}).up(
        "server"
    )
    assert roles(second) == roles(first) == {"master": "control-plane,etcd", "server1": "control-plane,etcd"}
    node = json.loads(second.kubectl("get", "node", "server1", "-o", "json"))
    conditions = {entry["type"]: entry["status"] for entry in node["status"]["conditions"]}
    assert (conditions["EtcdIsVoter"], conditions["Ready"]) == ("True", "True")

    assert second.kubectl("get", "--raw", "/readyz") == "ok"
    second.kubectl("label", "node", "master", "via=server1")
    assert "via" in json.loads(first.kubectl("get", "node", "master", "-o", "json"))["metadata"]["labels"]
    assert "not found" in second.kubectl("get", "node", "nobody", status=1)
    for name in ("tls/server-ca.key", "token", "agent-token"):
        assert second.token(name) == first.token(name)
        assert (second.state / "server" / name).stat().st_mode & 0o077 == 0


def test_an_agent_joins_by_any_server(
    first: Server, more_servers: MoreServers, worker: Callable[..., Machine]
) -> None:
    second = more_servers("server1", first, first.token("token"), **{"agent-token": "only-agents"}).up(
        "server"
    )
    worker("w1", second, first.token("agent-token")).up("agent")
    worker("w2", second, second.k3s("token", "create").strip()).up("agent")
    assert roles(first) | {"w1": "<none>", "w2": "<none>"} == roles(first)
    stranger = worker("w3", second, "wrong").start("agent")
    stranger.wait_for("401 Unauthorized")


def test_a_killed_server_is_not_ready_and_the_others_go_on(first: Server, more_servers: MoreServers) -> None:
    token = first.token("token")
    second, third = (
        more_servers(name, first, token, **{"agent-token": "only-agents"}).up("server")
        for name in ("server1", "server2")
    )
    second.stop(signal.SIGKILL)
    wait_until(lambda: first.node_is("server1", "NotReady"))
    assert third.node_is("server2", "Ready")
    node = json.loads(third.kubectl("get", "node", "server1", "-o", "json"))
    assert {"type": "EtcdIsVoter", "status": "True"}.items() <= node["status"]["conditions"][-1].items()

    second.up("server")
    wait_until(lambda: first.node_is("server1", "Ready"))


def test_without_the_first_the_others_say_what_the_stand_in_lacks(
    first: Server, more_servers: MoreServers
) -> None:
    second = more_servers("server1", first, first.token("token"), **{"agent-token": "only-agents"}).up(
        "server"
    )
    first.stop(signal.SIGKILL)
    said = second.kubectl("get", "nodes", status=1)
    assert "etcdserver: no leader (the stand-in keeps the state on the first server" in said


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (
            "only-agents",
            "failed to bootstrap cluster data: https://127.0.0.1:{port}/v1-k3s/server-bootstrap: 401",
        ),
        ("wrong", "failed to bootstrap cluster data: https://127.0.0.1:{port}/v1-k3s/server-bootstrap: 401"),
        (f"K10{'0' * 64}::server:x", "token CA hash does not match the Cluster CA certificate hash"),
    ],
)
def test_only_the_server_token_lets_a_server_in(
    first: Server, more_servers: MoreServers, token: str, said: str
) -> None:
    assert said.format(port=first.port) in ended(more_servers("server1", first, token))
    assert roles(first) == {"master": "control-plane,etcd"}


def test_an_agents_token_in_its_secure_form_lets_no_server_in(
    first: Server, more_servers: MoreServers
) -> None:
    assert "server-bootstrap: 401" in ended(more_servers("server1", first, first.token("agent-token")))


def test_no_server_joins_one_that_is_not_in_etcd(own_server: Server, more_servers: MoreServers) -> None:
    own_server.up("server")
    assert "/db/info: 404" in ended(more_servers("server1", own_server, own_server.token("token")))


def test_the_name_of_a_member_is_taken(first: Server, more_servers: MoreServers) -> None:
    assert "duplicate node name found" in ended(more_servers("master", first, first.token("token")))


def test_nobody_but_a_server_may_ask_for_another(first: Server, worker: Callable[..., Machine]) -> None:
    agent = worker("w1", first, first.token("agent-token")).up("agent")
    from lab.k3s_stand_in import client

    trust = client.trusting(first.token("tls/server-ca.crt").encode())
    files = agent.state / "agent"
    client.with_certificate(trust, files / "client-kubelet.crt", files / "client-kubelet.key")
    posing: dict[str, Any] = {"X-Remote-User": "system:admin", "X-Remote-Group": "system:masters"}
    status, _, _ = client.Client(first.url, trust, posing).raw(
        "GET", "/api/v1/namespaces/kube-system/secrets"
    )
    assert status == 403


def test_what_was_in_sqlite_is_taken_along_into_etcd_once(own_server: Server) -> None:
    own_server.up("server")
    own_server.kubectl("label", "node", "master", "kept=yes")
    token = own_server.token("token")
    own_server.stop()
    own_server.config["cluster-init"] = True
    own_server.up("server")
    assert "Migrating content from sqlite to etcd" in own_server.journal
    assert own_server.token("token") == token
    assert roles(own_server) == {"master": "control-plane,etcd"}
    node = json.loads(own_server.kubectl("get", "node", "master", "-o", "json"))
    assert node["metadata"]["labels"]["kept"] == "yes"

    own_server.stop()
    del own_server.config["cluster-init"]  # K3s goes by the files
    own_server.up("server")
    assert "Migrating" not in own_server.journal
    assert json.loads(own_server.kubectl("get", "node", "master", "-o", "json"))["metadata"]["labels"]["kept"]
