"""`muster serve` as a real process of the tests' own, with the environment that they choose."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2

from tests.control_api.world import bearer, registration

MUSTER = [sys.executable, "-m", "control_api.cli"]
ROOT = Path(__file__).parents[2]
PATIENCE = 120  # seconds; starting takes 2 s of CPU, and tests run side by side


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Service:
    """One installation: an empty directory, and the process that serves from it."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "XDG_STATE_HOME": str(directory),
            "PORT": str(self.port),
            **environment,
        }
        self.process: subprocess.Popen[str] | None = None
        self.log = ""
        self._headers: dict[str, str] = {}

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run another command with the same environment, to its end."""
        return subprocess.run(
            [*MUSTER, *arguments],
            env={**self.environment, **environment},
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def start(self) -> Service:
        output = self.directory / "output"
        with output.open("w") as file:
            self.process = subprocess.Popen(
                [*MUSTER, "serve"],
                env=self.environment,
                cwd=self.directory,
                stdout=file,
                stderr=file,
                text=True,
            )
        wait_until(lambda: '"ready"' in output.read_text() or self.process_ended(), PATIENCE)
        self.log = output.read_text()
        assert self.process.poll() is None, self.log
        return self

    def process_ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the process, return its exit status and keep what it said."""
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(timeout=PATIENCE)
        self.log = (self.directory / "output").read_text()
        self.process = None
        return status

    def kill(self, number: signal.Signals) -> None:
        """Send a signal and do not wait."""
        assert self.process is not None
        self.process.send_signal(number)

    def events(self) -> list[str]:
        """Return what the log has told so far."""
        lines = (self.directory / "output").read_text().splitlines()
        return [json.loads(line)["event"] for line in lines if line.startswith("{")]

    def ready(self) -> dict[str, Any]:
        """Return what /readyz answers."""
        return dict(httpx2.get(f"{self.url}/readyz", timeout=PATIENCE).json())

    def admin(self) -> dict[str, str]:
        """Log in as the administrator and return the headers."""
        login = {"username": "admin", "password": self.secret("MUSTER_ADMIN_PASSWORD")}
        tokens = httpx2.post(f"{self.url}/api/auth/login", json=login, timeout=PATIENCE).json()["data"]
        return bearer(tokens["accessToken"])

    def secret(self, name: str) -> str:
        if name in self.environment:
            return self.environment[name]
        lines = (self.directory / "muster/secrets.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)[name]

    def register(self, **facts: Any) -> dict[str, Any]:
        body = registration(registrationToken=self.secret("WORKER_REGISTRATION_TOKEN"), **facts)
        answer = httpx2.post(f"{self.url}/api/workers/register", json=body, timeout=PATIENCE)
        assert answer.status_code in {200, 201}, answer.text
        return dict(answer.json()["data"])

    def beat(self, worker: dict[str, Any]) -> httpx2.Response:
        path = f"{self.url}{worker['heartbeat']['url']}"
        return httpx2.patch(
            path, json={"cpuUsage": 1}, headers=bearer(worker["credential"]), timeout=PATIENCE
        )

    def workers(self) -> dict[str, str]:
        """Return status by hostname, as an administrator sees it, who logs in once: logins are dear, and limited."""
        self._headers = self._headers or self.admin()
        answer = httpx2.get(f"{self.url}/api/workers", headers=self._headers, timeout=PATIENCE)
        return {worker["hostname"]: worker["status"] for worker in answer.json()["data"]["workers"]}


def wait_until(condition: Callable[[], Any], seconds: float) -> float:
    """Return how long it took; fail when it does not happen in time.

    The bound is that of a machine that has time. Where more processes want to run than there are cores, everything
    takes as many times longer, and so may this.
    """
    began = time.monotonic()
    while not condition():
        bound = seconds * crowding()
        assert time.monotonic() - began < bound, f"not within {bound:.0f} s"
        time.sleep(0.05)
    return time.monotonic() - began


def crowding() -> float:
    """Return how many processes want to run on each core; 1 on a machine that has time."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
