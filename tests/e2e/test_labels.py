"""Labels and taints of a node follow the inventory, and leave what others have set."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from tests.e2e.conftest import Lab

pytestmark = pytest.mark.lab

LIMITED = ["playbooks/label.yml", "--limit=worker1", "--diff"]


@pytest.fixture
def declare(lab: Lab) -> Iterator[Callable[..., None]]:
    """declare(**variables): the variables of worker1 in the lab's inventory, until the test ends."""
    file = lab.state / "inventory/host_vars/worker1.yml"
    file.parent.mkdir(exist_ok=True)
    yield lambda **variables: file.write_text(yaml.safe_dump(variables)) and None
    file.unlink()
    lab.playbook(*LIMITED)


def node(lab: Lab) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.on("master", "k3s kubectl get node worker1 --output json"))
    return found


def changed(output: str) -> list[str]:
    return re.findall(r"changed=(\d+)", output.split("PLAY RECAP")[1])


def test_labels_and_taints_follow_the_inventory_and_those_of_others_stay(
    lab: Lab, declare: Callable[..., None]
) -> None:
    lab.on("master", "k3s kubectl label node worker1 theirs=1")
    declare(cluster_k3s_labels={"node-role.kubernetes.io/edge": ""}, cluster_k3s_taints=["gpu:NoSchedule"])
    asked = lab.playbook(*LIMITED, "--check")
    assert "+label node-role.kubernetes.io/edge=" in asked
    assert "+taint gpu=:NoSchedule" in asked
    assert "node-role.kubernetes.io/edge" not in node(lab)["metadata"]["labels"]

    assert changed(lab.playbook(*LIMITED)) == ["1"]
    found = node(lab)
    assert found["metadata"]["labels"]["node-role.kubernetes.io/edge"] == ""
    assert found["spec"]["taints"] == [{"key": "gpu", "effect": "NoSchedule"}]
    assert changed(lab.playbook(*LIMITED)) == ["0"]

    declare(cluster_k3s_labels={"disk": "ssd"})
    assert changed(lab.playbook(*LIMITED)) == ["1"]
    found = node(lab)
    assert "node-role.kubernetes.io/edge" not in found["metadata"]["labels"]
    assert (found["metadata"]["labels"]["disk"], found["metadata"]["labels"]["theirs"]) == ("ssd", "1")
    assert not found["spec"].get("taints")
    lab.on("master", "k3s kubectl label node worker1 theirs-")
