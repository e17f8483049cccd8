"""How long a page of the list takes in PostgreSQL, and what stats and inventory cost: `python -m bench.list_pages`.

Starts a PostgreSQL server of its own, fills it with workers (100,000 unless told otherwise) and prints a table.
The time of a page is what EXPLAIN (ANALYZE) says of each of its statements, planning included.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import event
from sqlalchemy.orm import Session

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
    "search, late in the order": Listing(search="node-f"),
}
FILL = (
    """
    INSERT INTO workers (id, name, hostname, machine_id, ip_address, status, intent, epoch, cpu_cores, architecture,
                         total_memory_bytes, ssh_host_keys, labels, created_at, registered_at, updated_at)
    SELECT gen_random_uuid(), 'node-' || md5(n::text), 'node-' || md5(n::text), md5('m' || n::text),
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


@contextmanager
def server() -> Iterator[str]:
    """Run a PostgreSQL server of our own, as Debian configures it, and yield the URL of an empty database."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
    directory = Path(tempfile.mkdtemp(prefix="muster-bench-pg-"))
    become = []
    if os.getuid() == 0:  # the server refuses to be root
        shutil.chown(directory, "postgres", "postgres")
        become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]

    def run(*command: str) -> None:
        subprocess.run([*become, *command], check=True, capture_output=True, cwd=directory)

    data, options = str(directory / "data"), f"-k {directory} -c listen_addresses="
    run(str(programs / "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
    control = [str(programs / "pg_ctl"), "-D", data, "-w"]
    run(*control, "-l", str(directory / "log"), "-o", options, "start")
    try:
        yield f"postgresql://postgres@/postgres?host={directory}"
    finally:
        run(*control, "-m", "immediate", "stop")
        shutil.rmtree(directory)


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


def measure_pages(session: Session, runs: int) -> None:
    """Print the median time of the first and of a later page of every list."""
    print("| page of 100 | first, ms | next, ms |\n|---|---:|---:|")
    for name, wanted in PAGES.items():
        first = list_store.page(session, AT, LOOKING, wanted)
        lists = [wanted] + ([replace(wanted, after=first.after)] if first.after else [])
        times = []
        for each in lists:
            page = [milliseconds_in_database(session, lambda w=each: _page(session, w)) for _ in range(runs)]
            times.append(f"{statistics.median(page):.1f}")
        print(f"| {name} | {' | '.join([*times, '-'][:2])} |")


def _page(session: Session, wanted: Listing) -> None:
    list_store.page(session, AT, LOOKING, wanted)


def measure_whole_fleet(session: Session, runs: int) -> None:
    """Print what stats, the inventory's entity tag and the inventory itself take, and the memory of this process."""

    def tag() -> str:
        return inventory_store.fingerprint(session, AT)

    def document() -> int:
        file = inventory.document(inventory_store.rows(session, AT))
        size = file.tell()
        file.close()
        return size

    print("\n| whole fleet | ms |\n|---|---:|")
    for name, work in (("stats", lambda: store.tallies(session, AT)), ("inventory, 304", tag)):
        print(f"| {name} | {statistics.median(_timed(work) for _ in range(runs)):.0f} |")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took = _timed(document)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"| inventory, {document() / 2**20:.0f} MiB | {took:.0f} |")
    print(
        f"\nMemory of this process: {before / 1024:.0f} MiB before, {after / 1024:.0f} MiB after the inventory."
    )


def _timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def main() -> None:
    """Fill a database and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    asked = parser.parse_args()
    with server() as url:
        database = Database(url)
        schema.upgrade(database)
        fill(database, asked.workers, NOW)
        with database.reading() as session:
            measure_pages(session, asked.runs)
            measure_whole_fleet(session, asked.runs)
        database.close()


if __name__ == "__main__":
    main()
