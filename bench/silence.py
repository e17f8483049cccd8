"""How long the monitor takes to record that the whole fleet has fallen silent."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from statistics import median

from bench import postgresql, service
from bench.report import Options, Section, verdict
from control_api.db import Database, utc_now
from control_api.serving import spare_collections
from control_api.workers.lifecycle import Rules
from control_api.workers.monitor import Caution, Monitor

CAUTION = Caution(tick=timedelta(seconds=5), interval=timedelta(seconds=30))
GOAL = 3.0
LONGEST = timedelta(minutes=30)  # a monitor that has not judged by then never will


class Hours:
    """A clock that the measurement moves, so that graces and holds pass at once."""

    def __init__(self) -> None:
        self.passed = timedelta(0)
        self._began = utc_now()

    def now(self) -> datetime:
        return (self._began + self.passed).astimezone(UTC)

    def monotonic(self) -> float:
        return self.passed.total_seconds()


def run(options: Options) -> Section:
    """Let the fleet fall silent, several times over, each time in a fresh database."""
    spare_collections()  # as the service does
    with postgresql.server() as server:
        ticks = [
            _silence(server, server.create(f"run_{number}"), options.workers)
            for number in range(options.runs)
        ]
    whole, idle = (median(seconds) for seconds in zip(*ticks, strict=True))
    return Section(
        "Silence",
        f"{options.workers:,} ACTIVE workers stop at once; the monitor's own tick on PostgreSQL, once its graces are "
        f"over, with a clock that is moved. Medians of {options.runs} runs.",
        ("tick", "seconds"),
        [
            (
                f"{options.workers:,} workers ACTIVE → INACTIVE, {options.workers:,} transitions written",
                f"{whole:.2f}",
            ),
            ("the next one, nothing to record", f"{idle:.2f}"),
        ],
        [verdict(f"{whole:.2f} s", f"≤ {GOAL:g} s", whole <= GOAL)],
    )


def _silence(server: postgresql.Server, url: str, workers: int) -> tuple[float, float]:
    """Return the seconds of the tick that records it all, and of the one after it."""
    service.fill(url, workers)
    database, hours = Database(url), Hours()
    monitor = Monitor(database, rules=Rules(), caution=CAUTION, clock=hours.now, monotonic=hours.monotonic)
    name = str(database.url.database)
    try:
        while True:
            took = _tick(monitor)
            written = server.query(name, "SELECT count(*) FROM transitions WHERE to_status = 'INACTIVE'")[0][
                0
            ]
            if written == workers:
                return took, _tick(monitor)
            if written or hours.passed > LONGEST:
                raise SystemExit(f"silence: {written} of {workers} were recorded after {hours.passed}")
            hours.passed += CAUTION.tick
    finally:
        monitor.stop()
        database.close()


def _tick(monitor: Monitor) -> float:
    began = time.perf_counter()
    monitor.tick()
    return time.perf_counter() - began
