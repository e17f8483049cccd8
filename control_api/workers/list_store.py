"""The list of workers, a page at a time: every order and every common filter has an index to walk along.

A filter by status takes its candidates from the hand-made index of recorded statuses and keeps those whose derived
status still is the wanted one. Between two looks of the monitor a worker may thus be missing, never wrong; when
the monitor has not looked lately, all workers are derived instead.

PostgreSQL guesses how many match a search or a label, believes that they are spread evenly over every order, and
would walk along it for as long as it takes. So a page is looked for where it should be if it is near the beginning; if
it is not there, all who match are found first and sorted then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

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
SEPARATORS = "-.:"  # of the words of a name or an address
WHOLE_TRIGRAM = 3  # letters
NEAR = 2000  # workers of the order among whom a label is looked for first
FEW = 500  # those whom a search looks at first, to learn how near its page is
MANY = 1 / 40  # of them, match: it is near


class Page(NamedTuple):
    """Some workers with their heartbeats, and where the next page begins; None when this is the last."""

    workers: Sequence[Worker]
    after: Position | None


class Stretch(NamedTuple):
    """A part of the list: workers that meet `conditions`, by the columns `order`; `keys` are those that differ."""

    order: Sequence[Any]
    keys: Sequence[Any]
    conditions: Sequence[ColumnElement[bool]]


def page(session: Session, at: Moment, watch: Watch | None, wanted: Listing) -> Page:
    """Return one page of the workers. session: of one moment; watch: what the monitor knows of itself."""
    recorded = _looks(watch, at)
    asked = _conditions(session, at, wanted, recorded=recorded)
    found: list[Worker] = []
    for stretch in _stretches(wanted, recorded=recorded):
        limit = wanted.limit + 1 - len(found)
        if wanted.search or wanted.labels:
            found += _load_each(session, _seek(session, wanted, stretch, asked, limit))
        elif recorded and _is_merged(wanted):
            found += _load(session, _merged(wanted, asked))
        else:
            found += _load(session, _walk(wanted, stretch, asked, limit))
        if len(found) > wanted.limit:
            return Page(found[:-1], _position(wanted.sort, found[-2]))
    return Page(found, None)


def _looks(watch: Watch | None, at: Moment) -> bool:
    """Say whether the recorded statuses are those of the last few seconds."""
    return watch is not None and abs(at.now - watch.ticked_at) <= LOOKED_LATELY


def _stretches(wanted: Listing, *, recorded: bool) -> Iterable[Stretch]:
    """Return what the list consists of from the position on; workers without a value come last, by themselves."""
    after = wanted.after
    if wanted.sort is Sort.STATUS and wanted.statuses and recorded:
        return _status_by_status(wanted)
    if wanted.sort is Sort.STATUS:
        order: list[Any] = [StatusIndex.status, StatusIndex.hostname]
        begins = None if after is None else _recorded(str(after.key))
        return [Stretch(order, order, [_beyond(order, begins, wanted.order)])]
    column = COLUMNS[wanted.sort]
    order = [column] if wanted.sort in UNIQUE else [column, Worker.id]
    values = None if after is None else [after.key, after.worker_id][: len(order)]
    if wanted.sort not in NULLABLE:
        return [Stretch(order, order, [_beyond(order, values, wanted.order)])]
    without = Stretch(order, [Worker.id], [column.is_(None)])
    if after is not None and after.key is None:
        beyond = _beyond([Worker.id], [after.worker_id], wanted.order)
        return [without._replace(conditions=[column.is_(None), beyond])]
    return [Stretch(order, order, [column.is_not(None), _beyond(order, values, wanted.order)]), without]


def _status_by_status(wanted: Listing) -> Iterator[Stretch]:
    """Yield a stretch for each wanted status: asked for several, PostgreSQL would sort all who have any of them."""
    key, after = StatusIndex.hostname, wanted.after
    begins = None if after is None else _recorded(str(after.key))
    for status in sorted(set(wanted.statuses), reverse=wanted.order is Order.DESC):
        values = None
        if begins is not None and status == begins[0]:
            values = begins[1:]
        elif begins is not None and (status < begins[0]) is (wanted.order is Order.ASC):
            continue
        yield Stretch([key], [key], [StatusIndex.status == status, _beyond([key], values, wanted.order)])


def _walk(wanted: Listing, stretch: Stretch, asked: Sequence[ColumnElement[bool]], limit: int) -> Select[Any]:
    """Walk along the index of the order; for the status that is the hand-made one: recorded status, then hostname."""
    query = _within(wanted, _workers(), stretch).where(*asked)
    return query.order_by(*_directed(stretch.order, wanted.order)).limit(limit)


def _seek(
    session: Session, wanted: Listing, stretch: Stretch, asked: Sequence[ColumnElement[bool]], limit: int
) -> Sequence[UUID]:
    """Look at as many of the order as a page should need; if they do not fill it, at all who match."""
    order = _directed(stretch.order, wanted.order)
    keyed = select(Worker.id, *(key.label(f"key_{number}") for number, key in enumerate(stretch.order)))
    everyone = _within(wanted, keyed, stretch).where(STANDING)

    def pick(among: Select[Any], *, apart: bool = False) -> Sequence[UUID]:
        """Return the first who match. apart: find all of them before any order is known."""
        every = among.join(Heartbeat, Heartbeat.worker_id == Worker.id) if wanted.statuses else among
        found = (every.where(*asked).offset(0) if apart else every.where(*asked)).subquery()
        first = select(found).order_by(*_directed(list(found.c)[1:], wanted.order)).limit(limit)
        return session.scalars(first).all()

    picked: Sequence[UUID] = []
    reach = NEAR
    if wanted.search:  # the index of trigrams is slow enough to ask a few workers first
        few = everyone.order_by(*order).limit(FEW).subquery()
        picked = pick(select(few).join(Worker, Worker.id == few.c.id))
        reach = 2 * FEW * limit // len(picked) if len(picked) > FEW * MANY else 0
    if reach and len(picked) < limit:
        ends = everyone.with_only_columns(*stretch.keys).order_by(*order)
        last = session.execute(ends.offset(reach).limit(1)).first()
        if last is not None:
            picked = pick(everyone.where(_up_to(stretch.keys, last, wanted.order)))
    return picked if len(picked) == limit else pick(everyone, apart=True)


def _within(wanted: Listing, query: Select[Any], stretch: Stretch) -> Select[Any]:
    if wanted.sort is Sort.STATUS:
        query = query.join(StatusIndex, StatusIndex.worker_id == Worker.id)
    return query.where(*stretch.conditions)


def _load(session: Session, query: Select[Any]) -> Sequence[Worker]:
    return session.scalars(query.options(contains_eager(Worker.heartbeat))).all()


def _load_each(session: Session, ids: Sequence[UUID]) -> Sequence[Worker]:
    """Load workers in this order."""
    workers = {worker.id: worker for worker in _load(session, _workers().where(Worker.id.in_(ids)))}
    return [workers[id_] for id_ in ids]


def _is_merged(wanted: Listing) -> bool:
    """Say whether each status is a walk of its own, where the recorded ones can be trusted."""
    return bool(wanted.statuses) and wanted.sort is Sort.HOSTNAME and not (wanted.search or wanted.labels)


def _merged(wanted: Listing, asked: Sequence[ColumnElement[bool]]) -> Select[Any]:
    """Take a page from each status, in the order of hostnames, and merge them."""
    key, values = StatusIndex.hostname, None if wanted.after is None else [wanted.after.key]

    def of(status: Status) -> Select[*tuple[Any, ...]]:
        query = select(StatusIndex.worker_id, key).join(Worker, Worker.id == StatusIndex.worker_id)
        query = query.join(Heartbeat).where(StatusIndex.status == status, *asked)
        return _first(query.where(_beyond([key], values, wanted.order)), key, wanted)

    every = union_all(*(select(of(status).subquery()) for status in sorted(set(wanted.statuses)))).subquery()
    picked = _first(select(every), every.c.hostname, wanted).subquery()
    query = _workers().join(picked, picked.c.worker_id == Worker.id)
    return query.order_by(*_directed([picked.c.hostname], wanted.order))


def _first(query: Select[*tuple[Any, ...]], key: Any, wanted: Listing) -> Select[*tuple[Any, ...]]:
    return query.order_by(*_directed([key], wanted.order)).limit(wanted.limit + 1)


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


def _conditions(
    session: Session, at: Moment, wanted: Listing, *, recorded: bool
) -> Sequence[ColumnElement[bool]]:
    conditions: list[Any] = [STANDING]
    if wanted.statuses:
        conditions.append(_has_status(at, wanted.statuses, recorded=recorded))
    if wanted.statuses and recorded and wanted.sort is not Sort.STATUS and not _is_merged(wanted):
        candidates = select(StatusIndex.worker_id).where(StatusIndex.status.in_(wanted.statuses))
        conditions.append(Worker.id.in_(candidates))
    if wanted.intent is not None:
        conditions.append(Worker.intent == wanted.intent)
    if wanted.architecture is not None:
        conditions.append(Worker.architecture == wanted.architecture)
    if wanted.node_state is not None:
        conditions.append(_has_node_state(at, wanted.node_state))
    conditions += [db.has_label(session, Worker.labels, key, value) for key, value in wanted.labels]
    if wanted.search:
        conditions.append(or_(*_matches(wanted.search)))
    return conditions


def _matches(text: str) -> Iterator[ColumnElement[bool]]:
    """Yield the conditions of a search; of less than three letters, pg_trgm knows only those that begin a word."""
    if not any(letter.isalnum() for letter in text):
        yield false()
        return
    for column in (Worker.hostname, Worker.name, Worker.ip_address):  # all of them in lower case
        if len(text) >= WHOLE_TRIGRAM or not text[0].isalnum():
            yield column.contains(text, autoescape=True)
        else:
            yield column.startswith(text, autoescape=True)
            yield from (column.contains(mark + text, autoescape=True) for mark in SEPARATORS)


def _has_node_state(at: Moment, state: NodeState) -> ColumnElement[bool]:
    if not at.knows_nodes:
        return true() if state is NodeState.UNKNOWN else false()
    return Worker.node_state.is_(None) if state is NodeState.UNKNOWN else Worker.node_state == state.value


def _workers() -> Select[Any]:
    return select(Worker).join(Worker.heartbeat)


def _directed(keys: Sequence[Any], order: Order) -> Sequence[Any]:
    return [key.asc() if order is Order.ASC else key.desc() for key in keys]


def _beyond(keys: Sequence[Any], values: Sequence[Any] | None, order: Order) -> ColumnElement[bool]:
    """Return the condition of what comes after `values` in this order."""
    if values is None:
        return true()
    left, right = _tuples(keys, values)
    beyond: ColumnElement[bool] = left > right if order is Order.ASC else left < right
    return beyond


def _up_to(keys: Sequence[Any], values: Sequence[Any], order: Order) -> ColumnElement[bool]:
    """Return the condition of what does not come after `values` in this order."""
    left, right = _tuples(keys, values)
    up_to: ColumnElement[bool] = left <= right if order is Order.ASC else left >= right
    return up_to


def _tuples(keys: Sequence[Any], values: Sequence[Any]) -> tuple[Any, Any]:
    return tuple_(*keys), tuple_(*values, types=[key.type for key in keys])


def _recorded(key: str) -> Sequence[Any]:
    status, hostname = key.split(" ", 1)
    return [Status(status), hostname]


def _position(sort: Sort, last: Worker) -> Position:
    key = f"{last.status} {last.hostname}" if sort is Sort.STATUS else getattr(last, COLUMNS[sort].key)
    return Position(key, last.id)
