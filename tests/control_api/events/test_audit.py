"""The audit log: an entry stands with its change, shows no secret, and is never changed."""

from __future__ import annotations

import contextlib

import pytest
from sqlalchemy import delete, select, text, update
from sqlalchemy.exc import DBAPIError

from control_api.db import Database
from control_api.events import audit
from control_api.events.models import AuditEntry, Outcome
from tests.control_api.world import START


def entries(database: Database) -> list[AuditEntry]:
    with database.reading() as session:
        return list(session.scalars(select(AuditEntry).order_by(AuditEntry.id)))


def write(database: Database, **values: object) -> None:
    with database.transaction() as session:
        audit.record(session, **{"actor": "user:ann", "action": "worker.maintenance", "now": START, **values})


def test_an_entry_says_who_did_what_to_what(database: Database) -> None:
    write(database, subject="worker:w1", peer="192.0.2.7", request_id="r1", details={"reason": "disk"})
    (entry,) = entries(database)
    assert (entry.at, entry.actor, entry.action, entry.subject) == (
        START,
        "user:ann",
        "worker.maintenance",
        "worker:w1",
    )
    assert (entry.outcome, entry.peer, entry.request_id) == (Outcome.DONE, "192.0.2.7", "r1")
    assert entry.details == {"reason": "disk"}


def test_an_entry_falls_with_the_change_that_it_belongs_to(database: Database) -> None:
    with contextlib.suppress(RuntimeError), database.transaction() as session:
        audit.record(session, actor="monitor", action="worker.expire", now=START)
        raise RuntimeError
    assert entries(database) == []


def test_a_refusal_is_written_by_itself(database: Database) -> None:
    audit.record_refusal(database, actor=audit.ANONYMOUS, action="login", subject="user:ann", now=START)
    assert [(entry.actor, entry.outcome) for entry in entries(database)] == [("anonymous", Outcome.REFUSED)]


def test_secrets_and_what_no_database_takes_are_not_written(database: Database) -> None:
    write(database, actor="token:a\x00b\ud800", subject="x" * 5000, details={"password": "hunter2"})
    (entry,) = entries(database)
    assert (entry.actor, len(entry.subject), entry.details) == ("token:ab?", 300, {"password": "[redacted]"})


def test_the_database_refuses_to_change_an_entry(database: Database) -> None:
    write(database)
    with pytest.raises(DBAPIError, match="append-only"), database.transaction() as session:
        session.execute(update(AuditEntry).values(actor="user:somebody-else"))
    assert [entry.actor for entry in entries(database)] == ["user:ann"]


def test_postgresql_deletes_entries_for_retention_only(postgresql_url: str) -> None:
    database = Database(postgresql_url)
    write(database)
    with pytest.raises(DBAPIError, match="append-only"), database.transaction() as session:
        session.execute(delete(AuditEntry))
    with database.transaction() as session:
        session.execute(text("SET LOCAL muster.retention = 'on'"))
        session.execute(delete(AuditEntry))
    assert entries(database) == []
    database.close()
