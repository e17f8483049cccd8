"""The list of workers, a page at a time: every order and every common filter has an index to walk along.

A filter by status takes its candidates from the hand-made index of recorded statuses and keeps those whose derived
status still is the wanted one. Between two looks of the monitor a worker may thus be missing, never wrong; when
the monitor has not looked lately, all workers are derived instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, false, or_, select, true, tuple_, union_all
from sqlalchemy.orm import Session, contains_eager

from control_api import db
from control_api.workers import lifecycle_store
from control_api.workers.lifecycle import Moment, Status
from control_api.workers.listing import NULLABLE, Listing, NodeState, Order, Position, Sort
from control_api.workers.models import STANDING, Heartbeat, StatusIndex, Watch, Worker

LOOKED_LATELY = timedelta(seconds=15)  # three ticks: later than that, the monitor counts as stuck
COLUMNS: dict[Sort, Any] = {
    Sort.HOSTNAME: Worker.hostname,
    Sort.NAME: Worker.name,
    Sort.CREATED_AT: Worker.created_at,
    Sort.CPU_CORES: Worker.cpu_cores,
    Sort.TOTAL_MEMORY_BYTES: Worker.total_memory_bytes,
    Sort.TOTAL_STORAGE_BYTES: Worker.total_storage_bytes,
}
UNIQUE = (Sort.HOSTNAME, Sort.NAME)


class Page(NamedTuple):
    """Some workers with their heartbeats, and where the next page begins; None when this is the last."""

    workers: Sequence[Worker]
    after: Position | None


def page(session: Session, at: Moment, watch: Watch | None, wanted: Listing) -> Page:
    """Return one page of the workers. watch: what the monitor knows of itself."""
    parts = _parts(session, at, wanted, recorded=_looks(watch, at))
    found: list[Worker] = []
    for part in parts:
        query = part.limit(wanted.limit + 1 - len(found))
        found += session.scalars(query.options(contains_eager(Worker.heartbeat))).all()
        if len(found) > wanted.limit:
            return Page(found[:-1], _position(wanted.sort, found[-2]))
    return Page(found, None)


def _looks(watch: Watch | None, at: Moment) -> bool:
    """Say whether the recorded statuses are those of the last few seconds."""
    return watch is not None and abs(at.now - watch.ticked_at) <= LOOKED_LATELY


def _parts(session: Session, at: Moment, wanted: Listing, *, recorded: bool) -> Iterable[Select[Any]]:
    """Return the queries whose results, one after the other, are the list from the position on."""
    conditions = _conditions(session, at, wanted)
    if wanted.statuses:
        conditions.append(_has_status(at, wanted.statuses, recorded=recorded))
    if wanted.sort is Sort.STATUS:
        return [_by_status(wanted, conditions)]
    if wanted.statuses and recorded and wanted.sort is Sort.HOSTNAME:
        return [_merged(wanted, conditions)]
    if wanted.statuses and recorded:
        candidates = select(StatusIndex.worker_id).where(StatusIndex.status.in_(wanted.statuses))
        conditions.append(Worker.id.in_(candidates))
    return _by_column(wanted, conditions)


def _by_column(wanted: Listing, conditions: list[ColumnElement[bool]]) -> Iterable[Select[Any]]:
    """Walk along the column's index; workers without a value come last, in a query of their own."""
    column = COLUMNS[wanted.sort]
    keys = [column] if wanted.sort in UNIQUE else [column, Worker.id]
    base = _workers().where(*conditions).order_by(*(_directed(key, wanted.order) for key in keys))
    after = wanted.after
    values = None if after is None else [after.key, after.worker_id][: len(keys)]
    if wanted.sort not in NULLABLE:
        return [base.where(_beyond(keys, values, wanted.order))]
    without = base.where(column.is_(None))
    if after is not None and after.key is None:
        return [without.where(_beyond([Worker.id], [after.worker_id], wanted.order))]
    return [base.where(column.is_not(None), _beyond(keys, values, wanted.order)), without]


