"""Reading what the pages show: one transaction a page, with whoever looks at it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from control_api.dashboard import fleet_view, worker_view
from control_api.dashboard.fleet_view import Fleet
from control_api.dashboard.view import Doubts
from control_api.dashboard.worker_view import Worker
from control_api.errors import WorkerNotFound
from control_api.identity.callers import Caller
from control_api.identity.roles import Role
from control_api.service import Service
from control_api.workers import list_store, listing, store, wire
from control_api.workers.lifecycle import Moment
from control_api.workers.models import Watch

if TYPE_CHECKING:
    from sqlalchemy.orm import Session  # opaque here: the queries are in store

PAGE = 100  # workers
HISTORY = 50  # transitions


def fleet(session: Session, service: Service, asked: wire.ListQuery, now: datetime) -> Fleet:
    """Return the fleet page. Raises InvalidRequest."""
    at = store.moment(session, now, service.settings.rules)
    watch = store.watch(session)
    wanted = asked.model_copy(update={"limit": PAGE}).listing()
    found = list_store.page(session, at, watch, wanted)
    following = listing.cursor(wanted.sort, wanted.order, found.after) if found.after else None
    return fleet_view.fleet(
        asked,
        [wire.view(worker, at) for worker in found.workers],
        service.sums.get(lambda: wire.stats(store.tallies(session, at), at, service.cluster is not None)),
        _doubts(service, watch, at),
        at,
        next_cursor=following,
    )


def worker(session: Session, service: Service, worker_id: UUID, caller: Caller, now: datetime) -> Worker:
    """Return the page of one worker, as this caller may see it. Raises WorkerNotFound."""
    at = store.moment(session, now, service.settings.rules)
    watch = store.watch(session)
    found = store.worker(session, worker_id)
    if found is None or found.removed_at is not None:
        raise WorkerNotFound
    history = [wire.transition_view(one) for one in store.transitions(session, worker_id, HISTORY)]
    seen = wire.view(found, at)
    return worker_view.worker(
        seen, history, _doubts(service, watch, at), at, may_operate=caller.may(Role.OPERATOR)
    )


def _doubts(service: Service, watch: Watch | None, at: Moment) -> Doubts:
    return Doubts(
        ticked_at=watch.ticked_at if watch else None,
        degraded=tuple(service.degraded.names()),
        nodes_expected=service.cluster is not None,
        nodes_known=at.knows_nodes,
    )
