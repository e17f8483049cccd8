"""The inventory that `muster lab up` writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import yaml

from lab import inventory
from lab.k3s import Binary
from lab.layout import Layout

STAND_IN = Binary(Path("/cache/k3s"), "v0.0.0-stand-in", is_stand_in=True)


def test_every_host_that_has_a_disk_is_in_its_group_with_its_address(layout: Layout) -> None:
    inventory.write(layout, STAND_IN)
    content = yaml.safe_load((layout.inventory / "hosts.yml").read_text())
    assert content["masters"] == {"hosts": {"master": {"ansible_host": "10.213.68.10"}}}
    assert content["servers"] == {"hosts": {}}
    assert content["workers"] == {
        "hosts": {
            "worker1": {"ansible_host": "10.213.68.11"},
            "worker10": {"ansible_host": "10.213.68.20"},
        }
    }


def test_the_hosts_keys_are_known_before_the_first_connection(layout: Layout) -> None:
    inventory.write(layout, STAND_IN)
    assert layout.known_hosts.read_text() == (
        "10.213.68.10 ssh-ed25519 AAAAmaster\n"
        "10.213.68.11 ssh-ed25519 AAAAworker1\n"
        "10.213.68.20 ssh-ed25519 AAAAworker10\n"
    )


def test_ansible_reads_it_and_keeps_host_key_checking_on(layout: Layout) -> None:
    inventory.write(layout, STAND_IN)
    command = [Path(sys.executable).parent / "ansible-inventory", "-i", layout.inventory, "--host", "worker1"]
    variables = json.loads(subprocess.check_output(command, stderr=subprocess.DEVNULL))
    arguments = variables.pop("ansible_ssh_common_args").split()
    assert {f"-oUserKnownHostsFile={layout.known_hosts}", "-oStrictHostKeyChecking=yes"} <= set(arguments)
    assert variables == {
        "ansible_control_path_dir": str(layout.state / "ssh"),
        "ansible_host": "10.213.68.11",
        "ansible_ssh_private_key_file": str(layout.state / "ssh_key"),
        "ansible_user": "root",
        "k3s_binary_file": "/cache/k3s",
        "k3s_binary_version": "v0.0.0-stand-in",
    }


def test_servers_beside_the_master_are_in_a_group_of_their_own_and_keep_the_cluster_in_etcd(
    layout: Layout,
) -> None:
    names = ["master", "worker1", "server1", "server2"]
    content = inventory.hosts(layout, names)
    assert list(content["servers"]["hosts"]) == ["server1", "server2"]
    assert list(content["workers"]["hosts"]) == ["worker1"]
    assert inventory.variables(STAND_IN, names)["cluster_k3s_datastore"] == "etcd"
    assert "cluster_k3s_datastore" not in inventory.variables(STAND_IN, names[:2])


def test_the_k3s_of_an_earlier_up_is_remembered(layout: Layout) -> None:
    assert inventory.earlier_binary(layout) is None
    inventory.write(layout, STAND_IN)
    assert inventory.earlier_binary(layout) == Path("/cache/k3s")
