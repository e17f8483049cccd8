"""Servers of the tests' own, started and stopped by them: PostgreSQL and Redis."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import redis
from psycopg import sql

ROLE = Path(__file__).parents[2] / "roles/redis/templates/users.acl.j2"


@dataclass(frozen=True)
class PostgreSQL:
    """A server of our own that listens on a socket in its directory only."""

    directory: Path
    programs: Path
    port: int | None = None  # on loopback, besides the socket

    def url(self, name: str, port: int | None = None) -> str:
        """Return the URL over the socket, or over TCP to a port (its own, or that of a proxy)."""
        if port is not None:
            return f"postgresql://postgres@127.0.0.1:{port}/{name}"
        own = f"&port={self.port}" if self.port else ""
        return f"postgresql://postgres@/{name}?host={self.directory}{own}"

    def admin(self, statement: str, *names: str) -> None:
        query = sql.SQL(statement).format(*(sql.Identifier(name) for name in names))
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(query)

    def run(self, *command: str) -> None:
        """Run one of the server's programs; root is not allowed to, so it becomes postgres."""
        drop = (
            ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
        )
        subprocess.run(
            [*drop, self.programs / command[0], *command[1:]],
            check=True,
            capture_output=True,
            cwd=self.directory,
        )

    def start(self) -> None:
        listen = f"-c listen_addresses=127.0.0.1 -p {self.port}" if self.port else "-c listen_addresses="
        options = f"-k {self.directory} {listen} -c fsync=off -c shared_buffers=32MB -c max_connections=150"
        data, log = str(self.directory / "data"), str(self.directory / "log")
        self.run("pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "start")

    def stop(self, mode: str = "fast") -> None:
        self.run("pg_ctl", "-D", str(self.directory / "data"), "-m", mode, "-w", "stop")

    def processes(self) -> list[int]:
        """Return the ids of the server's processes, its own first."""
        postmaster = int((self.directory / "data/postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        return [postmaster, *map(int, children)]

    def signal(self, number: signal.Signals) -> None:
        """Send every process of the server a signal: SIGKILL is a crash, SIGSTOP freezes it, SIGCONT thaws it."""
        for process in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process, number)

    def crash(self) -> None:
        """Kill every process and return when they are gone; `start` then recovers."""
        processes = self.processes()
        self.signal(signal.SIGKILL)
        while any(Path(f"/proc/{process}").exists() for process in processes):
            time.sleep(0.01)

    def destroy(self) -> None:
        """Stop it and leave nothing behind."""
        with suppress(subprocess.CalledProcessError):  # it may be stopped already
            self.stop("immediate")
        shutil.rmtree(self.directory)


def memory() -> str | None:
    """Return a directory in memory where there is one: the tests commit thousands of times."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def start_postgresql(port: int | None = None) -> PostgreSQL:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("this machine has no PostgreSQL server (apt-get install postgresql)")
    directory = Path(tempfile.mkdtemp(prefix="muster-test-pg-", dir=memory()))
    if os.getuid() == 0:
        shutil.chown(directory, "postgres", "postgres")
    server = PostgreSQL(directory, found[-1].parent, port)
    server.run(
        "initdb", "-D", str(directory / "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"
    )
    server.start()
    return server


class RedisServer:
    """A server of our own that listens on a socket only; its user has the rights that the role `redis` gives."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="muster-test-redis-", dir=memory()))
        self.socket = self.directory / "socket"
        self.url = f"unix://muster:redis-password@{self.socket}"
        acl = (
            ROLE.read_text()
            .replace("{{ redis_user }}", "muster")
            .replace("{{ redis_key_prefix }}", "muster:")
        )
        digest = hashlib.sha256(b"redis-password").hexdigest()
        (self.directory / "users.acl").write_text(re.sub(r"#\{\{.*\}\}", f"#{digest}", acl))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ["--port", "0", "--unixsocket", str(self.socket), "--save", "", "--appendonly", "no"]
        command = ["redis-server", *options, "--aclfile", str(self.directory / "users.acl")]
        self.process = subprocess.Popen(command, cwd=self.directory, stdout=subprocess.DEVNULL)
        client = redis.Redis.from_url(self.url)
        for _ in range(200):
            with suppress(redis.RedisError):
                client.ping()
                break
            time.sleep(0.02)
        else:
            raise AssertionError("redis-server does not answer")
        client.close()

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def destroy(self) -> None:
        self.stop()
        shutil.rmtree(self.directory)