def _by_status(wanted: Listing, conditions: list[ColumnElement[bool]]) -> Select[Any]:
    """Walk along the hand-made index: by recorded status, then by hostname."""
    keys = [StatusIndex.status, StatusIndex.hostname]
    values = None
    if wanted.after is not None:
        status, hostname = str(wanted.after.key).split(" ", 1)
        values = [Status(status), hostname]
    query = _workers().join(StatusIndex, StatusIndex.worker_id == Worker.id)
    query = query.where(*conditions, _beyond(keys, values, wanted.order))
    return query.order_by(*(_directed(key, wanted.order) for key in keys))


def _merged(wanted: Listing, conditions: list[ColumnElement[bool]]) -> Select[Any]:
    """Take a page from each status, in the order of hostnames, and merge them."""
    key, values = StatusIndex.hostname, None if wanted.after is None else [wanted.after.key]

    def of(status: Status) -> Select[*tuple[Any, ...]]:
        query = select(StatusIndex.worker_id, key).join(Worker, Worker.id == StatusIndex.worker_id)
        query = query.join(Heartbeat).where(StatusIndex.status == status, *conditions)
        return _first(query.where(_beyond([key], values, wanted.order)), key, wanted)

    every = union_all(*(select(of(status).subquery()) for status in sorted(set(wanted.statuses)))).subquery()
    picked = _first(select(every), every.c.hostname, wanted).subquery()
    query = _workers().join(picked, picked.c.worker_id == Worker.id)
    return query.order_by(_directed(picked.c.hostname, wanted.order))


def _first(query: Select[*tuple[Any, ...]], key: Any, wanted: Listing) -> Select[*tuple[Any, ...]]:
    return query.order_by(_directed(key, wanted.order)).limit(wanted.limit + 1)


def _has_status(at: Moment, statuses: Iterable[Status], *, recorded: bool) -> ColumnElement[bool]:
    """Return the condition on the derived status.

    recorded: the candidates are recorded so, hence few are to be dropped. PostgreSQL takes a condition on an
    expression for one that nearly no row meets, and would read them all; of its contrary it thinks the contrary.
    """
    if recorded:
        return lifecycle_store.status(at).not_in(
            [status.value for status in Status if status not in statuses]
        )
    return lifecycle_store.status(at).in_([status.value for status in statuses])


def _conditions(session: Session, at: Moment, wanted: Listing) -> list[ColumnElement[bool]]:
    conditions: list[Any] = [STANDING]
    if wanted.intent is not None:
        conditions.append(Worker.intent == wanted.intent)
    if wanted.architecture is not None:
        conditions.append(Worker.architecture == wanted.architecture)
    if wanted.node_state is not None:
        conditions.append(_has_node_state(at, wanted.node_state))
    conditions += [db.has_label(session, Worker.labels, key, value) for key, value in wanted.labels]
    if wanted.search:
        columns = (Worker.hostname, Worker.name, Worker.ip_address)  # all of them in lower case
        conditions.append(or_(*(column.contains(wanted.search, autoescape=True) for column in columns)))
    return conditions


def _has_node_state(at: Moment, state: NodeState) -> ColumnElement[bool]:
    if not at.knows_nodes:
        return true() if state is NodeState.UNKNOWN else false()
    return Worker.node_state.is_(None) if state is NodeState.UNKNOWN else Worker.node_state == state.value


def _workers() -> Select[Any]:
    return select(Worker).join(Worker.heartbeat)


def _directed(key: Any, order: Order) -> Any:
    return key.asc() if order is Order.ASC else key.desc()


def _beyond(keys: Sequence[Any], values: Sequence[Any] | None, order: Order) -> ColumnElement[bool]:
    """Return the condition of what comes after `values` in this order."""
    if values is None:
        return true()
    left = tuple_(*keys)
    right = tuple_(*values, types=[key.type for key in keys])
    return left > right if order is Order.ASC else left < right


def _position(sort: Sort, last: Worker) -> Position:
    key = f"{last.status} {last.hostname}" if sort is Sort.STATUS else getattr(last, COLUMNS[sort].key)
    return Position(key, last.id)
