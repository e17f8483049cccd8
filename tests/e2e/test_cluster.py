"""The main job on real hosts, in this order: built, watched, broken, healed, run again."""

from __future__ import annotations

import hashlib
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.e2e.conftest import wait_until

if TYPE_CHECKING:
    from tests.e2e.conftest import Lab

pytestmark = pytest.mark.lab

WORKERS = {"worker1", "worker2"}
FIREWALL = ["muster-firewall", "muster-peers"]
SERVICES = {
    "master": ["postgresql@15-main", "redis-server", "nginx", "k3s", "muster-control-api", *FIREWALL],
    "worker1": ["k3s-agent", "muster-agent", *FIREWALL],
    "worker2": ["k3s-agent", "muster-agent", *FIREWALL],
}


def test_make_up_ends_with_the_workers_the_login_and_the_phases(lab: Lab) -> None:
    for expected in ("worker1", "worker2", "ACTIVE", "Ready", "https://", "admin", "site.yml"):
        assert expected in lab.up_output
    print(lab.up_output[-3500:])


def test_every_service_runs_under_systemd(lab: Lab) -> None:
    for host, units in SERVICES.items():
        assert lab.on(host, f"systemctl is-active {' '.join(units)}").split() == ["active"] * len(units)
        assert lab.on(host, "systemctl --failed --plain --no-legend").strip() == ""


def test_rules_of_the_firewall_that_something_has_flushed_are_loaded_again(lab: Lab) -> None:
    def filtered() -> list[str]:
        return [host for host in SERVICES if "table inet muster" in lab.on(host, "nft list tables")]

    for host in SERVICES:
        lab.on(host, "nft delete table inet muster")
    wait_until(lambda: filtered() == list(SERVICES), 30, "not all hosts have their rules")


def test_every_worker_is_active_and_its_node_ready(lab: Lab) -> None:
    assert {
        name: (worker["status"], worker["nodeState"]) for name, worker in lab.workers().items()
    } == dict.fromkeys(WORKERS, ("ACTIVE", "Ready"))


def test_redis_refuses_who_has_no_password(lab: Lab) -> None:
    assert "NOAUTH" in lab.on("master", "redis-cli ping")


def test_no_secret_is_readable_by_others(lab: Lab) -> None:
    readable = (
        "find /etc/muster /etc/muster-agent /var/lib/muster-agent /etc/rancher /etc/redis -type f -perm /o=r"
    )
    for host in SERVICES:
        files = set(lab.on(host, f"{readable} 2>/dev/null || true").split())
        assert files <= {
            "/etc/muster/control-api.env",
            "/etc/muster/tls/ca.crt",
            "/etc/muster/tls/api.crt",
            "/etc/muster-agent/ca.pem",
            "/etc/muster-agent/config.json",
        }


def test_no_secret_is_in_a_journal(lab: Lab) -> None:
    """Ansible's own modules write there what they were asked."""
    names = lab.on("master", "ls /etc/muster/secrets").split()
    secrets = {name: lab.on("master", f"cat /etc/muster/secrets/{name}").strip() for name in names}
    assert "WORKER_REGISTRATION_TOKEN" in secrets
    for host in SERVICES:
        journal = lab.on(host, "journalctl --no-pager --output=cat")
        assert "Invoked with" in journal
        assert [name for name, secret in secrets.items() if secret in journal] == []


@pytest.mark.parametrize("port", [3000, 5432, 6379])
def test_inner_ports_are_closed_to_workers(lab: Lab, port: int) -> None:
    probe = f"timeout 3 bash -c '</dev/tcp/{lab.addresses['master']}/{port}' && echo open || echo closed"
    assert lab.on("worker1", probe).strip().endswith("closed")


@pytest.mark.parametrize("host", SERVICES)
def test_a_machine_that_is_no_worker_gets_to_ssh_and_https_only(lab: Lab, host: str) -> None:
    """This machine is on the hosts' network, and in no group and no table."""
    doors = {port for port in (22, 443, 3000, 5432, 6379, 6443, 10250) if passes(lab.addresses[host], port)}
    assert doors == ({22, 443} if host == "master" else {22})


