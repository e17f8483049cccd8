"""The inventory plugin through the real ansible-inventory, against a real server and a real database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
KEY = "a-key-for-the-inventory"
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJlTV0pmgP1Rv3pN5Yxq0"


def worker(name: str, status: str = "ACTIVE", **more: Any) -> dict[str, Any]:
    return {
        "id": f"id-of-{name}",
        "name": name,
        "hostname": name,
        "ipAddress": f"10.0.0.{len(name)}",
        "status": status,
        "isReady": status == "ACTIVE",
        "architecture": "amd64",
        "labels": {},
        "ansibleHost": None,
        "ansiblePort": None,
        "ansibleUser": None,
        "sshHostKeys": [HOST_KEY],
        **more,
    }


class Server(ThreadingHTTPServer):
    """The control API's inventory endpoint."""

    workers: Any = ()
    asked = 0
    unchanged = 0


class Endpoint(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked += 1
        allowed = self.headers["Authorization"] == f"Bearer {KEY}" and self.path == "/api/inventory"
        data = {"success": True, "message": "", "data": {"workers": self.server.workers}}
        content = json.dumps(data).encode() if allowed else b"{}"
        tag = f'W/"{len(content)}"'
        if self.headers["If-None-Match"] == tag:
            self.server.unchanged += 1
            self.send_response(304)
            self.end_headers()
            return
        self.send_response(200 if allowed else 401)
        self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def api() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


class Controller:
    """A controller with an inventory file in a directory of its own."""

    def __init__(self, directory: Path, url: str) -> None:
        self.file = directory / "fleet.muster.yml"
        self.known_hosts = directory / "hosts/known_hosts"
        self.options = {"plugin": "muster", "url": url, "api_key": KEY, "known_hosts": str(self.known_hosts)}
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("MUSTER_", "DATABASE_"))
        }
        self.environment = {**inherited, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "NO_COLOR": "1"}

    def run(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        self.file.write_text(json.dumps(self.options))
        return subprocess.run(
            [BIN / command, "-i", self.file, *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def list(self) -> dict[str, Any]:
        done = self.run("ansible-inventory", "--list")
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout, object_hook=lambda found: found.get("__ansible_unsafe", found)))

    def refusal(self) -> str:
        done = self.run("ansible-inventory", "--list")
        assert done.returncode != 0
        return " ".join(done.stderr.split())


@pytest.fixture
def controller(tmp_path: Path, api: Server) -> Controller:
    return Controller(tmp_path, f"http://127.0.0.1:{api.server_address[1]}")


def hosts(inventory: dict[str, Any], group: str) -> list[str]:
    return sorted(inventory.get(group, {}).get("hosts", []))


def test_every_worker_is_in_the_groups_of_its_status_architecture_and_labels(
    api: Server, controller: Controller
) -> None:
    api.workers = [
        worker("active", labels={"disk": "nvme", "example.org/zone": "a-1"}),
        worker("silent", "INACTIVE", architecture="arm64"),
        worker("unready", "NOT_READY"),
        worker("drained", "MAINTENANCE", isReady=True),
        worker("broken", "MAINTENANCE"),
        worker("new", "PENDING"),
    ]
    inventory = controller.list()
    assert hosts(inventory, "workers") == ["active", "broken", "drained", "new", "silent", "unready"]
    assert hosts(inventory, "status_active") == ["active"]
    assert hosts(inventory, "status_inactive") == ["silent"]
    assert hosts(inventory, "status_not_ready") == ["unready"]
    assert hosts(inventory, "status_maintenance") == ["broken", "drained"]
    assert hosts(inventory, "status_pending") == ["new"]
    assert hosts(inventory, "reachable") == ["active", "drained", "unready"]
    assert hosts(inventory, "arch_arm64") == ["silent"]
    assert hosts(inventory, "label_disk_nvme") == ["active"]
    assert hosts(inventory, "label_example_org_zone_a_1") == ["active"]


def test_what_a_worker_says_is_under_one_name_and_what_an_operator_sets_is_ansibles(
    api: Server, controller: Controller
) -> None:
    row = worker("worker1", ansibleHost="w1.example.org", ansiblePort=2222, ansibleUser="ops")
    api.workers = [row]
    variables = controller.list()["_meta"]["hostvars"]["worker1"]
    del row["sshHostKeys"]
    assert variables == {
        "muster": row,
        "ansible_host": "w1.example.org",
        "ansible_port": 2222,
        "ansible_user": "ops",
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={controller.known_hosts} -o StrictHostKeyChecking=yes",
    }


def test_the_host_keys_of_the_registration_become_the_known_hosts(
    api: Server, controller: Controller
) -> None:
    evil = "ssh-ed25519 AAAA\n10.0.0.99 ssh-ed25519 AAAA"
    api.workers = [worker("worker1"), worker("w2", ansiblePort=2222), worker("keyless", sshHostKeys=[evil])]
    controller.list()
    assert controller.known_hosts.read_text() == f"10.0.0.7 {HOST_KEY}\n[10.0.0.2]:2222 {HOST_KEY}\n"
    assert controller.known_hosts.stat().st_mode & 0o777 == 0o600


def test_nothing_that_a_worker_says_is_run_on_the_controller(
    api: Server, controller: Controller, tmp_path: Path
) -> None:
    trap = tmp_path / "trapped"
    template = "{{ lookup('ansible.builtin.pipe', 'touch " + str(trap) + "') }}"
    api.workers = [
        worker("worker1", operatingSystem=template, cpuModel=template),
        worker("option", ipAddress="-oProxyCommand=touch " + str(trap)),
        worker("-oProxyCommand=x"),
        worker("status", status=template),
    ]
    playbook = tmp_path / "show.yml"
    playbook.write_text(
        "- hosts: all\n  gather_facts: false\n  connection: local\n  tasks:\n"
        "    - ansible.builtin.debug: {msg: '{{ muster.operatingSystem }} {{ muster.cpuModel }}'}\n"
    )
    done = controller.run("ansible-playbook", str(playbook))
    assert not trap.exists()
    assert "worker1" in done.stdout
    assert "lookup(" in done.stdout
    assert done.stderr.count("A worker is left out") == 3


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"api_key": "wrong"}, "the key is wrong: check api_key (MUSTER_API_KEY)"),
        ({"api_key": ""}, "The option api_key is missing"),
        ({"url": ""}, "The option url is missing"),
        ({"url": "http://127.0.0.1:9"}, "cannot be reached"),
        ({"url": "http://master.example.org"}, "must begin with https://"),
        ({"source": "database"}, "The option database_url is missing"),
        (
            {"source": "database", "database_url": "sqlite:////nowhere/muster.db"},
            "The worker table cannot be read",
        ),
        ({"source": "file"}, "source"),
    ],
)
def test_a_source_that_cannot_be_read_fails_the_play(
    controller: Controller, tmp_path: Path, options: dict[str, str], sentence: str
) -> None:
    controller.options.update(options)
    assert sentence in controller.refusal()
    playbook = tmp_path / "play.yml"
    playbook.write_text("- hosts: status_active\n  gather_facts: false\n  tasks: []\n")
    assert controller.run("ansible-playbook", str(playbook)).returncode != 0


