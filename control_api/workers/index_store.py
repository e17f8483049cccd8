"""The hand-made index of statuses is kept true, whoever changed a worker: processes of old versions do not know it."""

from __future__ import annotations

from sqlalchemy import and_, delete, or_, select
from sqlalchemy.orm import Session

from control_api.workers.models import StatusIndex, Worker
from control_api.workers.store import chunks, index_statuses


def repair(session: Session) -> int:
    """Bring what is wrong in the index up to date; return how many workers that were.

    Who is being changed at this moment is left to whoever changes it, or to the next time: nobody waits.
    """
    stands, gone = Worker.removed_at.is_(None), Worker.removed_at.is_not(None)
    missing, there = StatusIndex.worker_id.is_(None), StatusIndex.worker_id.is_not(None)
    differs = or_(StatusIndex.status != Worker.status, StatusIndex.hostname != Worker.hostname)
    query = (
        select(Worker.id)
        .outerjoin(StatusIndex, StatusIndex.worker_id == Worker.id)
        .where(or_(and_(stands, or_(missing, differs)), and_(gone, there)))
        .with_for_update(of=Worker, skip_locked=True)
    )
    wrong = session.scalars(query).all()
    for chunk in chunks(wrong):
        removed = select(Worker.id).where(Worker.id.in_(chunk), gone)
        session.execute(delete(StatusIndex).where(StatusIndex.worker_id.in_(removed)))
    index_statuses(session, wrong)
    return len(wrong)