def test_a_machine_is_let_in_when_it_has_registered_and_kept_out_when_it_is_removed(lab: Lab) -> None:
    master, worker = lab.addresses["master"], lab.addresses["worker1"]
    visitor = lab.register(hostname="visitor", ipAddress=lab.gateway, cpuCores=1)
    try:
        registered = time.monotonic()
        wait_until(lambda: passes(master, 6443), 10, "6443 of the master is not open")
        to_master = time.monotonic() - registered
        wait_until(lambda: passes(worker, 10250), 10, "10250 of a worker is not open")
        print(f"\nlet in after {to_master:.1f} s, by workers after {time.monotonic() - registered:.1f} s")
    finally:
        lab.remove(visitor)
    wait_until(lambda: not passes(master, 6443), 10, "6443 of the master is still open")
    wait_until(lambda: not passes(worker, 10250), 12, "10250 of a worker is still open")


def passes(address: str, port: int) -> bool:
    """Whether the firewall lets us through; behind it somebody may listen or not."""
    try:
        socket.create_connection((address, port), timeout=1.5).close()
    except ConnectionRefusedError:
        return True
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize(("host", "unit"), [("master", "muster-control-api"), ("worker1", "muster-agent")])
def test_our_units_are_hardened(lab: Lab, host: str, unit: str) -> None:
    report = lab.on(host, f"systemd-analyze security --no-pager {unit} | tail -1")
    exposure = float(re.search(r"(\d+\.\d+)", report).group(1))
    assert exposure <= 2.5


