"""Machines for the tests: a root directory each, and the real processes of the stand-in on them."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from lab.k3s_stand_in import kubeconfig, tables

STARTED = "is up and running"


def wait_until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """The first true value of `condition`; fails the test when there is none in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {condition}")


def free_port() -> int:
    """A port that nobody has, below those that outgoing connections take: it is still free when it is used."""
    while True:
        port = 15000 + secrets.randbelow(15000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("0.0.0.0", port))
            return port


class Machine:
    """One machine; `config` is its config.yaml."""

    def __init__(self, binary: Path, root: Path, name: str, **config: Any) -> None:
        self.binary, self.root, self.name = binary, root, name
        self.health_port = free_port()
        self.config: dict[str, Any] = {"node-name": name, "node-ip": "127.0.0.1"} | config
        self.config["kubelet-arg"] = [
            f"healthz-port={self.health_port}",
            "node-status-update-frequency=300ms",
        ]
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = {"PATH": os.environ["PATH"], "K3S_STAND_IN_ROOT": str(root)}

    def path(self, name: str) -> Path:
        return self.root / name

    @property
    def state(self) -> Path:
        return self.path("var/lib/rancher/k3s")

    @property
    def journal(self) -> str:
        """What the present process has said."""
        return self.path("journal").read_text()

    def start(self, command: str) -> Machine:
        file = self.path("etc/rancher/k3s/config.yaml")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(self.config))
        with self.path("journal").open("wb") as journal:
            arguments = [sys.executable, str(self.binary), command]
            self.process = subprocess.Popen(arguments, env=self.environment, stderr=journal)
        return self

    def up(self, command: str) -> Machine:
        self.start(command)
        self.wait_for(STARTED)
        return self

    def wait_for(self, sentence: str) -> None:
        def said() -> bool:
            assert self.process is not None
            if sentence in self.journal:
                return True
            assert self.process.poll() is None, (
                f"{self.name} ended before it said {sentence!r}:\n{self.journal}"
            )
            return False

        try:
            wait_until(said)
        except AssertionError as exc:
            raise AssertionError(f"{self.name} did not say {sentence!r}:\n{self.journal}") from exc

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the process if it runs, and return its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.send(signal.SIGCONT)
            self.send(number)
        return self.process.wait(timeout=15)

    def k3s(self, *arguments: str, status: int = 0) -> str:
        """Run one command to its end and return what it printed; checks the exit status."""
        command = [sys.executable, str(self.binary), *arguments]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=30
        )
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    def kubectl(self, *arguments: str, status: int = 0) -> str:
        return self.k3s("kubectl", *arguments, status=status)


class Server(Machine):
    """The machine of the server."""

    def __init__(self, binary: Path, root: Path, name: str = "master", **config: Any) -> None:
        self.port = free_port()
        fixed = {"https-listen-port": self.port, "bind-address": "127.0.0.1"}
        super().__init__(binary, root, name, **fixed, **config)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def kubeconfig(self) -> Path:
        return self.path("etc/rancher/k3s/k3s.yaml")

    def token(self, name: str) -> str:
        return (self.state / "server" / name).read_text().strip()

    def node_is(self, name: str, status: str) -> bool:
        """Whether kubectl's table would say so."""
        client, _ = kubeconfig.client_of(self.kubeconfig)
        nodes = client.api("GET", "/api/v1/nodes")["items"]
        return (name, status) in [(node["metadata"]["name"], tables.node_status(node)) for node in nodes]

    def secrets(self) -> set[str]:
        """The names of the Secrets in kube-system."""
        client, _ = kubeconfig.client_of(self.kubeconfig)
        found = client.api("GET", "/api/v1/namespaces/kube-system/secrets")["items"]
        return {secret["metadata"]["name"] for secret in found}
