"""The database's edge: which URLs are taken, what a time is, who may use a SQLite file."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import StatementError

from control_api.db import Database, Leadership, hold_file_lock, keep_in_memory, parse_url
from control_api.errors import AlreadyRunning, BadSettings, DatabaseUnavailable
from control_api.workers.models import Watch
from tests.control_api.world import START


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("postgresql://u:p@h:5432/d", "postgresql+psycopg"),
        ("postgres://u:p@h/d", "postgresql+psycopg"),
        ("postgresql+psycopg://u@h/d", "postgresql+psycopg"),
        ("sqlite:///x.db", "sqlite+pysqlite"),
        ("sqlite:////abs/x.db", "sqlite+pysqlite"),
    ],
)
def test_urls_get_the_driver_that_is_used_here(url: str, driver: str) -> None:
    assert parse_url(url).drivername == driver


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "mysql://u:secret-word@h/d",
        "sqlite://",
        "sqlite:///:memory:",
        "postgresql://u:secret-word/x@h:port/d",
    ],
)
def test_other_urls_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(BadSettings, match="DATABASE_URL") as caught:
        parse_url(url)
    assert "secret-word" not in str(caught.value)


def test_times_keep_their_moment(database: Database) -> None:
    elsewhere = START.astimezone(timezone(timedelta(hours=5)))
    with database.transaction() as session:
        session.add(Watch(id=1, ticked_at=elsewhere, grace_until=START + timedelta(microseconds=1)))
    with database.reading() as session:
        watch = session.scalars(select(Watch)).one()
    assert (watch.ticked_at, watch.ticked_at.tzinfo) == (START, UTC)
    assert watch.grace_until - watch.ticked_at == timedelta(microseconds=1)


def test_a_time_without_a_zone_is_refused(database: Database) -> None:
    with pytest.raises(StatementError, match="naive"), database.transaction() as session:
        session.add(Watch(id=1, ticked_at=datetime(2026, 1, 1), grace_until=START))  # noqa: DTZ001


def test_one_process_at_a_time_uses_a_sqlite_file(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    held = hold_file_lock(database)
    with pytest.raises(AlreadyRunning, match="Another control API"):
        hold_file_lock(database)
    os.close(held)
    os.close(hold_file_lock(database))
    database.close()


def test_reading_does_not_wait_for_a_writer(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    with database.transaction() as writer:
        writer.add(Watch(id=1, ticked_at=START, grace_until=START))
        writer.flush()
        with database.reading() as reader:
            assert reader.scalars(select(Watch)).all() == []
    with database.reading() as reader:
        assert len(reader.scalars(select(Watch)).all()) == 1
    database.close()


def test_a_snapshot_is_as_of_one_moment(database: Database) -> None:
    with database.snapshot() as reader:
        assert reader.scalars(select(Watch)).all() == []
        with database.transaction() as writer:
            writer.add(Watch(id=1, ticked_at=START, grace_until=START))
        assert reader.scalars(select(Watch)).all() == []
    with database.reading() as reader:
        assert len(reader.scalars(select(Watch)).all()) == 1


def test_a_database_that_is_not_there_is_unavailable() -> None:
    database = Database("postgresql://u@127.0.0.1:1/d")
    with pytest.raises(DatabaseUnavailable):
        database.ping()
    with pytest.raises(DatabaseUnavailable):
        Leadership(database).acquire()
    database.close()


def test_more_memory_is_for_one_transaction_only(postgresql_url: str) -> None:
    database = Database(postgresql_url)
    with database.transaction() as session:
        usual = session.scalar(text("SHOW work_mem"))
        keep_in_memory(session)
        assert session.scalar(text("SHOW work_mem")) == "128MB" != usual
    with database.transaction() as session:
        assert session.scalar(text("SHOW work_mem")) == usual
    database.close()


def test_nobody_writes_as_leader_without_leading(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable), Leadership(database).transaction():
        pass
