"""Two more servers of K3s: the cluster goes from SQLite into etcd, and bears the loss of one of them."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.conftest import wait_until
from tests.e2e.test_cluster import passes

if TYPE_CHECKING:
    from tests.e2e.conftest import Lab

pytestmark = pytest.mark.lab

SERVERS = ["server1", "server2"]
MEMBERS = {"master", *SERVERS}


@pytest.fixture(scope="module")
def servers(lab: Lab) -> str:
    """What site.yml said when the lab had got two more servers; they stay to the lab's end."""
    lab.command("up", *SERVERS)
    lab.__dict__.pop("addresses", None)  # read once, before there were servers
    started = time.monotonic()
    said = lab.playbook("playbooks/site.yml")
    print(f"\ntwo servers joined, with the way from sqlite to etcd, in {time.monotonic() - started:.0f} s")
    return said


def nodes(lab: Lab, on: str = "master") -> dict[str, dict[str, Any]]:
    listed = json.loads(lab.on(on, "k3s kubectl get nodes --output json"))["items"]
    return {node["metadata"]["name"]: node for node in listed}


def ready(node: dict[str, Any]) -> str:
    return next(entry["status"] for entry in node["status"]["conditions"] if entry["type"] == "Ready")


def test_the_cluster_goes_into_etcd_with_all_that_it_had(lab: Lab, servers: str) -> None:
    assert lab.on("master", "ls /var/lib/rancher/k3s/server/db").split() == ["etcd", "state.db.migrated"]
    found = nodes(lab, on="server2")
    assert set(found) == MEMBERS | {"worker1", "worker2"}
    assert {name for name, node in found.items() if ready(node) == "True"} == set(found)
    assert {
        name for name, node in found.items() if "node-role.kubernetes.io/etcd" in node["metadata"]["labels"]
    } == MEMBERS
    assert {worker["status"] for worker in lab.workers().values()} == {"ACTIVE"}


def test_the_servers_are_no_workers_and_no_worker_has_the_server_token(lab: Lab, servers: str) -> None:
    assert set(lab.workers()) == {"worker1", "worker2"}
    token = lab.on("master", "cat /var/lib/rancher/k3s/server/token").strip()
    for host in SERVERS:
        assert lab.on(host, "cat /etc/muster/secrets/k3s_server_token").strip() == token
        assert lab.on(host, "find /etc/muster/secrets /etc/rancher -type f -perm /o=r") == ""
    password = token.rpartition(":")[2]
    for host in ("worker1", "worker2"):
        assert lab.on(host, f"grep -rls {password} /etc /var/lib /run || true").strip() == ""


def test_the_ports_of_etcd_are_open_between_servers_only(lab: Lab, servers: str) -> None:
    for port in (2379, 2380):
        assert not passes(lab.addresses["server1"], port)
        probe = f"timeout 2 bash -c '</dev/tcp/{lab.addresses['server1']}/{port}' 2>&1 || echo $?"
        assert lab.on("worker1", probe).strip() == "124"  # dropped
        assert "refused" in lab.on("server2", probe)  # let through, to where only a real etcd listens
    reach = f"timeout 2 bash -c '</dev/tcp/{lab.addresses['server1']}/6443' && echo open"
    assert lab.on("worker1", reach).strip() == "open"


def test_a_second_run_with_servers_changes_nothing(lab: Lab, servers: str) -> None:
    since = "systemctl show --property=MainPID,ActiveEnterTimestamp k3s"
    before = {host: lab.on(host, since) for host in MEMBERS}
    recap = lab.playbook("playbooks/site.yml").split("PLAY RECAP")[1]
    counts = dict(re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", recap, flags=re.MULTILINE))
    assert {host: counts[host] for host in MEMBERS | {"worker1", "worker2"}} == dict.fromkeys(
        [*MEMBERS, "worker1", "worker2"], "0"
    )
    assert {host: lab.on(host, since) for host in MEMBERS} == before


def test_the_cluster_goes_on_without_one_server(lab: Lab, servers: str) -> None:
    lab.command("kill", "server1")
    killed = time.monotonic()
    wait_until(lambda: ready(nodes(lab)["server1"]) == "Unknown", 90, "server1 is not NotReady")
    print(f"\nkilled server1: NotReady after {time.monotonic() - killed:.0f} s")
    assert {name for name, node in nodes(lab, on="server2").items() if ready(node) == "True"} == {
        "master",
        "server2",
        "worker1",
        "worker2",
    }
    restart = [
        "playbooks/site.yml",
        "--limit=master",
        "--tags=k3s",
        "-e",
        '{"k3s_server_config": {"debug": true}}',
    ]
    said = " ".join(lab.playbook(*restart, check=False).split())
    assert "K3s is not restarted, because etcd would be without a majority: server1 is not Ready." in said

    lab.command("up", "server1")
    wait_until(lambda: ready(nodes(lab)["server1"]) == "True", 90, "server1 is not Ready again")
    lab.playbook("playbooks/site.yml", "--limit=master", "--tags=k3s")
