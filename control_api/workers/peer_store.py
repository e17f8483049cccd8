"""The query behind the firewalls of the nodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from control_api.workers.models import STANDING, Worker


class Row(NamedTuple):
    """A standing worker: what its credential is checked by, and the addresses it named and was seen from."""

    id: UUID
    epoch: int
    approved: bool
    ip_address: str
    observed_address: str | None


def rows(session: Session) -> Iterator[Row]:
    """Yield every standing worker."""
    query = select(
        Worker.id, Worker.epoch, Worker.approved, Worker.ip_address, Worker.observed_address
    ).where(STANDING)
    return (Row(*row) for row in session.execute(query))
