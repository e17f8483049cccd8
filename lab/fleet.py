"""The lab's worker table as an Ansible inventory: a configuration of the plugin, with the key that it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from lab import ssh
from lab.layout import MASTER, Layout

KEY_FILE = "/etc/muster/secrets/MUSTER_INVENTORY_KEY"


def path(layout: Layout) -> Path:
    return layout.state / "fleet.muster.yml"


def config(layout: Layout, certificate: Path, key: Path) -> dict[str, Any]:
    """The content of fleet.muster.yml. How to log in is the lab's affair: no worker says it of itself."""
    log_in = {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": layout.key,
        "ansible_control_path_dir": layout.control_sockets,
    }
    return {
        "plugin": "muster",
        "url": layout.api_url,
        "ca_file": str(certificate),
        "api_key": f"{{{{ lookup('ansible.builtin.file', '{key}') }}}}",
        "known_hosts": str(layout.state / "fleet_known_hosts"),
        "compose": {name: f"'{value}'" for name, value in log_in.items()},
    }


def write(layout: Layout, certificate: str) -> None:
    """Write the file, and beside it the certificate of the control API and the key that reads the inventory."""
    certificate_file, key_file = layout.state / "ca.crt", layout.state / "inventory_key"
    certificate_file.write_text(certificate, encoding="ascii")
    key_file.touch(mode=0o600)
    key_file.write_text(ssh.read(layout, MASTER, KEY_FILE), encoding="ascii")
    content = yaml.safe_dump(config(layout, certificate_file, key_file), sort_keys=False)
    path(layout).write_text("---\n" + content, encoding="utf-8")
