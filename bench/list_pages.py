"""How long a page of the list takes in PostgreSQL, and what stats and inventory cost."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import psycopg
from sqlalchemy import event
from sqlalchemy.orm import Session

from bench import postgresql
from bench.report import Options, Section, verdict
from control_api import schema
from control_api.db import Database
from control_api.workers import inventory, inventory_store, list_store, store
from control_api.workers.lifecycle import Intent, Moment, Rules, Status
from control_api.workers.listing import Label, Listing, Order, Sort
from control_api.workers.models import Watch

NOW = datetime(2026, 1, 1, tzinfo=UTC)
AT = Moment(NOW, Rules())
LOOKING = Watch(id=1, ticked_at=NOW, grace_until=NOW)
PAGES = {
    "first page": Listing(),
    **{f"by {sort}, {order}": Listing(sort=sort, order=order) for sort in Sort for order in Order},
    **{f"status {status}": Listing(statuses=(status,)) for status in Status},
    **{f"{status} by status": Listing(statuses=(status,), sort=Sort.STATUS) for status in Status},
    "INACTIVE by createdAt": Listing(statuses=(Status.INACTIVE,), sort=Sort.CREATED_AT),
    "ACTIVE by cpuCores": Listing(statuses=(Status.ACTIVE,), sort=Sort.CPU_CORES),
    "every status": Listing(statuses=tuple(Status)),
    "label, one in ten": Listing(labels=(Label("zone", "z3"),)),
    "label, one in a thousand": Listing(labels=(Label("rack", "r7"),)),
    "architecture, rare": Listing(architecture="riscv64"),
    "in maintenance": Listing(intent=Intent.MAINTENANCE),
    "search, two letters": Listing(search="ab"),
    "search, a name": Listing(search="node-c4ca4238a0b9"),
    "search, nobody": Listing(search="no-such-host"),
    "search, nobody by a letter": Listing(search="q"),
    "search, nobody by a letter, by status": Listing(search="q", sort=Sort.STATUS),
    "search, late in the order": Listing(search="node-f"),
}
FAR_DOWN = Listing(search="zone")
FILL = (
    """
    INSERT INTO workers (id, name, hostname, machine_id, ip_address, status, intent, epoch, cpu_cores, architecture,
                         total_memory_bytes, ssh_host_keys, labels, created_at, registered_at, updated_at)
    SELECT gen_random_uuid(), CASE WHEN md5(n::text) < '8' THEN 'node-' ELSE 'zone-' END || md5(n::text),
           'node-' || md5(n::text), md5('m' || n::text),
           '10.1.' || n / 256 || '.' || n %% 256,
           CASE n %% 1000 WHEN 1 THEN 'INACTIVE' WHEN 2 THEN 'NOT_READY' WHEN 3 THEN 'PENDING'
                         WHEN 4 THEN 'MAINTENANCE' ELSE 'ACTIVE' END,
           CASE n %% 1000 WHEN 4 THEN 'maintenance' ELSE 'active' END, 1, 1 + n %% 64,
           CASE n %% 2000 WHEN 7 THEN 'riscv64' ELSE 'amd64' END, n %% 500, '[]',
           jsonb_build_object('zone', 'z' || n %% 10, 'rack', 'r' || n %% 1000)
           || CASE WHEN n %% 5000 = 9 THEN '{"gpu": "yes"}'::jsonb ELSE '{}' END,
           CAST(%(now)s AS timestamptz) - n * interval '1 s', CAST(%(now)s AS timestamptz) - interval '1 h', %(now)s
    FROM generate_series(1, %(rows)s) AS n
    """,
    """
    INSERT INTO heartbeats (worker_id, seq, node_ready, left_at, received_at, joined_at)
    SELECT id, 1, status <> 'NOT_READY', CASE status WHEN 'INACTIVE' THEN updated_at END,
           updated_at, CASE WHEN status <> 'PENDING' THEN updated_at END
    FROM workers
    """,
    "UPDATE workers SET registered_at = %(now)s WHERE status = 'PENDING'",
    "INSERT INTO status_index SELECT id, hostname, status FROM workers",
    "VACUUM ANALYZE",
)


def fill(database: Database, rows: int, now: datetime) -> None:
    """Insert workers with their heartbeats as of `now`; one in a thousand has each of the rare statuses."""
    url = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(
        url, autocommit=True
    ) as connection:  # without the service's patience, which is short
        for statement in FILL:
            connection.execute(statement, {"rows": rows, "now": now} if "%(" in statement else None)


def milliseconds_in_database(session: Session, work: Callable[[], Any]) -> float:
    """Return what planning and running the statements of `work` take in the database."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    event.listen(session.get_bind(), "before_cursor_execute", note)
    work()
    event.remove(session.get_bind(), "before_cursor_execute", note)
    took = 0.0
    for statement, parameters in asked:
        explain = f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}"
        told = session.connection().exec_driver_sql(explain, parameters).scalar_one()[0]
        took += told["Planning Time"] + told["Execution Time"]
    return took


def _page_rows(session: Session, runs: int) -> Iterator[tuple[str, str, str]]:
    """Yield the median time of the first and of a later page of every list."""
    for name, wanted in PAGES.items():
        first = list_store.page(session, AT, LOOKING, wanted)
        later = _milliseconds(session, replace(wanted, after=first.after), runs) if first.after else None
        yield name, f"{_milliseconds(session, wanted, runs):.1f}", "-" if later is None else f"{later:.1f}"


def _milliseconds(session: Session, wanted: Listing, runs: int) -> float:
    page = partial(list_store.page, session, AT, LOOKING, wanted)
    return statistics.median(milliseconds_in_database(session, page) for _ in range(runs))


def _whole_rows(session: Session, runs: int) -> Iterator[tuple[str, str, str]]:
    """Yield what reads of a good part of the fleet take, in this process too."""

    def document() -> None:
        inventory.document(inventory_store.rows(session, AT)).close()

    for name, work in (
        ("stats", partial(store.tallies, session, AT)),
        ("search, half of the fleet, far down", partial(list_store.page, session, AT, LOOKING, FAR_DOWN)),
        ("inventory, 304", partial(inventory_store.fingerprint, session, AT)),
        ("inventory, whole", document),
    ):
        yield name, f"{statistics.median(_timed(work) for _ in range(runs)):.0f}", "-"


def _timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def run(options: Options) -> Section:
    """Fill a database and measure."""
    with postgresql.server() as server:
        database = Database(server.create("fleet"))
        schema.upgrade(database)
        fill(database, options.workers, NOW)
        with database.reading() as session:
            pages = list(_page_rows(session, options.runs))
            whole = list(_whole_rows(session, options.runs))
        database.close()
    slowest = max(float(time) for _, *times in pages for time in times if time != "-")
    return Section(
        "List pages",
        f"{options.workers:,} workers. A page is what EXPLAIN (ANALYZE) says of each of its statements, with planning; "
        f"reads of a good part of the fleet are what they take in the control API too. Medians of {options.runs} runs.",
        ("100 workers of", "first page, ms", "next page, ms"),
        [*pages, *whole],
        [verdict(f"the slowest page takes {slowest:.1f} ms in the database", "≤ 20 ms", slowest <= 20)],
    )
