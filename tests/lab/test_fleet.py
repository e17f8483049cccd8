"""The lab's configuration of the inventory plugin."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from lab import fleet
from lab.layout import REPOSITORY, Layout

WORKER = {
    "id": "1",
    "name": "worker1",
    "status": "ACTIVE",
    "ipAddress": "10.213.68.11",
    "sshHostKeys": ["ssh-ed25519 AAAA"],
}


CONNECTION = ("user", "ssh_private_key_file", "control_path_dir")


def plain(value: str | dict[str, str]) -> str:
    """What ansible-inventory prints of a string, which it may mark as no template."""
    return value["__ansible_unsafe"] if isinstance(value, dict) else value


class Inventory(BaseHTTPRequestHandler):
    """Answers as the control API does to who has the key."""

    def do_GET(self) -> None:
        known = self.headers["Authorization"] == "Bearer the-key"
        self.send_response(200 if known else 401)
        self.end_headers()
        self.wfile.write(json.dumps({"data": {"workers": [WORKER]}}).encode())

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Inventory)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_plugin_reads_the_workers_with_the_labs_keys(layout: Layout, tmp_path: Path, url: str) -> None:
    key = tmp_path / "key"
    key.write_text("the-key\n")
    config = fleet.config(layout, tmp_path / "ca.crt", key)
    assert config.pop("url") == "https://10.213.68.10"
    assert config.pop("ca_file") == str(tmp_path / "ca.crt")
    fleet.path(layout).write_text(yaml.safe_dump({**config, "url": url}))

    command = [Path(sys.executable).parent / "ansible-inventory", "-i", fleet.path(layout), "--list"]
    environment = {
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
        "HOME": str(tmp_path),
        "PATH": "/usr/bin:/bin",
    }
    listed = json.loads(subprocess.check_output(command, env=environment, cwd=REPOSITORY))

    variables = listed["_meta"]["hostvars"]["worker1"]
    assert listed["status_active"] == {"hosts": ["worker1"]}
    connection = {name: plain(variables[f"ansible_{name}"]) for name in CONNECTION}
    assert connection == {
        "user": "root",
        "ssh_private_key_file": str(layout.key),
        "control_path_dir": str(layout.control_sockets),
    }
    assert f"UserKnownHostsFile={layout.state}/fleet_known_hosts" in plain(
        variables["ansible_ssh_common_args"]
    )
    assert (layout.state / "fleet_known_hosts").read_text() == "10.213.68.11 ssh-ed25519 AAAA\n"
