"""A lab of its own for the tests: booted and built once, taken down at the end."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import state

ROOT = Path(__file__).parents[2]
STATES = Path("/var/lib/muster-lab")
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
    "MUSTER_LAB": "e2e",
    "NO_COLOR": "1",
    "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
}


@dataclass
class Lab:
    """What the tests do with the lab, always through the commands and interfaces that users have."""

    up_output: str = ""
    name: str = "e2e"
    as_built: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        return STATES / self.name

    @property
    def key(self) -> Path:
        return self.state / "ssh_key"

    def command(self, *arguments: str) -> str:
        return run([ROOT / ".venv/bin/muster", "lab", *arguments], environment={"MUSTER_LAB": self.name})

    def on(self, host: str, command: str) -> str:
        return self.command("ssh", host, "--", command)

    def playbook(
        self,
        *arguments: str,
        inventory: str | Path | None = None,
        check: bool = True,
        environment: dict[str, str] | None = None,
    ) -> str:
        command = [
            ROOT / ".venv/bin/ansible-playbook",
            "-i",
            inventory or self.state / "inventory",
            *arguments,
        ]
        return run(command, check=check, timeout=1200, environment=environment)

    def workers(self) -> dict[str, dict[str, Any]]:
        request = urllib.request.Request(
            self.url + "/api/workers", headers={"Authorization": f"Bearer {self.access_token}"}
        )
        return {worker["name"]: worker for worker in self.ask(request)["workers"]}

    def register(self, **facts: Any) -> str:
        """Register a machine that is none of the lab's hosts; the worker's id."""
        token = self.on("master", "cat /etc/muster/secrets/WORKER_REGISTRATION_TOKEN").strip()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(
            self.url + "/api/workers/register", json.dumps(facts).encode(), headers
        )
        return str(self.ask(request)["workerId"])

    def remove(self, worker_id: str) -> None:
        headers = {"Authorization": f"Bearer {self.access_token}"}
        url = f"{self.url}/api/workers/{worker_id}"
        self.ask(urllib.request.Request(url, headers=headers, method="DELETE"))

    @cached_property
    def access_token(self) -> str:
        password = self.on("master", "cat /etc/muster/secrets/MUSTER_ADMIN_PASSWORD")
        body = json.dumps({"username": "admin", "password": password}).encode()
        headers = {"Content-Type": "application/json"}
        return str(
            self.ask(urllib.request.Request(self.url + "/api/auth/login", body, headers))["accessToken"]
        )

    def ask(self, request: urllib.request.Request) -> dict[str, Any]:
        with urllib.request.urlopen(request, context=self.tls, timeout=10) as answer:
            return dict(json.load(answer)["data"])

    @cached_property
    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self.on("master", "cat /etc/muster/tls/ca.crt"))

    @cached_property
    def addresses(self) -> dict[str, str]:
        inventory = run(
            [ROOT / ".venv/bin/ansible-inventory", "-i", self.state / "inventory", "--list"], errors=False
        )
        return {
            host: facts["ansible_host"] for host, facts in json.loads(inventory)["_meta"]["hostvars"].items()
        }

    @property
    def url(self) -> str:
        return "https://" + self.addresses["master"]

    @property
    def gateway(self) -> str:
        """This machine's address on the lab's bridge."""
        return self.addresses["master"].rsplit(".", 1)[0] + ".1"

    def wait_for_status(self, worker: str, status: str, seconds: float) -> float:
        """Seconds until the worker has the status; fails when it takes longer than allowed."""
        started = time.monotonic()
        wait_until(lambda: self.workers()[worker]["status"] == status, seconds, f"{worker} is not {status}")
        return time.monotonic() - started


def run(
    command: list[Any],
    *,
    check: bool = True,
    errors: bool = True,
    timeout: float = 300,
    environment: dict[str, str] | None = None,
) -> str:
    """What the command printed, with what it said on standard error; with `check`, a failing one fails the test."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**ENVIRONMENT, **(environment or {})},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if errors else subprocess.DEVNULL,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if check and done.returncode != 0:
        pytest.fail(f"{command} ended with {done.returncode}:\n{done.stdout[-6000:]}", pytrace=False)
    return done.stdout


def wait_until(holds: Callable[[], bool], seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if holds():
                return
        except OSError:
            pass  # the master itself may be on its way back
        time.sleep(1)
    pytest.fail(f"{otherwise} after {seconds:.0f} s")


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    run(["make", "down"], timeout=120)
    print("\n== make up", flush=True)
    started = time.monotonic()
    try:
        built = Lab(up_output=run(["make", "up"], timeout=1500))
        built.as_built = {host: state.of_built(built, host) for host in ("master", "worker1")}
        yield built
    finally:
        run(["make", "down"], check=False, timeout=120)
        print(f"\n== lab taken down after {time.monotonic() - started:.0f} s", flush=True)
