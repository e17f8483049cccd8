"""The role `worker_agent` registers a machine for real: ansible-playbook, the agent, the control API.

The machine's /etc, /var/lib and /usr/local/lib are overlays in a mount namespace of the test's own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from jinja2 import Environment

from tests.agent.world import FILE
from tests.control_api.cli.test_serve import Service
from tests.control_api.servers import memory
from tests.control_api.world import bearer

ROOT = Path(__file__).parents[2]
MOUNTS = ("etc", "var/lib", "usr/local/lib")
INSIDE = f"""
set -eu
for part in {" ".join(MOUNTS)}; do
  mount -t overlay overlay -o "lowerdir=/$part,upperdir=$DISK/$part/upper,workdir=$DISK/$part/work" "/$part"
done
exec "$@"
"""


class Machine:
    """This machine, but for what the role changes; and the control API that it registers with."""

    def __init__(self, disk: Path, service: Service) -> None:
        self.disk, self.service = disk, service
        self.upper = {part: disk / part / "upper" for part in MOUNTS}
        for part in MOUNTS:
            self.upper[part].mkdir(parents=True)
            (disk / part / "work").mkdir()
        program = self.upper["usr/local/lib"] / "muster/muster_agent.py"
        self.state = self.upper["var/lib"] / "muster-agent"
        for directory in (program.parent, self.state, self.upper["etc"] / "muster-agent"):
            directory.mkdir()
        shutil.copy(FILE, program)
        config = {"api_url": service.url, "ip_address": "192.0.2.11", "kubelet_healthz_url": None}
        (self.upper["etc"] / "muster-agent/config.json").write_text(json.dumps(config))
        self.join_token = self.upper["etc"] / "muster-agent/join-token"
        self.joined = self.upper["var/lib"] / "joined"
        admin = {"username": "admin", "password": service.secret("MUSTER_ADMIN_PASSWORD")}
        answer = httpx2.post(f"{service.url}/api/auth/login", json=admin)
        self.admin = bearer(answer.json()["data"]["accessToken"])

    def ask(self, method: str, path: str, **body: Any) -> Any:
        answer = httpx2.request(method, self.service.url + path, json=body or None, headers=self.admin)
        assert answer.is_success, answer.text
        return answer.json()["data"]

    def register(self, token: str) -> tuple[int, str]:
        """Run the role's registration; the exit status and what was said."""
        variables = {
            "worker_agent_enrolment_token": token,
            "worker_agent_join_token_file": "/etc/muster-agent/join-token",
            "worker_agent_joined_file": "/var/lib/joined",
        }
        tasks = [
            {
                "name": part,
                "ansible.builtin.include_role": {"name": "worker_agent", "tasks_from": part},
                "vars": variables,
            }
            for part in ("look", "register")
        ]
        play = {"name": "Test", "hosts": "localhost", "gather_facts": False, "tasks": tasks}
        (self.disk / "play.json").write_text(json.dumps([play]))
        command = [Path(sys.executable).parent / "ansible-playbook", "-c", "local", self.disk / "play.json"]
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", INSIDE, "sh", *command],
            cwd=ROOT,
            env={
                **os.environ,
                "DISK": str(self.disk),
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_ROLES_PATH": str(ROOT / "roles"),
                "HOME": str(self.disk),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        return done.returncode, " ".join(done.stdout.split())


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("mount namespaces need root")
    service = Service(tmp_path, K3S_CLUSTER_TOKEN="K10-the-agent-token").start()
    with tempfile.TemporaryDirectory(prefix="muster-test-machine-", dir=memory()) as disk:
        yield Machine(Path(disk), service)
    service.stop()


def test_a_machine_that_must_be_approved_says_so_and_joins_with_the_next_run(machine: Machine) -> None:
    token = machine.ask("POST", "/api/enrolment-tokens", name="wait", approvalRequired=True)["token"]
    status, said = machine.register(token)
    worker = machine.ask("GET", "/api/workers")["workers"][0]
    assert status != 0
    assert f"registered as worker {worker['id']}, but an operator must approve it before it can join" in said
    assert token not in said
    assert not machine.join_token.exists()
    machine.ask("POST", f"/api/workers/{worker['id']}/approve")
    status, said = machine.register(token)
    assert (status, machine.join_token.read_text()) == (0, "K10-the-agent-token\n"), said
    assert [row["id"] for row in machine.ask("GET", "/api/workers")["workers"]] == [worker["id"]]


def test_a_machine_registers_once_and_again_when_its_credential_is_refused(machine: Machine) -> None:
    token = machine.ask("POST", "/api/enrolment-tokens", name="rack-7")["token"]
    assert machine.register(token)[0] == 0
    machine.joined.touch()
    assert "changed=0" in machine.register(token)[1]
    worker = machine.ask("GET", "/api/workers")["workers"][0]
    machine.ask("POST", f"/api/workers/{worker['id']}/rotate")
    (machine.state / "unknown").touch()  # as the service leaves it when it is refused
    before = json.loads((machine.state / "state.json").read_text())
    status, said = machine.register(token)
    assert (status, "changed=1" in said) == (0, True), said
    assert json.loads((machine.state / "state.json").read_text())["credential"] != before["credential"]
    assert not (machine.state / "unknown").exists()
    assert "changed=0" in machine.register(token)[1]


def test_a_refused_token_is_one_sentence(machine: Machine) -> None:
    status, said = machine.register("wrong")
    assert status != 0
    assert "The control API refused the registration: The registration token is not valid (HTTP 401)." in said


@pytest.mark.parametrize(("authority", "file"), [("-----BEGIN…", "/etc/muster-agent/ca.pem"), ("", None)])
def test_without_a_given_authority_those_of_the_system_count(authority: str, file: str | None) -> None:
    templates = Environment()
    templates.filters["to_nice_json"] = lambda value, indent: json.dumps(value, indent=indent)
    source = (ROOT / "roles/worker_agent/templates/config.json.j2").read_text()
    given = {"worker_agent_api_url": "https://paas.example.org", "worker_agent_address": "192.0.2.11"}
    config = json.loads(templates.from_string(source).render(worker_agent_api_ca=authority, **given))
    assert config["ca_file"] == file
