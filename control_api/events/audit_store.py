"""Every query and every write on the audit log; there is no update."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import Session

from control_api.events.models import AuditEntry


def add(session: Session, **values: Any) -> None:
    """Append an entry."""
    session.execute(insert(AuditEntry).values(**values))
