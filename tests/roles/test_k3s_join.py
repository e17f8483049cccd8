"""The role `k3s_agent` says why a join cannot work or has failed: on lines of real agents, and on real processes.

The lines were captured by users of K3s and stand in its public issues; the number says in which one.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.k3s_stand_in.conftest import binary, own_server, worker
from tests.k3s_stand_in.machines import Machine, Server, free_port

__all__ = ["binary", "own_server", "worker"]  # fixtures
FILE = Path(__file__).parents[2] / "roles/k3s_agent/library/k3s_join.py"
SERVER = "https://10.0.0.1:6443"
CGROUPS = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t9\t1\nmemory\t4\t92\t1\n"


def load() -> Any:
    specification = importlib.util.spec_from_file_location("k3s_join", FILE)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    sys.modules["k3s_join"] = module
    specification.loader.exec_module(module)
    return module


k3s_join = load()

CAPTURED = {
    "k3s 3727": (
        (
            'time="2021-07-29T06:42:37.109627641-04:00" level=error msg="token CA hash does not match the Cluster CA '
            "certificate hash: f08676bf4f7418e46f692f21543118417d2698b7f758027b352dd87cfd6de3ab != "
            '8e7d49c6991960d1a116415d9506f0a15ea3e278538c173b1d9965b62727267d"'
        ),
        "has another CA than the one that the join token names",
    ),
    "k3s 6054": (
        (
            'time="2022-08-30T14:00:20Z" level=info msg="Waiting to retrieve agent configuration; server is not ready: '
            "Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password' may not match server "
            'node-passwd entry, try enabling a unique node name with the --with-node-id flag"'
        ),
        "K3s knows a node 'w1' with another password",
    ),
    "k3s 802": (
        (
            'time="2020-12-17T07:03:50.833861337Z" level=error msg="Failed to retrieve agent config: Node password '
            "rejected, duplicate hostname or contents of '/etc/rancher/node/password' may not match server node-passwd "
            'entry, try enabling a unique node name with the --with-node-id flag"'
        ),
        "K3s knows a node 'w1' with another password",
    ),
    "k3s 4803": (
        (
            'time="2022-01-11T20:52:54Z" level=fatal msg="ETCD join failed: duplicate node name found, please use a '
            'unique name for this node"'
        ),
        "another node of the cluster has the name 'w1'",
    ),
    "kobe 47": (
        (
            'level=info  msg="Waiting to retrieve agent configuration; server is not ready: failed to retrieve '
            'configuration from server: not authorized"'
        ),
        "K3s refused the join token",
    ),
    "kobe 47, at the end": (
        (
            'level=fatal msg="Error: failed to retrieve agent configuration: failed to retrieve configuration from '
            'server: not authorized"'
        ),
        "K3s refused the join token",
    ),
    "k3s 2470": (
        (
            'time="2020-11-02T21:31:45.110928545Z" level=error msg="token is not valid: https://127.0.0.1:32991/apis: '
            '401 Unauthorized"'
        ),
        "K3s refused the join token",
    ),
    "k3s 4174": (
        "ERRO[2021-10-07T14:07:28.302430882+01:00] token is not valid: https://20.94.40.171:6443/apis: 401 Unauthorized",
        "K3s refused the join token",
    ),
    "k3s 4220": (
        (
            "Failed to configure agent: failed to retrieve configuration from server: "
            "https://127.0.0.1:6444/v1-k3s/config: 401 Unauthorized"
        ),
        "K3s refused the join token",
    ),
    "k3s 457": (
        (
            'time="2019-05-08T13:42:09.562311484-04:00" level=error msg="token does not match the server '
            'XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX != XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX"'
        ),
        "K3s refused the join token",
    ),
    "k3s 9343": (
        (
            'time="2024-02-02T08:45:29Z" level=fatal msg="starting kubernetes: preparing server: failed to get CA certs: '
            'Get \\"https://10.255.0.101:6443/cacerts\\": dial tcp 10.255.0.101:6443: connect: connection refused"'
        ),
        "cannot be reached",
    ),
    "k3s 2852": (
        (
            'level=error msg="failed to get CA certs: Get \\"https://127.0.0.1:6444/cacerts\\": '
            'read tcp 127.0.0.1:42113->127.0.0.1:6444: read: connection reset by peer"'
        ),
        "cannot be reached",
    ),
    "k3s 1395": (
        (
            '=error msg="failed to get CA certs at https://127.0.0.1:41461/cacerts: '
            'Get https://127.0.0.1:41461/cacerts: EOF"'
        ),
        "cannot be reached",
    ),
    "k3s 6194": (
        (
            'time="2022-09-30T06:06:38Z" level=info msg="Waiting to retrieve agent configuration; server is not ready: '
            'CA cert validation failed: Get \\"https://127.0.0.1:6444/cacerts\\": context deadline exceeded '
            '(Client.Timeout exceeded while awaiting headers)"'
        ),
        "cannot be reached",
    ),
    "k3s 8381": (
        'level=error msg="failed to get CA certs: https://127.0.0.1:6444/cacerts: 401 Unauthorized"',
        "is no K3s server",
    ),
    "k3s 4438": (
        (
            'ERRO[0025] CA cert validation failed: Get "https://127.0.0.1:6443/cacerts": x509: certificate has expired or '
            "is not yet valid: current time 2031-11-11T00:40:39Z is after 2022-11-10T00:34:39Z"
        ),
        "the clocks of this machine and of https://10.0.0.1:6443 are too far apart",
    ),
    "k3s 12455": (
        (
            "ERRO[0236] Failed to validate connection to cluster at https://<server-ip>:6443: CA cert validation failed: "
            'Get "https://127.0.0.1:6444/cacerts": tls: failed to verify certificate: x509: cannot validate certificate '
            "for 127.0.0.1 because it doesn't contain any IP SANs"
        ),
        "is not valid for that name",
    ),
    "k3d 853": (
        'time="2021-11-12T06:53:31.262056755Z" level=fatal msg="failed to find memory cgroup (v2)"',
        "no memory cgroup",
    ),
    "k3s 2067": (
        (
            'time="2020-07-26T06:34:05.257725574+01:00" level=error msg="Failed to find memory cgroup, you may need to '
            'add \\"cgroup_memory=1 cgroup_enable=memory\\" to your linux cmdline (/boot/cmdline.txt on a Raspberry Pi)"'
        ),
        "no memory cgroup",
    ),
    "k3s 10916": (
        (
            "Error: failed to validate kubelet flags: unknown 'kubernetes.io' or 'k8s.io' labels specified with "
            "--node-labels: [node-role.kubernetes.io/gha-runner]"
        ),
        "may not give itself labels of kubernetes.io",
    ),
    "k3s-ansible 122": (
        "4070 server.go:159] listen tcp 0.0.0.0:10250: bind: address already in use",
        "has a port that K3s needs (0.0.0.0:10250)",
    ),
    "k3s 6565": (
        "Incorrect Usage: flag provided but not defined: -disable",
        "this version of K3s has no option -disable",
    ),
    "OpenShell 125": (
        'level=fatal msg="no default routes found in \\"/proc/net/route\\" or \\"/proc/net/ipv6_route\\""',
        "no default route",
    ),
}
# Put together from what K3s' source says (pkg/agent/config/config.go, pkg/agent/run.go, pkg/clientaccess/token.go).
FROM_SOURCE = [
    (
        (
            'level=info msg="Waiting to retrieve agent configuration; server is not ready: '
            'https://127.0.0.1:6444/v1-k3s/serving-kubelet.crt: 401 Unauthorized"'
        ),
        "K3s refused the join token",
    ),
    (
        'level=error msg="Failed to validate connection to cluster at https://10.0.0.1:6443: invalid token format"',
        "K3s refused the join token",
    ),
    ('level=fatal msg="Error: failed to validate token: not authorized"', "K3s refused the join token"),
    (
        (
            'level=error msg="failed to validate token: failed to get CA certs: Get '
            '\\"https://10.0.0.1:6443/cacerts\\": dial tcp 10.0.0.1:6443: connect: connection refused"'
        ),
        "cannot be reached",
    ),
    (
        (
            'level=error msg="token is not valid: Get \\"https://127.0.0.1:6444/apis\\": '
            'x509: certificate has expired or is not yet valid"'
        ),
        "the clocks of this machine",
    ),
    (
        'level=error msg="failed to validate token: token CA hash does not match the Cluster CA"',
        "has another CA than",
    ),
]
NO_CAUSES = [
    'E0824 12:00:00.000000    1 kuberuntime_image.go:55] "Failed to pull image" err="failed to authorize: not authorized"',
    'time="2024-03-06T16:34:33-06:00" level=info msg="Starting k3s agent v1.28.7+k3s1 (051b14b2)"',
    'level=info msg="Running load balancer k3s-agent-load-balancer 127.0.0.1:6444 -> [172.22.22.163:6443]"',
    'time="2019-05-14T20:30:54.293791987Z" level=info msg="waiting for node home-ubuntu: nodes \\"home-ubuntu\\" not found"',
    (
        'level=warning msg="Cluster CA certificate is not trusted by the host CA bundle, but the token does not include a '
        "CA hash. Use the full token from the server's node-token file to enable Cluster CA validation.\""
    ),
]


@pytest.mark.parametrize("issue", CAPTURED)
def test_the_lines_of_real_agents_are_understood(issue: str) -> None:
    line, sentence = CAPTURED[issue]
    found = k3s_join.cause_of([*NO_CAUSES, line, NO_CAUSES[0]], SERVER, "w1")
    assert sentence in found.sentence
    assert found.heals == (sentence in {"cannot be reached", "K3s knows a node 'w1' with another password"})
    assert "{" not in found.sentence
    assert "\n" not in found.sentence


@pytest.mark.parametrize(("line", "sentence"), FROM_SOURCE)
def test_what_stands_behind_a_token_that_is_not_valid_is_told(line: str, sentence: str) -> None:
    assert sentence in k3s_join.cause_of([line], SERVER, "w1").sentence


@pytest.mark.parametrize("line", NO_CAUSES)
def test_what_a_healthy_start_says_is_no_cause(line: str) -> None:
    assert k3s_join.cause_of([line], SERVER, "w1") is None


def test_a_cause_is_told_as_a_sentence() -> None:
    assert k3s_join.as_sentence("the clocks differ") == "The clocks differ."
    assert k3s_join.as_sentence("https://a cannot be reached") == "https://a cannot be reached."


def test_the_newest_cause_counts() -> None:
    lines = [CAPTURED["k3s 9343"][0], CAPTURED["k3s 6054"][0]]
    assert "another password" in k3s_join.cause_of(lines, SERVER, "w1").sentence
    assert "cannot be reached" in k3s_join.cause_of(lines[::-1], SERVER, "w1").sentence


# ---- waiting


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def waited(
    journal: Callable[[float], list[str]], joined_at: float = float("inf")
) -> tuple[str | None, float]:
    """What a wait of 180 s says, and how long it took."""
    time = Time()
    why = k3s_join.wait(
        lambda: "" if time.now >= joined_at else "its kubelet is not healthy",
        lambda: journal(time.now),
        SERVER,
        "w1",
        seconds=180,
        clock=time,
        sleep=time.sleep,
    )
    return why, time.now


def test_a_cause_that_no_waiting_mends_ends_the_wait_soon() -> None:
    why, seconds = waited(lambda _: [CAPTURED["kobe 47"][0]])
    assert why
    assert why.startswith("K3s refused the join token")
    assert seconds == k3s_join.PATIENCE_SECONDS


def test_a_server_that_is_starting_is_waited_for() -> None:
    lines = {0: CAPTURED["kobe 47"][0], 1: CAPTURED["k3s 9343"][0], 2: NO_CAUSES[0]}
    assert waited(lambda now: [lines[int(min(now // 15, 2))]], joined_at=60) == (None, 60)


def test_a_port_that_stays_closed_is_told_when_the_time_is_up() -> None:
    why, seconds = waited(lambda _: [CAPTURED["k3s 9343"][0]])
    assert (why, seconds) == (k3s_join.UNREACHABLE.format(server=SERVER), 180)


def test_without_a_known_cause_what_is_missing_is_told_and_the_agents_own_words() -> None:
    why, seconds = waited(lambda _: [NO_CAUSES[0], 'level=error msg="the moon is full"', NO_CAUSES[1]])
    assert (why, seconds) == (
        'its kubelet is not healthy; the agent said last: level=error msg="the moon is full"',
        180,
    )
    assert waited(lambda _: [])[0] == "its kubelet is not healthy; the agent said last: nothing"


# ---- before the join


@pytest.mark.parametrize(
    ("controllers", "cgroups", "can"),
    [
        ("cpuset cpu io memory hugetlb pids\n", "", True),
        ("cpuset cpu io pids\n", CGROUPS, False),
        (None, CGROUPS, True),
        (None, CGROUPS.replace("92\t1", "92\t0"), False),
        (None, "", False),
    ],
)
def test_both_kinds_of_cgroups_are_read(controllers: str | None, cgroups: str, can: bool) -> None:
    assert k3s_join.limits_memory(controllers, cgroups) is can


def test_a_port_where_nobody_listens_is_said_within_seconds() -> None:
    url = f"https://127.0.0.1:{free_port()}"
    why = k3s_join.obstacle(url, "", None, CGROUPS)
    assert why.startswith(f"{url} cannot be reached: its port is closed")


def test_a_port_that_swallows_packets_is_said_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(k3s_join, "CONNECT_SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        assert "cannot be reached" in k3s_join.obstacle(url, "", None, CGROUPS)


def test_a_name_that_dns_does_not_know_is_said() -> None:
    assert "cannot be resolved" in k3s_join.obstacle("https://no.such.invalid:6443", "", None, CGROUPS)


@pytest.fixture
def server(own_server: Server) -> Iterator[Server]:
    own_server.up("server")
    return own_server


def test_a_token_of_this_cluster_is_fine_and_one_of_another_is_not(server: Server) -> None:
    token = server.token("node-token")
    assert k3s_join.obstacle(server.url, token, None, CGROUPS) is None
    assert k3s_join.obstacle(server.url, "a short one", None, CGROUPS) is None
    other = token.replace(token[3:67], hashlib.sha256(b"another").hexdigest())
    assert "has another CA than the one that the join token names" in k3s_join.obstacle(
        server.url, other, None, CGROUPS
    )


@pytest.mark.parametrize(("seconds", "said"), [(3600, "3600 s ahead of"), (-3600, "3600 s behind")])
def test_clocks_that_are_apart_are_said(
    server: Server, monkeypatch: pytest.MonkeyPatch, seconds: int, said: str
) -> None:
    now = k3s_join.time.time
    monkeypatch.setattr(k3s_join.time, "time", lambda: now() + seconds)
    why = k3s_join.obstacle(server.url, "", None, CGROUPS)
    assert "the clocks of this machine and of" in why
    assert re.search(said.replace("3600", "(3599|3600|3601)"), why)


# ---- on real processes of the stand-in


def test_a_reinstalled_machine_is_told_to_have_its_node_deleted(
    server: Server, worker: Callable[..., Machine]
) -> None:
    worker("twin", server, server.token("node-token")).up("agent").stop()
    again = worker("twin", server, server.token("node-token")).start("agent")
    again.wait_for("Node password rejected")
    assert "another password" in k3s_join.cause_of(again.journal.splitlines(), server.url, "twin").sentence


def test_a_wrong_token_is_told(server: Server, worker: Callable[..., Machine]) -> None:
    agent = worker("wrong", server, "abcdef.0123456789abcdef").start("agent")
    agent.wait_for("401 Unauthorized")
    assert "refused the join token" in k3s_join.cause_of(agent.journal.splitlines(), server.url, "w").sentence


def test_a_node_that_says_so_is_ready(server: Server, worker: Callable[..., Machine]) -> None:
    agent = worker("fine", server, server.token("node-token")).up("agent")
    kubeconfig = str(agent.state / "agent/kubelet.kubeconfig")
    node = json.loads(agent.kubectl("--kubeconfig", kubeconfig, "get", "node", "fine", "--output", "json"))
    assert k3s_join.unready(node) == ""
    node["status"]["conditions"] = []
    assert k3s_join.unready(node) == "its node is not Ready: it has not reported yet"
    network = {"type": "Ready", "status": "False", "message": "cni plugin not initialized"}
    node["status"]["conditions"] = [network]
    assert k3s_join.unready(node) == "its node is not Ready: cni plugin not initialized"


def test_what_a_command_complains_of_is_kept() -> None:
    assert k3s_join.ask("sh", "-c", "echo fine") == ("fine\n", "")
    assert k3s_join.ask("sh", "-c", "echo no kubeconfig >&2; exit 1") == ("", "no kubeconfig")
    assert k3s_join.ask("sh", "-c", "exit 3") == ("", "it ended with 3")
    assert "No such file" in k3s_join.ask("/there/is/none")[1]
