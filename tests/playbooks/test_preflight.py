"""What is said before anything is changed, by the real ansible-playbook; no host but this machine is touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
HERE = {
    "ansible_connection": "local",
    "ansible_host": "192.0.2.10",
    "ansible_python_interpreter": sys.executable,
}
NOBODY = {"ansible_host": "127.0.0.1", "ansible_port": 1}


def preflight(
    directory: Path, masters: dict[str, Any], workers: dict[str, Any], servers: dict[str, Any] | None = None
) -> tuple[int, str]:
    """Run the checks over an inventory of these hosts; the exit status and what was said."""
    inventory = directory / "hosts.yml"  # JSON is YAML
    groups = {"masters": masters, "servers": servers or {}, "workers": workers}
    inventory.write_text(json.dumps({name: {"hosts": hosts} for name, hosts in groups.items()}))
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", inventory, "playbooks/preflight.yml"],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "HOME": str(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, " ".join(done.stdout.split())


def test_every_host_that_cannot_be_reached_is_named_in_one_sentence(tmp_path: Path) -> None:
    status, said = preflight(tmp_path, {"m1": HERE}, {"w1": NOBODY, "w2": NOBODY})
    assert "Nothing was changed, because w1, w2 cannot be reached: repair the connection" in said
    assert "Check the host" not in said
    assert status != 0


@pytest.mark.parametrize("masters", [{}, {"m1": HERE, "m2": HERE}])
def test_an_inventory_has_one_master(tmp_path: Path, masters: dict[str, Any]) -> None:
    status, said = preflight(tmp_path, masters, {"w1": HERE})
    assert f"must have one host in the group 'masters'; it has {len(masters)}." in said
    assert "Gather facts" not in said
    assert status != 0


def test_what_is_wrong_with_a_host_is_said_by_name(tmp_path: Path) -> None:
    status, said = preflight(tmp_path, {"m1": HERE}, {"w1": {**HERE, "cluster_address": "fe80::1"}})
    assert "w1: set cluster_address to the IPv4 address that the other nodes reach this host by" in said
    assert "Check the inputs" not in said
    assert status != 0


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"k3s_binary_version": "latest"}, "m1: k3s_binary_version is 'latest', which is no release"),
        ({"k3s_binary_file": "/no/such/file"}, "k3s_binary_file is /no/such/file, which is not there."),
        (
            {"k3s_binary_file": str(ROOT / "site.yml"), "k3s_binary_sha256": "0" * 64},
            f"site.yml is not the file whose SHA-256 is {'0' * 64}, which k3s_binary_sha256 asks for.",
        ),
        (
            {"k3s_server_config": {"token": "secret"}},
            "m1: k3s_server_config may not hold token: other inputs of the role set that.",
        ),
        (
            {"cluster_k3s_labels": {"a b": "c"}, "cluster_k3s_taints": ["a:Never"]},
            (
                "and before it perhaps a domain in lower case and '/'. cluster_k3s_taints has 'a:Never': "
                "key=value:Effect is needed, Effect one of NoSchedule, PreferNoSchedule, NoExecute."
            ),
        ),
        ({"cluster_k3s_datastore": "mysql"}, "must be one of: sqlite, postgresql, etcd, got: mysql"),
    ],
)
def test_a_wrong_input_of_k3s_is_refused_before_anything_is_changed(
    tmp_path: Path, variables: dict[str, Any], said: str
) -> None:
    status, output = preflight(tmp_path, {"m1": {**HERE, **variables}}, {})
    assert said in output
    assert "Ask the master" in output or "Compare with the roles" in output
    assert status != 0


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"cluster_domain": "https://paas.example.org"},
            "m1: https://paas.example.org is no DNS name, such as paas.example.org, that a certificate can be for.",
        ),
        ({"cluster_domain": "192.0.2.10"}, "m1: 192.0.2.10 is no DNS name"),
        ({"certbot_email": "a@b.org"}, "m1: certbot_email asks for a certificate, but there is no domain"),
        ({"certbot_email": "a b"}, "m1: certbot_email is 'a b', which is no e-mail address."),
        ({"certbot_acme_server": "ca.example.org"}, "'ca.example.org', which is no https:// URL of an ACME"),
        ({"certbot_ca_bundle": "/no/such/file"}, "certbot_ca_bundle is /no/such/file, which is not there."),
    ],
)
def test_a_certificate_that_cannot_be_is_refused_before_anything_is_changed(
    tmp_path: Path, variables: dict[str, Any], said: str
) -> None:
    status, output = preflight(tmp_path, {"m1": {**HERE, **variables}}, {})
    assert said in output
    assert "Check what K3s allows" not in output
    assert status != 0


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (
            "v1.35.0+k3s1",
            "w1: an agent of K3s v1.35.0+k3s1 would be newer than its server, which has v1.34.4+k3s1",
        ),
        ("v1.30.0+k3s1", "w1: an agent of K3s v1.30.0+k3s1 is more than 3 minor releases behind its server"),
    ],
)
def test_an_agent_that_does_not_go_with_its_server_is_refused(tmp_path: Path, wanted: str, said: str) -> None:
    master = {**HERE, "k3s_binary_version": "v1.34.4+k3s1"}
    worker = {**HERE, "k3s_binary_version": wanted, "ansible_host": "192.0.2.11"}
    status, output = preflight(tmp_path, {"m1": master}, {"w1": worker})
    assert said in output
    assert status != 0


def test_an_even_number_of_servers_is_refused_before_any_host_is_looked_at(tmp_path: Path) -> None:
    master = {**HERE, "cluster_k3s_datastore": "etcd"}
    status, said = preflight(tmp_path, {"m1": master}, {}, {"s1": NOBODY})
    assert "Nothing was changed, because the inventory has 2 servers of K3s, the master included" in said
    assert "Gather facts" not in said
    assert status != 0


def test_more_servers_need_etcd(tmp_path: Path) -> None:
    status, said = preflight(tmp_path, {"m1": HERE}, {}, {"s1": NOBODY, "s2": NOBODY})
    assert "the group 'servers' needs cluster_k3s_datastore: etcd" in said
    assert status != 0


def test_what_is_wrong_with_a_server_is_said_by_name(tmp_path: Path) -> None:
    etcd = {**HERE, "cluster_k3s_datastore": "etcd", "ansible_host": "192.0.2.12"}
    wrong = {**etcd, "k3s_server_config": {"cluster-init": True}}
    status, said = preflight(tmp_path, {"m1": {**etcd, **HERE}}, {}, {"s1": etcd, "s2": wrong})
    assert "s2: k3s_server_config may not hold cluster-init: other inputs of the role set that." in said
    assert status != 0
