"""Every query and every write on the audit log; there is no update."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, insert, select, text
from sqlalchemy.orm import Session

from control_api.db import Database
from control_api.events.models import AuditEntry, Outcome

EXPORT_PAGE = 1000
DELETED_AT_ONCE = 5000


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries: all that are given must fit; since is included, until is not."""

    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    outcome: Outcome | None = None
    since: datetime | None = None
    until: datetime | None = None


def add(session: Session, **values: Any) -> None:
    """Append an entry."""
    session.execute(insert(AuditEntry).values(**values))


def page(session: Session, wanted: Filter, *, before: int | None, limit: int) -> Sequence[AuditEntry]:
    """Return entries, the newest first, from before that id on."""
    statement = select(AuditEntry).where(*_conditions(wanted)).order_by(AuditEntry.id.desc())
    if before is not None:
        statement = statement.where(AuditEntry.id < before)
    return session.scalars(statement.limit(limit)).all()


def export(database: Database, wanted: Filter) -> Iterator[AuditEntry]:
    """Yield every entry, the oldest first; no transaction stays open meanwhile."""
    last = 0
    statement = select(AuditEntry).where(*_conditions(wanted)).order_by(AuditEntry.id).limit(EXPORT_PAGE)
    while True:
        with database.reading() as session:
            entries = session.scalars(statement.where(AuditEntry.id > last)).all()
        yield from entries
        if len(entries) < EXPORT_PAGE:
            return
        last = entries[-1].id


def forget(session: Session, before: datetime) -> int:
    """Delete some of the entries from before that moment, the oldest first; return how many."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SET LOCAL muster.retention = 'on'"))  # what the guard of the table asks for
    oldest = (
        select(AuditEntry.id).where(AuditEntry.at < before).order_by(AuditEntry.at).limit(DELETED_AT_ONCE)
    )
    gone = session.execute(delete(AuditEntry).where(AuditEntry.id.in_(oldest)).returning(AuditEntry.id))
    return len(gone.all())


def _conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    equal = {name: getattr(wanted, name) for name in ("actor", "action", "subject", "outcome")}
    conditions = [getattr(AuditEntry, name) == value for name, value in equal.items() if value is not None]
    if wanted.since is not None:
        conditions.append(AuditEntry.at >= wanted.since)
    if wanted.until is not None:
        conditions.append(AuditEntry.at < wanted.until)
    return conditions
