"""What a worker does for itself, with its own credential."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from control_api.errors import InvalidCredential, WorkerNotFound, WorkerRemoved
from control_api.events.audit import ANONYMOUS

if TYPE_CHECKING:
    from uuid import UUID

    from control_api.service import Service
    from control_api.workers.credentials import Claim


@contextmanager
def credential(
    service: Service, token: str | None, worker_id: UUID, action: str, *, peer: str | None, now: datetime
) -> Iterator[Claim]:
    """Yield what the worker's credential claims; one that is refused, here or inside, is noted.

    Raises InvalidCredential.
    """
    claim = service.doors.credentials.check(token or "")
    try:
        yield _of(worker_id, claim)
    except (InvalidCredential, WorkerNotFound, WorkerRemoved) as exc:
        actor = f"worker:{claim.worker_id}" if claim else ANONYMOUS
        service.refusals.note(
            exc, actor=actor, action=action, subject=f"worker:{worker_id}", peer=peer, now=now
        )
        raise


def _of(worker_id: UUID, claim: Claim | None) -> Claim:
    if claim is None or claim.worker_id != worker_id:
        raise InvalidCredential
    return claim
