"""Fixtures of the control API: real databases, a clock that the test sets, the API over ASGI."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from control_api import schema
from control_api.db import Database
from tests.control_api.servers import PostgreSQL, RedisServer, memory, start_postgresql
from tests.control_api.world import SETTINGS, Api, Clock, make_settings, running_api

numbers = itertools.count()


@pytest.fixture(autouse=True, scope="session")
def _plain_log() -> None:
    renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.processors.add_log_level, renderer])


@pytest.fixture
def clock() -> Clock:
    return Clock()


# ---- databases


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A server for the whole run, with the template `muster` that holds the schema."""
    server = start_postgresql()
    try:
        server.admin("CREATE DATABASE {}", "muster")
        template = Database(server.url("muster"))
        schema.upgrade(template)
        template.close()
        yield server
    finally:
        server.destroy()


@pytest.fixture
def postgresql_url(postgresql: PostgreSQL) -> Iterator[str]:
    """The URL of a fresh database with the schema in it."""
    name = f"test_{next(numbers)}"
    postgresql.admin("CREATE DATABASE {} TEMPLATE {}", name, "muster")
    yield postgresql.url(name)
    postgresql.admin("DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    database = Database(f"sqlite:///{path}")
    schema.upgrade(database)
    database.close()
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="muster-test-sqlite-", dir=memory()) as directory:
        path = Path(directory) / "muster.db"
        shutil.copy(sqlite_template, path)
        yield f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A Redis that runs; the test may stop, freeze and start it."""
    server = RedisServer()
    server.start()
    yield server
    server.destroy()


# ---- the API


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*SETTINGS, "DATABASE_URL", "CREDENTIALS_DIRECTORY", "STATE_DIRECTORY", "NOTIFY_SOCKET"]:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def api(database_url: str, clock: Clock) -> AsyncIterator[Api]:
    async with running_api(make_settings(database_url), clock) as api:
        yield api


@pytest.fixture
async def sqlite_api(sqlite_url: str, clock: Clock) -> AsyncIterator[Api]:
    """The API where the database makes no difference."""
    async with running_api(make_settings(sqlite_url), clock) as api:
        yield api
