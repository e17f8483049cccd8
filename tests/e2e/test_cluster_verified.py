"""playbooks/verify.yml on a built cluster: a table without a fault; and what is broken on purpose is named in it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Lab

pytestmark = pytest.mark.lab

LINE = re.compile(r"^ *(\w+) +(master|worker\d) +(ok|FAULT|NOT SHOWN) +(.*)$", re.MULTILINE)


def verify(lab: Lab, *arguments: str) -> tuple[str, dict[tuple[str, str, str], str]]:
    """What the playbook printed, and what it says by check, host and state."""
    output = lab.playbook("playbooks/verify.yml", "-e", "ansible_timeout=5", *arguments, check=False)
    report = output.split("TASK [Report]")[1].split("PLAY RECAP")[0]
    print(report)
    return output, {(check, host, state): says for check, host, state, says in LINE.findall(report)}


def test_a_cluster_that_is_well_has_a_report_without_a_fault(lab: Lab) -> None:
    output, rows = verify(lab)
    assert re.search(r"\d+ ok, 1 cannot be shown here, no fault\.", output)
    assert not [row for row in rows if row[2] == "FAULT"]
    for host in ("master", "worker1", "worker2"):
        assert {("services", host, "ok"), ("certificates", host, "ok"), ("api", host, "ok")} <= set(rows)
        assert {("firewall", host, "ok"), ("nodes", host, "ok")} <= set(rows)
    assert rows["workers", "worker1", "ok"] == rows["workers", "worker2", "ok"] == "ACTIVE"
    assert ("database", "master", "ok") in rows
    assert rows["lists", "master", "ok"] == "the worker table and K3s have the same 2 machines"


def test_what_the_stand_in_cannot_show_is_said_and_nothing_is_left_of_it(lab: Lab) -> None:
    _, rows = verify(lab, "--limit=worker1")
    assert 'no matches for kind "DaemonSet"' in rows["workload", "master", "NOT SHOWN"]
    assert "muster-verify" not in lab.on("master", "k3s kubectl get namespaces")
    assert ("services", "worker2", "ok") not in rows


def test_everything_that_is_broken_is_named_and_ends_in_a_failure(lab: Lab) -> None:
    visitor = lab.register(hostname="visitor", ipAddress=lab.gateway, cpuCores=1)
    lab.on("master", "systemctl stop redis-server && mv /etc/muster/tls/ca.crt /etc/kept")
    lab.on("worker1", "systemd-run --quiet --unit=broken false; systemctl stop k3s-agent")
    lab.command("cut", "worker2")
    try:
        lab.wait_for_status("worker2", "INACTIVE", seconds=120)
        output, rows = verify(lab)
    finally:
        lab.command("heal", "worker2")
        lab.on("worker1", "systemctl reset-failed broken; systemctl start --no-block k3s-agent")
        lab.on("master", "systemctl start redis-server; mv /etc/kept /etc/muster/tls/ca.crt")
        lab.remove(visitor)
    assert re.search(r"failed=1", output)
    assert "/etc/muster/tls/ca.crt is not there" in rows["certificates", "master", "FAULT"]
    assert "/readyz says: rateLimits impaired" in output
    assert "redis-server.service does not run: it is inactive (dead)" in rows["services", "master", "FAULT"]
    assert "k3s-agent.service does not run" in output
    assert "broken.service has failed" in output
    assert "it cannot be reached: " in rows["contact", "worker2", "FAULT"]
    assert rows["workers", "worker2", "FAULT"] == "it is INACTIVE; its node is NotReady"
    assert ("nodes", "worker2", "FAULT") in rows
    assert "the worker table has it, and K3s has no node of this name" in output  # the visitor
    for worker in ("worker1", "worker2"):
        lab.wait_for_status(worker, "ACTIVE", seconds=180)
