"""Two control APIs on one database, loaded with the heartbeats of the same workers: does anybody see a deadlock?"""

from __future__ import annotations

import json
from collections import Counter

from bench import postgresql, service
from bench.report import Options, Section, verdict

DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'fleet'"


def run(options: Options) -> Section:
    """Load both for the whole time, over connections of their own, with all workers on both."""
    with options.directory() as directory, postgresql.server() as server:
        url = server.create("fleet")
        service.fill(url, options.workers)
        with service.api(url, directory) as one, service.api(url, directory) as other:
            clients = [
                service.Client(
                    "bench.closed_loop",
                    port=api.port,
                    kind=kind,
                    connections=min(options.connections, options.workers),
                    workers=options.workers,
                    warm_up=options.warm_up,
                    seconds=options.seconds,
                )
                for api, kind in ((one, "muster"), (other, "muster backwards"))
            ]
            told = [answer for client in clients for answer in client.answers()]
        deadlocks = int(server.query("fleet", DEADLOCKS)[0][0])
    statuses = sum((Counter(part["statuses"]) for part in told), Counter[str]())
    return _section(statuses, deadlocks, max(part["p99"] or 0.0 for part in told), options)


def _section(statuses: Counter[str], deadlocks: int, p99: float, options: Options) -> Section:
    failed = sum(count for status, count in statuses.items() if status.startswith("5"))
    other = {
        status: count
        for status, count in statuses.items()
        if status not in {"200", "409"} and status[0] != "5"
    }
    return Section(
        "Two processes",
        f"Two control APIs on one PostgreSQL for {options.seconds:g} s, closed loop over {options.connections} kept "
        "connections to each. "
        f"Both get the heartbeats of all {options.workers:,} workers, one in ascending order and one in descending. "
        "A heartbeat that a later one has overtaken in the other process is refused as out of order (409), rightly.",
        ("", "number"),
        [
            ("heartbeats stored (200)", f"{statuses['200']:,}"),
            ("refused as out of order (409)", f"{statuses['409']:,}"),
            ("answers 5xx", f"{failed:,}"),
            ("other answers", json.dumps(other) if other else "0"),
            ("deadlocks that PostgreSQL counted", f"{deadlocks:,}"),
            ("p99 ms", f"{p99 * 1e3:.1f}"),
        ],
        [
            verdict(
                f"{failed} answers 5xx, {deadlocks} deadlocks",
                "no deadlock reaches a client",
                failed == 0 and not other,
            )
        ],
    )