def test_site_run_again_changes_nothing_and_restarts_nothing(lab: Lab) -> None:
    before = running_since(lab)
    recap = lab.playbook("playbooks/site.yml").split("PLAY RECAP")[1]
    print("PLAY RECAP" + recap)
    counts = dict(re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", recap, flags=re.MULTILINE))
    assert {host: counts[host] for host in SERVICES} == dict.fromkeys(SERVICES, "0")
    assert running_since(lab) == before


def running_since(lab: Lab) -> dict[str, str]:
    show = "systemctl show --property=Id,MainPID,ActiveEnterTimestamp "
    return {host: lab.on(host, show + " ".join(units)) for host, units in SERVICES.items()}


def test_the_worker_table_is_an_inventory_of_the_active_workers(lab: Lab) -> None:
    out = fleet_ping(lab)
    assert {host for host in WORKERS if re.search(rf"^{host}\s+: ok=1", out, flags=re.MULTILINE)} == WORKERS


def test_a_cut_worker_is_inactive_within_two_minutes_and_active_when_healed(lab: Lab) -> None:
    identity = lab.workers()["worker1"]["id"]
    lab.command("cut", "worker1")
    detected = lab.wait_for_status("worker1", "INACTIVE", seconds=120)
    out = fleet_ping(lab)
    assert "worker1" not in out.split("PLAY RECAP")[1]
    assert "worker2" in out.split("PLAY RECAP")[1]

    lab.command("heal", "worker1")
    returned = lab.wait_for_status("worker1", "ACTIVE", seconds=120)
    print(f"\ncut worker1: INACTIVE after {detected:.0f} s; healed: ACTIVE after {returned:.0f} s")
    assert lab.workers()["worker1"]["id"] == identity


def test_a_worker_whose_power_was_cut_comes_back_by_itself(lab: Lab) -> None:
    identity = lab.workers()["worker1"]["id"]
    lab.command("kill", "worker1")
    detected = lab.wait_for_status("worker1", "INACTIVE", seconds=120)
    lab.command("up", "worker1")
    returned = lab.wait_for_status("worker1", "ACTIVE", seconds=120)
    print(f"\nkilled worker1: INACTIVE after {detected:.0f} s; switched on: ACTIVE after {returned:.0f} s")
    assert lab.workers()["worker1"]["id"] == identity


def test_a_rebooted_master_keeps_the_fleet_active(lab: Lab) -> None:
    lab.command("kill", "master")
    lab.command("up", "master")
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            statuses = {name: worker["status"] for name, worker in lab.workers().items()}
        except OSError:
            continue
        assert "INACTIVE" not in statuses.values()
        if (
            set(statuses.values()) == {"ACTIVE"}
            and lab.on("master", "k3s kubectl get nodes").count(" Ready") == 3
        ):
            return
        time.sleep(2)
    pytest.fail("the fleet was not ACTIVE again 90 s after the master's reboot")


def test_every_problem_of_every_host_is_named_before_anything_is_changed(lab: Lab) -> None:
    before = running_since(lab)
    lab.on("worker2", "mv /etc/debian_version /etc/kept && echo 11.9 >/etc/debian_version")
    lab.on("worker2", "systemd-run --unit=stranger python3 -m http.server 10250")
    lab.command("cut", "worker1")
    try:
        out = lab.playbook("playbooks/site.yml", "-e", "ansible_timeout=5", check=False)
    finally:
        lab.command("heal", "worker1")
        lab.on("worker2", "systemctl stop stranger; mv /etc/kept /etc/debian_version")
    message = out.rsplit("Nothing was changed.", 1)[1].split("PLAY RECAP", maxsplit=1)[0]
    print(message)
    assert re.search(r"worker1:\n\s*- it cannot be reached: ", message)
    assert "it runs Debian 11.9, and Debian 12, Debian 13, Ubuntu 22.04 or Ubuntu 24.04 is needed." in message
    assert "port 10250 is needed and taken by python3 (stranger.service)" in message
    assert "master:" not in message
    assert "Build the master" not in out
    assert running_since(lab) == before
    lab.wait_for_status("worker1", "ACTIVE", seconds=120)


def test_k3s_comes_from_a_mirror_and_only_with_the_right_checksum(lab: Lab, tmp_path: Path) -> None:
    release = tmp_path / "v0.0.1-mirrored"
    release.mkdir()
    shutil.copy(
        yaml.safe_load((lab.state / "inventory/group_vars/all/lab.yml").read_text())["k3s_binary_file"],
        release / "k3s",
    )
    checksum = hashlib.sha256((release / "k3s").read_bytes()).hexdigest()
    with served(tmp_path, lab.gateway) as url:
        install = [
            "playbooks/site.yml",
            "--tags=k3s",
            "--limit=worker2",
            f"--extra-vars=k3s_binary_mirror_url={url}",
        ]
        install += ["--extra-vars=k3s_binary_file= k3s_binary_version=v0.0.1-mirrored"]

        (release / "sha256sum-amd64.txt").write_text(
            f"{'0' * 64}  k3s\n{checksum}  k3s-airgap-images-amd64.tar\n"
        )
        out = lab.playbook(*install, check=False)
        assert "did not match" in out
        assert lab.on("worker2", "ls /usr/local/bin").split().count("k3s-v0.0.1-mirrored") == 0

        (release / "sha256sum-amd64.txt").write_text(f"{checksum}  k3s\n")
        lab.playbook(*install)
    assert lab.on("worker2", "readlink /usr/local/bin/k3s").strip() == "k3s-v0.0.1-mirrored"
    assert lab.on("worker2", "systemctl is-active k3s-agent").strip() == "active"


def fleet_ping(lab: Lab) -> str:
    """Run playbooks/ping.yml over the dynamic inventory, as docs/operations.md says."""
    certificate = lab.state / "ca.crt"
    certificate.write_text(lab.on("master", "cat /etc/muster/tls/ca.crt"))
    environment = {
        "MUSTER_URL": lab.url,
        "MUSTER_CA_FILE": str(certificate),
        "MUSTER_API_KEY": lab.on("master", "cat /etc/muster/secrets/MUSTER_INVENTORY_KEY"),
        "MUSTER_KNOWN_HOSTS": str(lab.state / "fleet_known_hosts"),
    }
    return lab.playbook(
        "playbooks/ping.yml",
        f"--private-key={lab.key}",
        inventory="inventory/fleet.muster.yml",
        environment=environment,
    )


@contextmanager
def served(directory: Path, address: str) -> Iterator[str]:
    """Serve a directory to the lab's hosts; the URL."""
    server = ThreadingHTTPServer((address, 0), partial(SimpleHTTPRequestHandler, directory=str(directory)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{address}:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
