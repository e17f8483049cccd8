"""A server that is killed comes back with everything that it had answered."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable

from tests.k3s_stand_in.machines import Machine, Server, wait_until


def test_kill_loses_nothing(own_server: Server, worker: Callable[..., Machine]) -> None:
    server = own_server.up("server")
    token = server.k3s("token", "create").strip()
    agent = worker("worker1", server, token).up("agent")
    server.kubectl("cordon", "worker1")
    files = ["token", "node-token", "agent-token", "tls/server-ca.crt"]
    before = [server.token(name) for name in files]

    server.stop(signal.SIGKILL)
    wait_until(lambda: "connection refused" in agent.journal)
    server.up("server")

    assert [server.token(name) for name in files] == before
    assert server.node_is("worker1", "Ready,SchedulingDisabled")
    assert token.partition("::")[2].partition(".")[0] in server.k3s("token", "list")
    said = len(agent.journal)
    worker("worker2", server, token).up("agent")
    assert agent.journal[said:].count("Error") <= 1, "the first agent must have found the server again"


def test_state_in_another_database_leaves_none_in_sqlite(own_server: Server) -> None:
    own_server.config["datastore-endpoint"] = "postgres://k3s:secret@127.0.0.1:5432/k3s"
    own_server.up("server").kubectl("cordon", own_server.name)
    assert not (own_server.state / "server/db/state.db").exists()
    own_server.stop()
    assert own_server.up("server").node_is(own_server.name, "Ready,SchedulingDisabled")


def test_agent_of_a_server_that_was_built_anew_joins_by_its_new_token(
    own_server: Server, worker: Callable[..., Machine]
) -> None:
    server = own_server.up("server")
    agent = worker("worker1", server, server.token("token")).up("agent")
    agent.stop()
    server.stop()
    shutil.rmtree(server.state)
    server.up("server")

    agent.config["token"] = server.token("token")
    agent.up("agent")
    assert server.node_is("worker1", "Ready")


def test_server_keeps_its_token(own_server: Server) -> None:
    own_server.config["token"] = "chosen"
    own_server.up("server").stop()
    assert own_server.token("node-token").endswith("::server:chosen")
    assert own_server.token("agent-token") == own_server.token("token")

    own_server.config["token"] = "another"
    own_server.start("server")
    assert own_server.process is not None
    assert own_server.process.wait(timeout=15) == 1
    assert "bootstrap data already found and encrypted with different token" in own_server.journal


def test_it_says_at_start_what_it_is_and_what_it_leaves_out(own_server: Server) -> None:
    own_server.config["disable"] = ["traefik"]
    own_server.up("server")

    assert "This is Muster's stand-in for K3s." in own_server.journal
    assert "Accepted, without effect in the stand-in: disable" in own_server.journal
    assert own_server.kubeconfig.stat().st_mode & 0o777 == 0o600
    assert (own_server.state / "server/token").stat().st_mode & 0o777 == 0o600


def test_unknown_setting_is_refused_by_name(own_server: Server) -> None:
    own_server.config["node-nmae"] = "typo"
    own_server.start("server")

    assert own_server.process is not None
    assert own_server.process.wait(timeout=15) == 1
    assert "flag provided but not defined: -node-nmae" in own_server.journal
