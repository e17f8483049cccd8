"""The schema: migrations and models agree, and upgrading is safe to repeat and to race."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from control_api import schema
from control_api.db import Database
from control_api.errors import BadSettings
from tests.control_api.servers import PostgreSQL
from tests.control_api.world import HEAD


@pytest.fixture
def empty_url(request: pytest.FixtureRequest, tmp_path: Path, postgresql: PostgreSQL) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    name = f"empty_{tmp_path.name}"
    postgresql.admin("CREATE DATABASE {}", name)
    return postgresql.url(name)


both = pytest.mark.parametrize("empty_url", ["sqlite", "postgresql"], indirect=True)


# Only PostgreSQL has such indexes, and the second not always.
GIN = ("ix_workers_labels", "ix_workers_trigrams")


def test_migrations_make_what_the_models_say(database: Database) -> None:
    options = {"compare_type": True, "include_name": lambda name, _kind, _parents: name not in GIN}
    with database.reading() as session:
        context = MigrationContext.configure(session.connection(), opts=options)
        assert compare_metadata(context, schema.metadata) == []


@both
def test_upgrading_twice_changes_nothing(empty_url: str) -> None:
    database = Database(empty_url)
    assert schema.upgrade(database) == (None, HEAD)
    assert schema.upgrade(database) == (HEAD, HEAD)
    schema.require_current(database)
    database.close()


@both
def test_processes_may_upgrade_at_once(empty_url: str) -> None:
    barrier = threading.Barrier(6)

    def upgrade(_: int) -> tuple[str | None, str | None]:
        database = Database(empty_url)
        barrier.wait()
        result = schema.upgrade(database)
        database.close()
        return result

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(upgrade, range(6)))
    assert results.count((None, HEAD)) == 1
    assert results.count((HEAD, HEAD)) == 5


@both
def test_an_upgrade_that_fails_leaves_nothing_behind(empty_url: str) -> None:
    database = Database(empty_url)
    with database.transaction() as session:
        session.execute(text("CREATE TABLE transitions (in_the_way int)"))
    with pytest.raises(Exception, match="transitions"):
        schema.upgrade(database)
    with database.reading() as session:
        assert inspect(session.connection()).get_table_names() == ["transitions"]
    database.close()


@both
def test_one_can_go_back(empty_url: str) -> None:
    database = Database(empty_url)
    schema.upgrade(database)
    with database.transaction() as session:
        command.downgrade(schema.config(session.connection()), "base")
    with database.reading() as session:
        assert inspect(session.connection()).get_table_names() == ["alembic_version"]
    database.close()


@both
def test_a_service_refuses_a_database_without_its_schema(empty_url: str) -> None:
    database = Database(empty_url)
    with pytest.raises(BadSettings, match="run `muster db upgrade`"):
        schema.require_current(database)
    database.close()


def test_the_heartbeats_table_is_half_empty(postgresql_url: str) -> None:
    database = Database(postgresql_url)
    with database.reading() as session:
        query = "SELECT reloptions FROM pg_class WHERE relname = 'heartbeats'"
        assert session.scalar(text(query)) == ["fillfactor=30"]
        indexes = inspect(session.connection()).get_indexes("heartbeats")
    database.close()
    assert indexes == []
