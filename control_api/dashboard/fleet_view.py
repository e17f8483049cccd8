"""What the fleet page shows: pure functions from workers and a moment to values that templates only print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from control_api.dashboard import query
from control_api.dashboard.view import Badge, Doubts, Notice, Row, badge, notices, row
from control_api.dashboard.words import Gauge, gauge, plural, share, size
from control_api.workers.lifecycle import Moment, Status
from control_api.workers.listing import Order, Sort
from control_api.workers.wire import ListQuery, Stats, WorkerView

TILES = (Status.ACTIVE, Status.NOT_READY, Status.INACTIVE, Status.PENDING, Status.MAINTENANCE)
COLUMNS: tuple[tuple[str, str, Sort | None], ...] = (
    ("worker", "Worker", Sort.HOSTNAME),
    ("status", "Status", Sort.STATUS),
    ("heartbeat", "Heartbeat", None),
    ("node", "Node", None),
    ("cpu", "CPU", Sort.CPU_CORES),
    ("memory", "Memory", Sort.TOTAL_MEMORY_BYTES),
    ("disk", "Disk", Sort.TOTAL_STORAGE_BYTES),
    ("pods", "Pods", None),
)


@dataclass(frozen=True)
class Tile:
    """The count of a status, and the link that filters by it; the link of the current one takes the filter away."""

    badge: Badge
    count: str
    href: str
    is_current: bool


@dataclass(frozen=True)
class Total:
    """What the fleet has of something, and how much of it is used."""

    label: str
    gauge: Gauge


@dataclass(frozen=True)
class Column:
    """A column's head: the link sorts by it; `sorted` is ascending, descending or none."""

    key: str
    label: str
    href: str | None
    sorted: str


@dataclass(frozen=True)
class Fleet:
    """The fleet page."""

    search: str
    hidden: tuple[tuple[str, str], ...]
    tiles: tuple[Tile, ...]
    totals: tuple[Total, ...]
    notices: tuple[Notice, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    found: str
    first_href: str | None
    next_href: str | None
    is_filtered: bool
    is_empty: bool


def fleet(
    asked: ListQuery,
    workers: Sequence[WorkerView],
    stats: Stats,
    doubts: Doubts,
    at: Moment,
    *,
    next_cursor: str | None,
) -> Fleet:
    """Return the fleet page. workers: those of this page; next_cursor: where the next one begins."""
    return Fleet(
        search=asked.search,
        hidden=query.pairs(asked, without=("search", "cursor")),
        tiles=tuple(_tile(status, stats.by_status.get(status, 0), asked) for status in TILES),
        totals=_totals(stats),
        notices=notices(doubts, at),
        columns=tuple(_column(*column, asked) for column in COLUMNS),
        rows=tuple(row(worker, at.now) for worker in workers),
        found=_found(asked, len(workers), stats),
        first_href=query.href(asked) if asked.cursor else None,
        next_href=query.href(asked, cursor=next_cursor) if next_cursor else None,
        is_filtered=query.is_filtered(asked),
        is_empty=stats.total == 0,
    )


def _tile(status: Status, count: int, asked: ListQuery) -> Tile:
    is_current = status in asked.status
    others = [one for one in asked.status if one is not status]
    href = query.href(asked, status=others if is_current else [*others, status])
    return Tile(badge(status), f"{count:,}", href, is_current)


def _totals(stats: Stats) -> tuple[Total, ...]:
    cpu, memory, storage, pods = stats.cpu_cores, stats.memory_bytes, stats.storage_bytes, stats.pods
    return (
        Total("CPU", gauge(share(cpu.used, cpu.total), f"{cpu.used:,.1f} of {plural(cpu.total, 'core')}")),
        Total(
            "Memory", gauge(share(memory.used, memory.total), f"{size(memory.used)} of {size(memory.total)}")
        ),
        Total(
            "Disk",
            gauge(share(storage.used, storage.total), f"{size(storage.used)} of {size(storage.total)}"),
        ),
        Total("Pods", gauge(share(pods.current, pods.capacity), _of(pods.current, pods.capacity))),
    )


def _of(current: int, capacity: int) -> str:
    return f"{current:,} of {capacity:,}" if capacity else f"{current:,}"


def _column(key: str, label: str, sort: Sort | None, asked: ListQuery) -> Column:
    if sort is None:
        return Column(key, label, None, "none")
    up = Column(key, label, query.href(asked, sort=sort, order=Order.ASC), "none")
    down = query.href(asked, sort=sort, order=Order.DESC)
    if asked.sort is not sort:
        return up
    is_up = asked.order is Order.ASC
    return replace(up, href=down, sorted="ascending") if is_up else replace(up, sorted="descending")


def _found(asked: ListQuery, shown: int, stats: Stats) -> str:
    """Say how many there are in the list; a search does not count them, so there it says how many are shown."""
    if not query.is_filtered(asked):
        return plural(stats.total, "worker")
    if query.is_counted(asked):
        shown = sum(stats.by_status.get(status, 0) for status in set(asked.status))
        return f"{shown:,} of {plural(stats.total, 'worker')}"
    return f"{plural(shown, 'worker')} on this page"
