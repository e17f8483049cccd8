"""A lab of its own for the tests: booted and built once, taken down at the end."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NAME = "e2e"
STATE = Path("/var/lib/muster-lab") / NAME
ENVIRONMENT = {**os.environ, "MUSTER_LAB": NAME, "NO_COLOR": "1", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}


@dataclass
class Lab:
    """What the tests do with the lab, always through the commands and interfaces that users have."""

    up_output: str

    def command(self, *arguments: str, check: bool = True, timeout: float = 300) -> str:
        return run([ROOT / ".venv/bin/muster", "lab", *arguments], check=check, timeout=timeout)

    def on(self, host: str, command: str, *, check: bool = True) -> str:
        return self.command("ssh", host, command, check=check)

    def playbook(self, *arguments: str, inventory: Path = STATE / "inventory", check: bool = True) -> str:
        command = [ROOT / ".venv/bin/ansible-playbook", "-i", inventory, *arguments]
        return run(command, check=check, timeout=1200)

    def fleet_environment(self) -> dict[str, str]:
        key = self.on("master", "cat /etc/muster/secrets/MUSTER_INVENTORY_KEY").strip()
        return {"MUSTER_API_KEY": key}

    def get(self, path: str) -> Any:
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self.token()}"})
        with urllib.request.urlopen(request, context=self.tls(), timeout=10) as answer:
            return json.load(answer)["data"]

    def workers(self) -> dict[str, dict[str, Any]]:
        return {worker["name"]: worker for worker in self.get("/api/workers")["workers"]}

    def token(self) -> str:
        password = self.on("master", "cat /etc/muster/secrets/MUSTER_ADMIN_PASSWORD").strip()
        request = urllib.request.Request(
            self.url + "/api/auth/login",
            data=json.dumps({"username": "admin", "password": password}).encode(),
            headers={"Content-Type": "application/json"},
        )
        self.token = lambda token=self._ask(request): token  # type: ignore[method-assign]
        return self.token()

    def _ask(self, request: urllib.request.Request) -> str:
        with urllib.request.urlopen(request, context=self.tls(), timeout=10) as answer:
            return str(json.load(answer)["data"]["accessToken"])

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self.on("master", "cat /etc/muster/tls/api.crt"))

    @property
    def url(self) -> str:
        return "https://" + self.addresses["master"]

    @property
    def addresses(self) -> dict[str, str]:
        inventory = run([ROOT / ".venv/bin/ansible-inventory", "-i", STATE / "inventory", "--list"])
        return {
            host: facts["ansible_host"] for host, facts in json.loads(inventory)["_meta"]["hostvars"].items()
        }

    def wait_for_status(self, worker: str, status: str, seconds: float) -> float:
        """Seconds until the worker has the status; fails when it takes longer than allowed."""
        started = time.monotonic()
        wait_until(lambda: self.workers()[worker]["status"] == status, seconds, f"{worker} is not {status}")
        return time.monotonic() - started


def run(
    command: list[Any], *, check: bool = True, timeout: float = 300, env: dict[str, str] | None = None
) -> str:
    """What the command printed; with `check`, a failing command fails the test with its last lines."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**ENVIRONMENT, **(env or {})},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
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
        yield Lab(up_output=run(["make", "up"], timeout=1500))
    finally:
        run(["make", "down"], check=False, timeout=120)
        print(f"\n== lab taken down after {time.monotonic() - started:.0f} s", flush=True)