def test_an_answer_that_is_no_inventory_fails_the_play(api: Server, controller: Controller) -> None:
    api.workers = 5
    assert "is not a control API" in controller.refusal()


def test_an_empty_table_is_a_warning_and_no_failure(controller: Controller) -> None:
    done = controller.run("ansible-inventory", "--list")
    assert done.returncode == 0
    assert "no worker has registered yet" in done.stderr


def test_groups_can_be_made_of_what_workers_say(api: Server, controller: Controller) -> None:
    api.workers = [worker("large", totalMemoryBytes=64 * 1024**3), worker("small", totalMemoryBytes=1024**3)]
    controller.options["groups"] = {"big": "muster.totalMemoryBytes >= 32 * 1024 ** 3"}  # type: ignore[assignment]
    assert hosts(controller.list(), "big") == ["large"]


def test_the_cache_answers_instead_of_the_source(api: Server, controller: Controller, tmp_path: Path) -> None:
    api.workers = [worker("worker1")]
    cache = {"cache": True, "cache_plugin": "jsonfile", "cache_connection": str(tmp_path / "cache")}
    controller.options.update(cache)  # type: ignore[arg-type]
    assert hosts(controller.list(), "workers") == hosts(controller.list(), "workers") == ["worker1"]
    assert api.asked == 1


def test_a_refresh_takes_what_is_cached_when_the_source_says_that_it_is_still_true(
    api: Server, controller: Controller, tmp_path: Path
) -> None:
    api.workers = [worker("worker1")]
    cache = {"cache": True, "cache_plugin": "jsonfile", "cache_connection": str(tmp_path / "cache")}
    controller.options.update(cache)  # type: ignore[arg-type]
    playbook = tmp_path / "refresh.yml"
    playbook.write_text(
        "- hosts: workers\n  gather_facts: false\n  connection: local\n  tasks:\n"
        "    - ansible.builtin.meta: refresh_inventory\n"
        "    - ansible.builtin.debug: {msg: \"{{ groups['workers'] }}\"}\n"
    )
    first = controller.run("ansible-playbook", str(playbook))
    assert (first.returncode, api.asked, api.unchanged) == (0, 2, 1)
    assert "worker1" in first.stdout
    api.workers = [worker("worker1"), worker("worker22")]
    second = controller.run("ansible-playbook", str(playbook))
    assert (second.returncode, api.asked, api.unchanged) == (0, 3, 1)
    assert "worker22" in second.stdout


def test_the_database_gives_the_same_workers_as_the_api(controller: Controller, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/muster.db"
    fill(url)
    controller.options.update(source="database", database_url=url)
    inventory = controller.list()
    assert hosts(inventory, "status_pending") == ["worker1"]
    assert inventory["_meta"]["hostvars"]["worker1"]["ansible_host"] == "192.168.1.100"
    assert inventory["_meta"]["hostvars"]["worker1"]["muster"]["cpuCores"] == 8


def fill(url: str) -> None:
    """Register a worker with a real control API on this database."""
    from fastapi.testclient import TestClient

    from control_api import schema
    from control_api.app import create_app
    from control_api.db import Database
    from control_api.settings import Settings

    secret = "0123456789abcdefghijklmnopqrstuvwxyz"
    names = ["JWT_SECRET", "JWT_REFRESH_SECRET", "WORKER_REGISTRATION_TOKEN", "WORKER_AUTH_SECRET"]
    database = Database(url)
    schema.upgrade(database)
    database.close()
    given = {**dict.fromkeys(names, secret), "MUSTER_ADMIN_PASSWORD": secret, "DATABASE_URL": url}
    with TestClient(create_app(Settings(**given))) as client:
        body = {
            "hostname": "worker1",
            "ipAddress": "192.168.1.100",
            "cpuCores": 8,
            "registrationToken": secret,
        }
        assert client.post("/api/workers/register", json=body).status_code == 201


def test_the_documentation_is_complete() -> None:
    command = [BIN / "ansible-doc", "-t", "inventory", "--json", "muster"]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    out = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    doc = json.loads(out)["muster"]
    assert all(option.get("description") for option in doc["doc"]["options"].values())
    assert "plugin: muster" in doc["examples"]
