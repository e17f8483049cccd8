"""A machine that was reinstalled joins again under its name, though K3s keeps a password for that name."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Lab

pytestmark = pytest.mark.lab


def uid(lab: Lab, kind: str, name: str) -> str:
    asked = f"k3s kubectl --namespace kube-system get {kind} {name} --output json"
    found: dict[str, Any] = json.loads(lab.on("master", asked))
    return str(found["metadata"]["uid"])


def test_a_reinstalled_machine_joins_again_under_its_name(lab: Lab) -> None:
    secret = "worker2.node-password.k3s"
    before = lab.workers()["worker2"]["id"], uid(lab, "node", "worker2"), uid(lab, "secret", secret)
    lab.command("wipe", "worker2")
    lab.remove(before[0])
    lab.command("up", "worker2")

    started = time.monotonic()
    lab.playbook("playbooks/site.yml", "--limit=worker2")
    lab.wait_for_status("worker2", "ACTIVE", seconds=60)
    print(f"\nreinstalled worker2: built and ACTIVE after {time.monotonic() - started:.0f} s")
    after = lab.workers()["worker2"]["id"], uid(lab, "node", "worker2"), uid(lab, "secret", secret)
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert lab.workers()["worker2"]["nodeState"] == "Ready"
