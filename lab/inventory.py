"""The lab as an Ansible inventory: hosts, how to log in to them with host keys checked, and where K3s comes from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from lab import k3s, ssh
from lab.host import Host
from lab.layout import MASTER, Layout, is_server, is_worker


def hosts(layout: Layout, names: Iterable[str]) -> dict[str, Any]:
    """The content of hosts.yml."""
    addresses = {name: {"ansible_host": layout.address(name)} for name in names}
    connection = {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(layout.key),
        "ansible_ssh_common_args": " ".join(ssh.options(layout)),
        "ansible_control_path_dir": str(layout.control_sockets),
    }
    return {
        "all": {"vars": connection},
        "masters": {"hosts": {name: host for name, host in addresses.items() if name == MASTER}},
        "servers": {"hosts": {name: host for name, host in addresses.items() if is_server(name)}},
        "workers": {"hosts": {name: host for name, host in addresses.items() if is_worker(name)}},
    }


def variables(binary: k3s.Binary, names: Iterable[str]) -> dict[str, Any]:
    """The content of group_vars/all/lab.yml: inputs of roles that are special to the lab."""
    datastore = {"cluster_k3s_datastore": "etcd"} if any(map(is_server, names)) else {}
    return {"k3s_binary_file": str(binary.file), "k3s_binary_version": binary.version, **datastore}


def write(layout: Layout, binary: k3s.Binary) -> None:
    """Write the inventory and the known hosts, for all hosts that have been made."""
    names = layout.hosts()
    keys = (ssh.known_hosts_line(layout.address(name), Host(layout, name).public_key()) for name in names)
    layout.known_hosts.write_text("".join(keys), encoding="ascii")
    layout.variables.parent.mkdir(parents=True, exist_ok=True)
    for file, content in {
        layout.inventory / "hosts.yml": hosts(layout, names),
        layout.variables: variables(binary, names),
    }.items():
        file.write_text("---\n" + yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def earlier_binary(layout: Layout) -> Path | None:
    """The K3s that this lab has been given before."""
    if not layout.variables.exists():
        return None
    return Path(yaml.safe_load(layout.variables.read_text(encoding="utf-8"))["k3s_binary_file"])
