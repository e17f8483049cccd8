"""The control API as it is installed: a process of its own on PostgreSQL, with a fleet in its table."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psycopg
from sqlalchemy import insert

from bench.identity import AUTH_SECRET, worker_id
from bench.machine import free_port, process, wait_for_port
from control_api import schema
from control_api.db import Database, utc_now
from control_api.workers import store
from control_api.workers.lifecycle import Intent, Status
from control_api.workers.models import Heartbeat, Worker

SETTINGS = {
    "JWT_SECRET": "jwt-of-the-bench-0123456789-0123456789",
    "JWT_REFRESH_SECRET": "refresh-of-the-bench-0123456789-0123456789",
    "WORKER_REGISTRATION_TOKEN": "registration-of-the-bench-0123456789",
    "WORKER_AUTH_SECRET": AUTH_SECRET,
    "MUSTER_ADMIN_PASSWORD": "admin-of-the-bench-0123456789",
    "MUSTER_INVENTORY_KEY": "inventory-of-the-bench-0123456789",
}
CHUNK = 5000


def fill(url: str, count: int, *, heard: timedelta = timedelta(0)) -> None:
    """Bring an empty database to the schema and put `count` ACTIVE workers in it, last heard `heard` ago."""
    database = Database(url)
    schema.upgrade(database)
    now = utc_now() - heard
    with database.transaction() as session:
        for start in range(0, count, CHUNK):
            numbers = range(start, min(start + CHUNK, count))
            session.execute(insert(Worker), [_worker(number, now) for number in numbers])
            session.execute(insert(Heartbeat), [_heartbeat(number, now) for number in numbers])
            store.index_statuses(session, [worker_id(number) for number in numbers])
    database.close()
    with psycopg.connect(
        url, autocommit=True
    ) as connection:  # without the service's patience, which is short
        connection.execute("VACUUM ANALYZE")


def _worker(number: int, now: datetime) -> dict[str, Any]:
    return {
        "id": worker_id(number),
        "name": f"worker-{number:06}",
        "hostname": f"worker-{number:06}",
        "machine_id": hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest(),
        "ip_address": f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",
        "observed_address": "10.0.0.1",
        "status": Status.ACTIVE,
        "intent": Intent.ACTIVE,
        "epoch": 1,
        "cpu_cores": 8,
        "cpu_model": "AMD EPYC 7543 32-Core Processor",
        "architecture": "arm64" if number % 10 == 0 else "amd64",
        "total_memory_bytes": 33_285_996_544,
        "total_storage_bytes": 502_511_173_632,
        "operating_system": "Debian GNU/Linux 12 (bookworm)",
        "kernel_version": "6.1.0-31-amd64",
        "agent_version": "0.1.0",
        "ssh_host_keys": [f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{number:043}"],
        "labels": {"zone": f"z{number % 10}", "rack": f"r{number % 500}"},
        "created_at": now,
        "registered_at": now,
        "updated_at": now,
    }


def _heartbeat(number: int, now: datetime) -> dict[str, Any]:
    return {
        "worker_id": worker_id(number),
        "received_at": now,
        "seq": 0,
        "node_ready": True,
        "joined_at": now,
    }


@dataclass(frozen=True)
class Api:
    """A control API that serves."""

    pid: int
    port: int

    def login(self) -> str:
        """Return an administrator's token."""
        body = {"username": "admin", "password": SETTINGS["MUSTER_ADMIN_PASSWORD"]}
        request = Request(
            f"http://127.0.0.1:{self.port}/api/auth/login",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urlopen(request) as answer:  # noqa: S310 - loopback
            return str(json.load(answer)["data"]["accessToken"])


@contextmanager
def api(url: str, directory: Path, *, program: str = "control_api.cli") -> Iterator[Api]:
    """Run the control API on this database. program: the module that serves, `muster serve` unless another."""
    port = free_port()
    log = directory / f"api-{port}.log"
    environment = {**SETTINGS, "DATABASE_URL": url, "PORT": str(port)}
    with process([sys.executable, "-m", program, "serve"], log=log, environment=environment) as running:
        wait_for_port(port, running, log)
        yield Api(running.pid, port)


class Client:
    """One of the programs that load a server; it gets its parameters and answers in lines of JSON."""

    def __init__(self, module: str, **parameters: Any) -> None:
        """Start it."""
        command = [sys.executable, "-m", module, json.dumps(parameters)]
        self._running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._running.pid

    def answer(self) -> dict[str, Any]:
        """Wait for the next answer. Raises StopIteration when there is none."""
        answer: dict[str, Any] = json.loads(next(iter(self._running.stdout or ())))
        return answer

    def answers(self) -> list[dict[str, Any]]:
        """Wait for the end and return the answers until then."""
        with self._running:
            return [json.loads(line) for line in self._running.stdout or ()]
