"""What is said before anything is changed, by the real ansible-playbook; no host but this machine is touched."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
HEAD = "Nothing was changed. Correct this, then run it again; --limit leaves a host out:"
HERE = {
    "ansible_connection": "local",
    "ansible_host": "192.0.2.10",
    "ansible_python_interpreter": sys.executable,
}
# What may be said of this machine, which plays all hosts; of an inventory that is right nothing else is said.
OF_THIS_MACHINE = re.compile(
    r"none of its interfaces has the address 192\.0\.2\.\d+: .*"
    r"|the host name '[^']*' is also that of .*"
    r"|its machine-id is also that of .*"
    r"|it does not reach the master at 192\.0\.2\.10 \(.*\)\."
    r"|it runs .* is needed\."
    r"|its architecture is .* is needed\."
    r"|it has \d+ MB of memory, and \d+ MB are needed\."
    r"|\d+ MB are free for /var/lib, and \d+ MB are needed\."
    r"|port \d+ is needed and taken by .*"
    r"|its kernel offers no memory cgroup, .*"
    r"|ufw is on, .*"
    r"|\d+ PostgreSQL servers are set up there .*"
    r"|/usr/local/bin/k3s is no link to a release, .*"
    r"|its host name is .*"
    r"|it has no (/etc/machine-id|default route).*"
)
NOBODY = {"ansible_host": "127.0.0.1", "ansible_port": 1}


def preflight(
    directory: Path,
    masters: dict[str, Any],
    workers: dict[str, Any],
    *arguments: str,
    servers: dict[str, Any] | None = None,
) -> tuple[int, str]:
    """Run the checks over an inventory of these hosts; the exit status and what was said."""
    inventory = directory / "hosts.yml"  # JSON is YAML
    groups = {"masters": masters, "servers": servers or {}, "workers": workers}
    inventory.write_text(json.dumps({name: {"hosts": hosts} for name, hosts in groups.items()}))
    return run(directory, inventory, *arguments)


def run(directory: Path, inventory: Path, *arguments: str) -> tuple[int, str]:
    """Run the checks over an inventory; the exit status and what was said."""
    done = subprocess.run(
        [
            Path(sys.executable).parent / "ansible-playbook",
            "-i",
            inventory,
            "playbooks/preflight.yml",
            *arguments,
        ],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "HOME": str(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout


def problems(output: str) -> dict[str, list[str]]:
    """The sentences of the one message, by host."""
    message = output.rsplit(HEAD, 1)[1].split("PLAY RECAP", maxsplit=1)[0]
    found: dict[str, list[str]] = {}
    for line in message.splitlines():
        if host := re.fullmatch(r"\s*(\w+):", line):
            sentences = found.setdefault(host[1], [])
        elif line.strip().startswith("- "):
            sentences.append(line.strip()[2:])
    return found


def refused(
    directory: Path, masters: dict[str, Any], workers: dict[str, Any], *arguments: str
) -> dict[str, str]:
    """All sentences about each host, of checks that must refuse; every task before the last has passed."""
    status, output = preflight(directory, masters, workers, *arguments)
    assert status == 2, output
    return {host: "\n".join(sentences) for host, sentences in problems(output).items()}


def test_every_problem_of_every_host_is_named_in_one_message(tmp_path: Path) -> None:
    master = {
        **HERE,
        "k3s_binary_version": "latest",
        "k3s_binary_file": "/no/such/file",
        "k3s_server_config": {"token": "secret", "cluster-cidr": "10.52.0.0/16"},
        "preflight_systems": ["Plan 9"],
        "preflight_memory_mb": {"server": 10**9, "agent": 1},
        "vault_jwt_secret": "hunter2",
    }
    worker = {
        **HERE,
        "k3s_agent_join_seconds": "soon",
        "k3s_agent_confg": {},
        "k3s_agent_config": {"data-dir": "/srv"},
        "cluster_address": "fe80::1",
    }
    said = refused(tmp_path, {"m1": master}, {"w1": worker, "w2": NOBODY}, "--check")
    for sentence in (
        "k3s_binary_version is 'latest', which is no release such as v1.34.4+k3s1.",
        "k3s_binary_file is /no/such/file, which is not there.",
        "k3s_server_config may not hold token: other inputs of the role set that.",
        "k3s_server_config has cluster-cidr 10.52.0.0/16, and everything else is set up for 10.42.0.0/16",
        "and Plan 9 is needed.",
        "MB of memory, and 1000000000 MB are needed.",
        "vault_jwt_secret must have 32 or more letters and digits, and nothing else.",
        "none of its interfaces has the address 192.0.2.10: set cluster_address",
        f"the host name '{socket.gethostname()}' is also that of w1",
        "its machine-id is also that of w1",
    ):
        assert sentence in said["m1"]
    for sentence in (
        "argument 'k3s_agent_join_seconds' is of type str and we were unable to convert to int",
        "k3s_agent_config may not hold data-dir: the role relies on what K3s does without.",
        "no role and no playbook reads k3s_agent_confg; k3s_agent_config is probably meant.",
        "cluster_address or ansible_host must be the IPv4 address that the other nodes reach it by; 'fe80::1' is none.",
        "its machine-id is also that of m1",
    ):
        assert sentence in said["w1"]
    assert re.fullmatch("it cannot be reached: .*", said["w2"])


def test_nothing_is_said_of_the_inventory_that_is_there_to_be_copied(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "inventory/example", tmp_path / "example")
    here = {name: value for name, value in HERE.items() if name != "ansible_host"}
    status, output = run(tmp_path, tmp_path / "example", "-e", json.dumps(here))
    assert status == 2, output
    assert inputs_refused(output) == {"master1": [], "worker1": [], "worker2": []}


def test_nothing_is_said_of_an_inventory_without_any_optional_variable(tmp_path: Path) -> None:
    masters = {"m1": {**HERE, "cluster_k3s_datastore": "etcd"}}
    servers = {name: {**HERE, "ansible_host": f"192.0.2.2{name[1]}"} for name in ("s1", "s2")}
    workers = {"w1": {**HERE, "ansible_host": "192.0.2.11"}}
    status, output = preflight(tmp_path, masters, workers, servers=servers)
    assert status == 2, output
    assert inputs_refused(output) == {"m1": [], "s1": [], "s2": [], "w1": []}


def inputs_refused(output: str) -> dict[str, list[str]]:
    """What is said of each host, without what is true of this machine only."""
    return {
        host: [sentence for sentence in sentences if not OF_THIS_MACHINE.fullmatch(sentence)]
        for host, sentences in problems(output).items()
    }


def test_a_host_without_an_address_is_told_so_once(tmp_path: Path) -> None:
    here = {name: value for name, value in HERE.items() if name != "ansible_host"}
    status, output = preflight(tmp_path, {"m1": here}, {"w1": here})
    assert status == 2, output
    wanted = "cluster_address or ansible_host must be the IPv4 address that the other nodes reach it by; '{}' is none."
    assert inputs_refused(output) == {host: [wanted.format(host)] for host in ("m1", "w1")}
    status, output = preflight(tmp_path, {"m1": here}, {"w1": HERE}, "--limit", "w1")
    assert status == 2, output
    assert inputs_refused(output) == {
        "w1": ["m1, the master of the inventory, has no address: set cluster_address or ansible_host for it."]
    }


def test_a_host_that_cannot_be_looked_at_says_why_and_the_others_are_still_checked(tmp_path: Path) -> None:
    wrong = {**HERE, "preflight_memory_mb": {"server": 1}}
    said = refused(tmp_path, {"m1": {**HERE, "k3s_binary_version": "latest"}}, {"w1": wrong})
    assert "it could not be looked at: " in said["w1"]
    assert "'agent'" in said["w1"]
    assert "k3s_binary_version is 'latest', which is no release" in said["m1"]


def test_a_variable_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    wrong = {**HERE, "k3s_agent_config": "{{ no_such_variable }}", "k3s_agent_join_seconds": "soon"}
    said = refused(tmp_path, {"m1": HERE}, {"w1": wrong})
    assert said["w1"].count("k3s_agent_config cannot be read: 'no_such_variable' is undefined.") == 1
    assert "argument 'k3s_agent_join_seconds' is of type str" in said["w1"]


def test_no_secret_is_shown(tmp_path: Path) -> None:
    status, output = preflight(tmp_path, {"m1": {**HERE, "vault_jwt_secret": "hunter2"}}, {})
    assert "hunter2" not in output
    assert status == 2


@pytest.mark.parametrize("masters", [{}, {"m1": HERE, "m2": HERE}])
def test_an_inventory_has_one_master(tmp_path: Path, masters: dict[str, Any]) -> None:
    status, said = preflight(tmp_path, masters, {"w1": HERE})
    assert f"must have one host in the group 'masters'; it has {len(masters)}." in " ".join(said.split())
    assert "Gather facts" not in said
    assert status != 0


def test_an_inventory_without_a_host_is_no_success(tmp_path: Path) -> None:
    status, said = preflight(tmp_path, {}, {})
    assert "The inventory must have one host in the group 'masters'; it has 0." in " ".join(said.split())
    assert status != 0


def test_an_unreachable_master_is_named_and_the_others_are_still_checked(tmp_path: Path) -> None:
    said = refused(tmp_path, {"m1": NOBODY}, {"w1": {**HERE, "k3s_binary_version": "latest"}})
    assert said["m1"].startswith("it cannot be reached: ")
    assert "k3s_binary_version is 'latest', which is no release" in said["w1"]


def test_a_master_that_the_run_leaves_out_is_asked_and_named_when_it_is_away(tmp_path: Path) -> None:
    """Asked once, and not by run_once: that would end the play where the master is unreachable, as a success."""
    said = refused(tmp_path, {"m1": NOBODY}, {"w1": HERE, "w2": HERE}, "--limit", "w1")
    assert "the master of the inventory, m1, cannot be reached from this controller." in said["w1"]
    assert "the address 192.0.2.10 is also that of w2: correct the inventory." in said["w1"]
    assert set(said) == {"w1"}


def test_a_port_that_a_stranger_holds_is_named_with_the_stranger(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ports = [{"unit": "nginx.service", "ports": [port]}]
        said = refused(tmp_path, {"m1": HERE}, {}, "-e", json.dumps({"preflight_ports": ports}))
    assert f"port {port} is needed and taken by " in said["m1"]
    assert "pytest" in said["m1"] or "python" in said["m1"]


def test_a_clock_that_is_off_is_seen_however_slow_the_run_is(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import time\nreal = time.time\ntime.time = lambda: real() - 4000\n"
    )
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    said = refused(tmp_path, {"m1": {**HERE, "ansible_python_interpreter": str(python)}}, {})
    assert "its clock is 66 min behind this controller's: synchronise the time on both" in said["m1"]


def test_a_host_is_known_by_its_full_name(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import platform\nplatform.node = lambda: 'web.example.org'\n")
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    here = {**HERE, "ansible_python_interpreter": str(python)}
    said = refused(tmp_path, {"m1": here}, {"w1": {**here, "ansible_host": "192.0.2.11"}})
    assert (
        "the host name 'web.example.org' is also that of w1: give each machine a name of its own."
        in said["m1"]
    )
    assert "its host name is" not in said["m1"]


def test_a_host_without_root_says_what_sudo_said(tmp_path: Path) -> None:
    sudo = tmp_path / "sudo"
    sudo.write_text("#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n")
    sudo.chmod(0o755)
    here = {**HERE, "ansible_become_exe": str(sudo), "ansible_become_user": "daemon"}
    said = refused(tmp_path, {"m1": {**here, "k3s_binary_file": "/no/such/file"}}, {})
    assert "the rights of root cannot be had there (sudo: a password is required)" in said["m1"]


def test_what_the_playbooks_overrule_is_not_lost_in_silence(tmp_path: Path) -> None:
    said = refused(tmp_path, {"m1": {**HERE, "firewall_ssh_ports": [2222]}}, {})
    assert "firewall_ssh_ports is set in the inventory, and in vain" in said["m1"]
    said = refused(tmp_path, {"m1": HERE}, {}, "-e", json.dumps({"firewall_ssh_ports": [2222]}))
    assert "firewall_ssh_ports" not in said["m1"]  # the command line wins


def test_every_wrong_input_is_named(tmp_path: Path) -> None:
    variables = {
        "k3s_binary_file": str(ROOT / "site.yml"),
        "k3s_binary_sha256": "0" * 64,
        "cluster_k3s_datastore": "mysql",
        "cluster_domain": "https://paas.example.org",
        "certbot_email": "a b",
        "certbot_acme_server": "ca.example.org",
        "certbot_ca_bundle": "/no/such/bundle",
        "cluster_k3s_labels": {"a b": "c"},
        "cluster_k3s_taints": ["a:Never"],
        "base_packages": {"a": 1},
        "redis_maxmemory": "{{ no_such_variable }}",
    }
    said = refused(tmp_path, {"m1": {**HERE, **variables}}, {}, "--tags", "redis")["m1"]
    assert f"site.yml is not the file whose SHA-256 is {'0' * 64}, which k3s_binary_sha256 asks for." in said
    assert "redis_maxmemory cannot be read: 'no_such_variable' is undefined." in said
    assert (
        "https://paas.example.org is no DNS name, such as paas.example.org, that a certificate can be for."
        in said
    )
    assert "certbot_email is 'a b', which is no e-mail address." in said
    assert "certbot_acme_server is 'ca.example.org', which is no https:// URL of an ACME directory." in said
    assert "certbot_ca_bundle is /no/such/bundle, which is not there." in said
    assert "cluster_k3s_labels " in said
    assert "cluster_k3s_taints has 'a:Never': key=value:Effect is needed" in said
    variables |= {"redis_maxmemory": "1gb", "cluster_domain": "", "certbot_email": "a@b.org"}
    said = refused(tmp_path, {"m1": {**HERE, **variables}}, {})["m1"]
    assert "certbot_email asks for a certificate, but there is no domain that it could be for." in said
    assert "must be one of: sqlite, postgresql, etcd, got: mysql" in said
    assert "argument 'base_packages' is of type dict and we were unable to convert to list" in said


def test_an_agent_that_does_not_go_with_its_server_is_refused(tmp_path: Path) -> None:
    master = {**HERE, "k3s_binary_version": "v1.34.4+k3s1"}
    newer, older = ({**HERE, "k3s_binary_version": wanted} for wanted in ("v1.35.0+k3s1", "v1.30.0+k3s1"))
    said = refused(tmp_path, {"m1": master}, {"w1": newer, "w2": older})
    assert "an agent of K3s v1.35.0+k3s1 would be newer than its server, which has v1.34.4+k3s1" in said["w1"]
    assert "an agent of K3s v1.30.0+k3s1 is more than 3 minor releases behind its server" in said["w2"]


def test_a_server_that_does_not_go_with_the_master_is_refused(tmp_path: Path) -> None:
    etcd = {**HERE, "cluster_k3s_datastore": "etcd", "k3s_binary_version": "v1.34.4+k3s1"}
    servers = {"s1": {**etcd, "k3s_binary_version": "v1.32.4+k3s1"}, "s2": etcd}
    status, output = preflight(tmp_path, {"m1": etcd}, {}, servers=servers)
    assert status == 2, output
    sentence = (
        "a server of K3s v1.32.4+k3s1 is more than 1 minor release behind the master, which has v1.34.4+k3s1."
    )
    assert sentence in problems(output)["s1"]
    assert "of K3s v1." not in "".join(problems(output)["s2"])


def test_what_the_master_has_of_nodes_counts_too(tmp_path: Path) -> None:
    nodes = [
        {
            "metadata": {"name": name},
            "status": {
                "nodeInfo": {"kubeletVersion": "v1.30.4+k3s1"},
                "addresses": [{"type": "InternalIP", "address": address}],
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }
        for name, address in {"w1": "192.0.2.11", "m0": "192.0.2.10"}.items()
    ]
    stdout = f"k3s version v1.33.4+k3s1 (1234)\ngo version go1.24\n{json.dumps({'items': nodes})}"
    asked = {"preflight_asked": {"stdout": stdout}, "k3s_binary_version": "v1.34.4+k3s1"}
    said = refused(tmp_path, {"m1": HERE}, {"w1": NOBODY}, "--limit", "m1", "-e", json.dumps(asked))
    assert "K3s v1.34.4+k3s1 on the master would leave nodes too far behind: w1 (v1.30.4+k3s1)." in said["m1"]
    assert "it runs as the node 'm0', and its host name is" in said["m1"]


def test_a_k3s_of_another_installer_is_not_overwritten(tmp_path: Path) -> None:
    found = json.dumps({"__k3s_binary_in_use": {"kind": "file", "owner": "root", "mode": "0755"}})
    said = refused(tmp_path, {"m1": HERE}, {}, "--check", "-e", found)
    assert (
        "/usr/local/bin/k3s is no link to a release, as other installers leave it: `k3s-uninstall.sh`"
        in said["m1"]
    )


def test_an_even_number_of_servers_is_refused_before_any_host_is_looked_at(tmp_path: Path) -> None:
    master = {**HERE, "cluster_k3s_datastore": "etcd"}
    status, output = preflight(tmp_path, {"m1": master}, {}, servers={"s1": NOBODY})
    said = " ".join(output.split())
    assert "Nothing was changed, because the inventory has 2 servers of K3s, the master included" in said
    assert "Gather facts" not in said
    assert status != 0


def test_more_servers_need_etcd(tmp_path: Path) -> None:
    status, output = preflight(tmp_path, {"m1": HERE}, {}, servers={"s1": NOBODY, "s2": NOBODY})
    assert "the group 'servers' needs cluster_k3s_datastore: etcd" in " ".join(output.split())
    assert status != 0


def test_what_is_wrong_with_a_server_is_said_by_name(tmp_path: Path) -> None:
    etcd = {**HERE, "cluster_k3s_datastore": "etcd", "ansible_host": "192.0.2.12"}
    wrong = {**etcd, "k3s_server_config": {"cluster-init": True, "flannel-backend": "none"}}
    status, output = preflight(tmp_path, {"m1": {**etcd, **HERE}}, {}, servers={"s1": etcd, "s2": wrong})
    assert "k3s_server_config may not hold cluster-init: other inputs of the role set that." in "".join(
        problems(output)["s2"]
    )
    assert (
        "all servers of K3s must have the same flannel-backend: it is none here and vxlan on m1."
        in "".join(problems(output)["s2"])
    )
    assert "may not hold" not in "".join(problems(output)["s1"])
    assert "all servers" not in "".join(problems(output)["s1"])
    assert status != 0
