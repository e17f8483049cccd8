"""Agents join, are refused, and come back, as agents of K3s do."""

from __future__ import annotations

import shutil
import signal
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.k3s_stand_in.machines import Machine, Server, wait_until

Worker = Callable[..., Machine]
CERTIFICATE = "agent/client-kubelet.crt"


def bootstrap_token(server: Server, lifetime: str = "10m") -> str:
    return server.k3s("token", "create", "--ttl", lifetime).strip()


@pytest.mark.parametrize(
    "token_of",
    [
        pytest.param(lambda server: server.token("token"), id="server-token"),
        pytest.param(lambda server: server.token("agent-token"), id="agent-token"),
        pytest.param(lambda _: "only-agents", id="short-form"),
        pytest.param(bootstrap_token, id="bootstrap-token"),
        pytest.param(lambda server: bootstrap_token(server).partition("::")[2], id="short-bootstrap-token"),
    ],
)
def test_agent_joins_with_every_kind_of_token(
    server: Server, worker: Worker, request: pytest.FixtureRequest, token_of: Callable[[Server], str]
) -> None:
    name = "with-" + request.node.callspec.id
    agent = worker(name, server, token_of(server)).up("agent")

    assert server.node_is(name, "Ready")
    assert (agent.state / CERTIFICATE).exists()
    assert f"{name}.node-password.k3s" in server.secrets()
    with urllib.request.urlopen(f"http://127.0.0.1:{agent.health_port}/healthz", timeout=5) as answer:
        assert answer.read() == b"ok"


def test_agent_tells_systemd_when_it_has_joined(server: Server, worker: Worker, tmp_path: Path) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(address))
        systemd.settimeout(20)
        agent = worker("notifies", server, "only-agents")
        agent.environment["NOTIFY_SOCKET"] = str(address)
        agent.start("agent")
        assert systemd.recv(64) == b"READY=1"
    assert server.node_is("notifies", "Ready")


def test_token_of_another_ca_is_refused(server: Server, worker: Worker) -> None:
    token = f"K10{'0' * 64}::{server.token('agent-token').partition('::')[2]}"
    agent = worker("other-ca", server, token).start("agent")

    agent.wait_for(f"token CA hash does not match the Cluster CA certificate hash: {'0' * 64} != ")
    assert not (agent.state / CERTIFICATE).exists()


@pytest.mark.parametrize("password", ["wrong", "abcdef.0123456789abcdef"])
def test_unknown_token_is_answered_401(server: Server, worker: Worker, password: str) -> None:
    agent = worker("unknown-token", server, password).start("agent")

    agent.wait_for(
        f"failed to retrieve configuration from server: {server.url}/v1-k3s/config: 401 Unauthorized"
    )


def test_expired_token_is_refused_and_cleaned_up(server: Server, worker: Worker) -> None:
    token = bootstrap_token(server, "1s")
    secret = f"bootstrap-token-{token.partition('::')[2].partition('.')[0]}"
    wait_until(lambda: secret not in server.secrets())
    agent = worker("late", server, token).start("agent")

    agent.wait_for("401 Unauthorized")


def test_agent_without_a_token_does_not_start(server: Server, worker: Worker) -> None:
    agent = worker("no-token", server, "").start("agent")

    assert agent.process is not None
    assert agent.process.wait(timeout=15) == 1
    assert "--token is required" in agent.journal


def test_reinstalled_machine_needs_its_node_deleted_first(server: Server, worker: Worker) -> None:
    worker("twin", server, "only-agents").up("agent").stop()
    reinstalled = worker("twin", server, "only-agents").start("agent")

    reinstalled.wait_for("Node password rejected, duplicate hostname or contents of")
    reinstalled.stop()
    server.kubectl("delete", "node", "twin")
    assert "twin.node-password.k3s" not in server.secrets()
    reinstalled.up("agent")


def test_joined_agent_restarts_with_a_spent_token(server: Server, worker: Worker) -> None:
    token = bootstrap_token(server)
    agent = worker("spent", server, token).up("agent")
    server.k3s("token", "delete", token)
    agent.stop(signal.SIGKILL)

    agent.up("agent")
    assert server.node_is("spent", "Ready")


def test_joined_agent_with_an_emptied_token_does_not_come_back(server: Server, worker: Worker) -> None:
    agent = worker("emptied", server, "only-agents").up("agent")
    agent.stop()
    agent.config["token"] = ""

    agent.start("agent").wait_for("token must not be empty")


def test_agent_of_a_deleted_node_falls_back_to_its_token(server: Server, worker: Worker) -> None:
    spent, valid = bootstrap_token(server), bootstrap_token(server)
    agent = worker("deleted", server, spent).up("agent")
    server.k3s("token", "delete", spent)
    server.kubectl("delete", "node", "deleted")
    agent.wait_for(r"Error updating node status, will retry: nodes \"deleted\" not found")
    agent.stop()

    agent.start("agent").wait_for(
        "Node authorization rejected, retrying without client certificate authentication"
    )
    agent.wait_for("serving-kubelet.crt: 401 Unauthorized")
    agent.stop()
    agent.config["token"] = valid
    agent.up("agent")


def test_uninstall_that_keeps_the_node_password_may_join_again(server: Server, worker: Worker) -> None:
    agent = worker("uninstalled", server, "only-agents").up("agent")
    agent.stop()
    shutil.rmtree(agent.state)

    agent.up("agent")


def test_labels_and_taints_count_at_registration_only(server: Server, worker: Worker) -> None:
    agent = worker("labelled", server, "only-agents")
    agent.config |= {"node-label": ["tier=one"], "node-taint": ["busy=yes:NoSchedule"]}
    agent.up("agent").stop()
    agent.config["node-label"] = ["tier=two"]
    agent.up("agent")

    assert '"tier": "one"' in server.kubectl("get", "node", "labelled", "-o", "json")
    assert '"effect": "NoSchedule"' in server.kubectl("get", "node", "labelled", "-o", "json")


def test_role_label_makes_the_agent_exit(server: Server, worker: Worker) -> None:
    agent = worker("role", server, "only-agents")
    agent.config["node-label"] = ["node-role.kubernetes.io/worker=true"]
    agent.start("agent")

    assert agent.process is not None
    assert agent.process.wait(timeout=15) == 1
    assert "kubelet exited" in agent.journal
    assert "[node-role.kubernetes.io/worker]" in agent.journal


def test_silent_node_becomes_unknown_and_ready_again(server: Server, worker: Worker) -> None:
    agent = worker("silent", server, "only-agents").up("agent")
    agent.send(signal.SIGSTOP)
    wait_until(lambda: server.node_is("silent", "NotReady"))
    assert '"reason": "NodeStatusUnknown"' in server.kubectl("get", "node", "silent", "-o", "json")

    agent.send(signal.SIGCONT)
    wait_until(lambda: server.node_is("silent", "Ready"))
