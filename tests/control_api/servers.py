"""A PostgreSQL server of the tests' own, started and stopped by them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql


@dataclass(frozen=True)
class PostgreSQL:
    """A server of our own that listens on a socket in its directory only."""

    directory: Path
    programs: Path

    def url(self, name: str) -> str:
        return f"postgresql://postgres@/{name}?host={self.directory}"

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
        options = f"-k {self.directory} -c listen_addresses= -c fsync=off -c shared_buffers=32MB -c max_connections=150"
        data, log = str(self.directory / "data"), str(self.directory / "log")
        self.run("pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "start")

    def stop(self, mode: str = "fast") -> None:
        self.run("pg_ctl", "-D", str(self.directory / "data"), "-m", mode, "-w", "stop")

    def destroy(self) -> None:
        """Stop it and leave nothing behind."""
        with suppress(subprocess.CalledProcessError):  # it may be stopped already
            self.stop("immediate")
        shutil.rmtree(self.directory)


def memory() -> str | None:
    """Return a directory in memory where there is one: the tests commit thousands of times."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def start_postgresql() -> PostgreSQL:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("this machine has no PostgreSQL server (apt-get install postgresql)")
    directory = Path(tempfile.mkdtemp(prefix="muster-test-pg-", dir=memory()))
    if os.getuid() == 0:
        shutil.chown(directory, "postgres", "postgres")
    server = PostgreSQL(directory, found[-1].parent)
    server.run(
        "initdb", "-D", str(directory / "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"
    )
    server.start()
    return server
