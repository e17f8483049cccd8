"""A PostgreSQL server for one measurement, as the role `postgresql` sets it up, on a real disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from bench.machine import free_port, total_memory_mib
from bench.roles import render


@dataclass(frozen=True)
class Server:
    """A server that listens on loopback, as the installed one does."""

    pid: int
    port: int

    def url(self, database: str) -> str:
        return f"postgresql://postgres:bench@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Make an empty database and return its URL."""
        self.query("postgres", f"CREATE DATABASE {database}")
        return self.url(database)

    def query(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


@contextmanager
def server() -> Iterator[Server]:
    """Make a server in a temporary directory, with fsync and everything else that makes a commit durable."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
    if programs is None:
        raise SystemExit("This machine has no PostgreSQL server (apt-get install postgresql).")
    home = Path(tempfile.mkdtemp(prefix="muster-bench-pg-", dir="/var/tmp"))
    if os.getuid() == 0:
        shutil.chown(home, "postgres", "postgres")

    def run(*command: str) -> None:
        drop = (
            ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
        )
        subprocess.run(
            [*drop, programs / command[0], *command[1:]], check=True, capture_output=True, cwd=home
        )

    password = home / "password"
    password.write_text("bench")
    password.chmod(0o644)
    data, port = home / "data", free_port()
    try:
        run(
            "initdb",
            "-D",
            str(data),
            "-U",
            "postgres",
            "-A",
            "scram-sha-256",
            "-E",
            "UTF8",
            f"--pwfile={password}",
        )
        with (data / "postgresql.conf").open("a") as file:
            facts = {"memtotal_mb": total_memory_mib()}
            file.write(render("postgresql", "muster.conf.j2", ansible_facts=facts))
            file.write(f"port = {port}\nunix_socket_directories = '{home}'\n")
        run("pg_ctl", "-D", str(data), "-l", str(home / "log"), "-w", "start")
        yield Server(int((data / "postmaster.pid").read_text().split()[0]), port)
    finally:
        if (data / "postmaster.pid").exists():
            run("pg_ctl", "-D", str(data), "-m", "fast", "-w", "stop")
        shutil.rmtree(home)
