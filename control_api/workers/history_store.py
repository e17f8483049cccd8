"""What the history holds besides changes of status: removals, and notes of the monitor."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import insert
from sqlalchemy.orm import Session

from control_api import db
from control_api.workers.lifecycle import Status
from control_api.workers.models import Transition


def record_removal(
    session: Session,
    worker_id: UUID,
    last: Status | None,
    *,
    reason: str,
    actor: str,
    now: datetime,
) -> None:
    """Write the transition with which a worker goes: from its last status to none."""
    db.announce(session)
    values = {"worker_id": worker_id, "from_status": last, "reason": reason, "actor": actor, "at": now}
    session.execute(insert(Transition).values(**values, evidence={}))


def record_note(session: Session, note: str, *, evidence: dict[str, Any], now: datetime) -> None:
    """Write what the monitor has to say of the whole fleet, such as `mass silence`."""
    db.announce(session)
    values = {"reason": note, "actor": "monitor", "evidence": evidence, "at": now}
    session.execute(insert(Transition).values(**values))
