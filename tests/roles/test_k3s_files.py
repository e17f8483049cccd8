"""The files that the K3s roles write, by the real ansible-playbook: secrets keep their letters, units their bounds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ALONE = {"k3s_server_datastore": "postgresql", "k3s_server_first_url": "", "k3s_server_token_file": ""}
SERVERS = {
    "etcd.yaml": {"k3s_server_datastore": "etcd"},
    "joining.yaml": {
        "k3s_server_datastore": "etcd",
        "k3s_server_first_url": "https://192.0.2.10:6443",
        "k3s_server_token_file": "/etc/muster/secrets/k3s_server_token",
    },
}
NASTY = "p/a:s@s %w$o`r\"d\\'#?&"


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every template of the three roles, with values that are hard to quote."""
    out = tmp_path_factory.mktemp("rendered")
    variables: dict[str, Any] = {
        "k3s_binary_environment": {
            "HTTPS_PROXY": f"http://u:{NASTY}@proxy:3128",
            "NO_PROXY": "10.0.0.0/8,.svc",
        },
        "k3s_binary_registries": {"configs": {"registry.example.org": {"auth": {"password": NASTY}}}},
        "k3s_server_datastore_user": "k3s",
        "k3s_server_datastore_name": "k3s",
        "k3s_server_datastore_password_file": "/etc/password",
        "__k3s_server_secrets": {"texts": {"/etc/password": f"{NASTY}\n"}},
        "k3s_server_node_name": "master1",
        "k3s_server_node_address": "192.0.2.10",
        "k3s_server_tls_names": ["192.0.2.10", "paas.example.org", "192.0.2.10"],
        "k3s_server_agent_token_file": "/etc/muster/secrets/k3s_agent_token",
        "k3s_server_config": {"flannel-backend": "wireguard-native"},
        "k3s_agent_server_url": "https://192.0.2.10:6443",
        "k3s_agent_token_file": "/etc/rancher/k3s/join-token",
        "k3s_agent_node_name": "worker1",
        "k3s_agent_node_address": "192.0.2.11",
    }
    for role in ("k3s_binary", "k3s_server", "k3s_agent"):
        for file in ("defaults", "vars"):
            variables = {
                **yaml.safe_load((ROOT / "roles" / role / file / "main.yml").read_text()),
                **variables,
            }
    sources = {
        "environment": "k3s_binary/templates/environment.j2",
        "registries": "k3s_binary/templates/registries.yaml.j2",
        "datastore": "k3s_server/templates/k3s.service.env.j2",
        "server.yaml": "k3s_server/templates/config.yaml.j2",
        "joining.yaml": "k3s_server/templates/config.yaml.j2",
        "etcd.yaml": "k3s_server/templates/config.yaml.j2",
        "agent.yaml": "k3s_agent/templates/config.yaml.j2",
        "k3s.service": "k3s_server/templates/k3s.service.j2",
        "k3s-agent.service": "k3s_agent/templates/k3s-agent.service.j2",
    }
    tasks = [
        {
            "name": name,
            "ansible.builtin.template": {
                "src": str(ROOT / "roles" / source),
                "dest": str(out / name),
                "mode": "0600",
            },
            "vars": {**ALONE, **SERVERS.get(name, {})},
        }
        for name, source in sources.items()
    ]
    given = {
        name: value for name, value in variables.items() if name not in ALONE
    }  # these would win over a task's
    (out / "vars.json").write_text(json.dumps(given))
    play = {
        "name": "Render",
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "tasks": tasks,
    }
    (out / "play.json").write_text(json.dumps([play]))
    done = subprocess.run(
        [
            Path(sys.executable).parent / "ansible-playbook",
            "-i",
            "localhost,",
            "-e",
            f"@{out / 'vars.json'}",
            out / "play.json",
        ],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "HOME": str(out)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return {name: (out / name).read_text() for name in sources}


def settings(text: str) -> dict[str, str]:
    """What an EnvironmentFile sets, read by a shell, whose quoting is systemd's (systemd.exec(5))."""
    command = ["env", "-i", "sh", "-c", 'set -a; eval "$1"; env -0', "sh", text]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return dict(
        pair.split("=", 1) for pair in out.split("\0") if pair and not pair.startswith(("PWD=", "_="))
    )


def test_the_environment_of_k3s_keeps_every_letter(rendered: dict[str, str]) -> None:
    assert settings(rendered["environment"]) == {
        "HTTPS_PROXY": f"http://u:{NASTY}@proxy:3128",
        "NO_PROXY": "10.0.0.0/8,.svc",
    }


def test_the_address_of_the_datastore_keeps_every_letter_of_the_password(rendered: dict[str, str]) -> None:
    address = settings(rendered["datastore"])["K3S_DATASTORE_ENDPOINT"]
    parts = urlsplit(address)
    assert (parts.scheme, parts.hostname, parts.port, parts.path) == ("postgres", "127.0.0.1", 5432, "/k3s")
    assert (parts.username, unquote(parts.password or "")) == ("k3s", NASTY)


def test_registries_are_what_was_given(rendered: dict[str, str]) -> None:
    auth = {"auth": {"password": NASTY}}
    assert yaml.safe_load(rendered["registries"]) == {"configs": {"registry.example.org": auth}}


def test_the_server_is_configured_by_file_and_leaves_nginx_its_ports(rendered: dict[str, str]) -> None:
    assert yaml.safe_load(rendered["server.yaml"]) == {
        "node-name": "master1",
        "node-ip": "192.0.2.10",
        "advertise-address": "192.0.2.10",
        "tls-san": ["192.0.2.10", "paas.example.org"],
        "agent-token-file": "/etc/muster/secrets/k3s_agent_token",
        "write-kubeconfig-mode": "0600",
        "disable": ["traefik", "servicelb"],
        "flannel-backend": "wireguard-native",
    }


def test_the_first_server_begins_an_etcd_and_the_others_join_it_by_the_server_token(
    rendered: dict[str, str],
) -> None:
    first, joining = (yaml.safe_load(rendered[name]) for name in ("etcd.yaml", "joining.yaml"))
    both = yaml.safe_load(rendered["server.yaml"])
    assert first == both | {"cluster-init": True}
    assert joining == both | {
        "server": "https://192.0.2.10:6443",
        "token-file": "/etc/muster/secrets/k3s_server_token",
    }


def test_the_agent_knows_a_token_of_its_own_only(rendered: dict[str, str]) -> None:
    assert yaml.safe_load(rendered["agent.yaml"]) == {
        "server": "https://192.0.2.10:6443",
        "token-file": "/etc/rancher/k3s/join-token",
        "node-name": "worker1",
        "node-ip": "192.0.2.11",
    }


@pytest.mark.parametrize(("unit", "command"), [("k3s", "server"), ("k3s-agent", "agent")])
def test_a_unit_has_bounds_and_no_secret(rendered: dict[str, str], unit: str, command: str) -> None:
    lines = rendered[f"{unit}.service"].splitlines()
    assert f"ExecStart=/usr/local/bin/k3s {command}" in lines
    assert "TimeoutStartSec=900s" in lines
    assert "EnvironmentFile=-/etc/rancher/k3s/environment" in lines
    assert not any("TOKEN" in line or "postgres://" in line for line in lines)


def test_k3s_waits_for_the_postgresql_that_it_lives_in(rendered: dict[str, str]) -> None:
    assert "After=network-online.target postgresql.service" in rendered["k3s.service"].splitlines()


@pytest.mark.parametrize("script", ["k3s-killall.sh", "k3s-uninstall.sh"])
def test_the_scripts_are_shell_and_ask_before_they_delete(script: str) -> None:
    file = ROOT / "roles/k3s_binary/files" / script
    assert subprocess.run(["sh", "-n", file], check=False).returncode == 0
    if script == "k3s-uninstall.sh" and os.geteuid() == 0:
        asked = subprocess.run(["sh", file], capture_output=True, text=True, check=False)
        assert asked.returncode == 2
        assert "This deletes K3s and all its data" in asked.stderr
