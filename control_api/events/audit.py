"""The audit log: who changed what, and who was refused; written in the change's own transaction."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import structlog

from control_api.errors import DatabaseUnavailable
from control_api.events import audit_store
from control_api.events.models import Outcome
from control_api.logs import redact

if TYPE_CHECKING:
    from sqlalchemy.orm import Session  # opaque here: the queries are in audit_store

    from control_api.db import Database

ANONYMOUS = "anonymous"
LONGEST = 300  # characters of an actor or a subject; clients choose some of them
log = structlog.get_logger()


def record(
    session: Session,
    *,
    actor: str,
    action: str,
    subject: str = "",
    outcome: Literal["done", "refused"] = "done",
    peer: str | None = None,
    request_id: str | None = None,
    details: dict[str, Any] | None = None,
    now: datetime,
) -> None:
    """Write one entry in the session's transaction, so that it stands exactly when the change stands.

    actor: `user:<name>`, `api-key:<name>`, `worker:<id>`, `token:<name>`, `monitor` or `anonymous`.
    action: a dotted verb such as `worker.register`. subject: what it was done to, such as `worker:<id>`.
    request_id: taken from the request that is being served, unless given.
    details: plain JSON; whatever is named like a secret is blacked out.
    """
    audit_store.add(
        session,
        at=now,
        actor=_short(actor),
        action=action,
        subject=_short(subject),
        outcome=Outcome(outcome),
        peer=peer,
        request_id=request_id or structlog.contextvars.get_contextvars().get("request_id"),
        details=dict(redact(None, "", dict(details or {}))),
    )


def record_refusal(
    database: Database,
    *,
    actor: str,
    action: str,
    subject: str = "",
    peer: str | None = None,
    details: dict[str, Any] | None = None,
    now: datetime,
) -> None:
    """Write a refused attempt in a transaction of its own, after the refusal.

    The refusal stands even when the database does not answer; then the log has it alone.
    """
    try:
        with database.transaction() as session:
            record(
                session,
                actor=actor,
                action=action,
                subject=subject,
                outcome="refused",
                peer=peer,
                details=details,
                now=now,
            )
    except DatabaseUnavailable:
        log.warning("refusal not in the audit log", actor=actor, action=action, subject=subject, peer=peer)


def _short(text: str) -> str:
    """Make it storable: no NUL, which PostgreSQL refuses, no lone surrogates, and not too long."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()[:LONGEST]
