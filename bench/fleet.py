"""A whole fleet that beats every half minute over kept TLS connections, through nginx, while others read."""

from __future__ import annotations

import math
import resource
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from http.client import HTTPSConnection
from pathlib import Path
from ssl import create_default_context

from bench import postgresql, proxy, service
from bench.machine import cpu_seconds, memory_mib
from bench.report import Options, Section, verdict

INTERVAL = 30.0
CONNECTS = 400  # a second: every one is a TLS handshake, of which a slow machine has to do both halves
A_PROCESS = (
    14_000  # connections of one process and address; with half of the ports taken, finding one takes long
)
STARTING = 4  # seconds until the programs that play the workers are under way
INVENTORY_PAUSE = 10  # seconds
WHOLE = 6  # every so many inventories, one whole and not only when it has changed
SIZE = """
SELECT pg_total_relation_size(relid), n_tup_upd, n_tup_hot_upd, n_dead_tup
FROM pg_stat_user_tables WHERE relname = 'heartbeats'
"""
MOVED = "SELECT count(*) FROM transitions"


@dataclass
class Reader:
    """An operator's screen and a controller: polls list, statistics and inventory over a kept connection."""

    port: int
    certificate: Path
    token: str
    stop: threading.Event = field(default_factory=threading.Event)
    waits: dict[str, list[float]] = field(default_factory=dict)
    statuses: Counter[str] = field(default_factory=Counter)
    etag: str = ""

    def run(self) -> None:
        """Poll until told to stop: list and statistics every second, the inventory every ten."""
        context = create_default_context(cafile=str(self.certificate))
        connection = HTTPSConnection("127.0.0.1", self.port, timeout=60, context=context)
        for second in range(10**9):
            due = time.monotonic() + 1
            self._get(connection, "list", "/api/workers?limit=100")
            self._get(connection, "stats", "/api/workers/stats")
            if second % INVENTORY_PAUSE == 0:
                whole = second % (INVENTORY_PAUSE * WHOLE) == 0
                self._get(
                    connection, "inventory, whole" if whole else "inventory, If-None-Match", "/api/inventory"
                )
            if self.stop.wait(max(0.0, due - time.monotonic())):
                break
        connection.close()

    def _get(self, connection: HTTPSConnection, name: str, path: str) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        if name.endswith("Match") and self.etag:
            headers["If-None-Match"] = self.etag
        began = time.monotonic()
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        self.waits.setdefault(name, []).append(time.monotonic() - began)
        self.statuses[f"{name}: {answer.status}"] += 1
        self.etag = answer.headers.get("ETag", self.etag)


@dataclass(frozen=True)
class Found:
    """What the run showed. cpu: share of one CPU, by who used it."""

    connections: int
    statuses: Counter[str]
    tenths: Counter[int]
    reconnected: int
    cpu: dict[str, float]
    memory: float
    proxy_memory: float
    table: tuple[int, int]
    hot: float
    dead: int
    transitions: int
    reader: Reader


def run(options: Options) -> Section:
    """Build everything, connect everyone, measure."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    processes = max(2, -(-options.workers // A_PROCESS))
    ramp = _ramp(options)
    with options.directory() as directory, postgresql.server() as server:
        url = server.create("fleet")
        # As if all had been heard when the last one connects, so that nobody is late before having connected.
        service.fill(url, options.workers, heard=-timedelta(seconds=ramp))
        with (
            service.api(url, directory) as api,
            proxy.proxy(api.port, directory, processes=processes) as front,
        ):
            found = _measure(server, api, front, processes, ramp, options)
    return _section(found, processes, options)


def _ramp(options: Options) -> float:
    """Return the seconds in which everybody connects."""
    ramp = options.workers / CONNECTS
    # Of whole intervals the beats are spread evenly.
    return INTERVAL * math.ceil(ramp / INTERVAL) if options.seconds >= INTERVAL else ramp


def _measure(
    server: postgresql.Server,
    api: service.Api,
    front: proxy.Proxy,
    processes: int,
    ramp: float,
    options: Options,
) -> Found:
    begin = time.monotonic() + ramp + min(INTERVAL, options.seconds) + STARTING
    clients = [
        service.Client(
            "bench.kept",
            port=front.port,
            certificate=str(front.certificate),
            source=f"127.0.1.{number + 1}",
            first=number,
            last=options.workers,
            step=processes,
            interval=INTERVAL,
            ramp=ramp,
            begin=begin,
            seconds=options.seconds,
        )
        for number in range(processes)
    ]
    reader = Reader(front.port, front.certificate, api.login())
    polling = threading.Thread(target=reader.run, daemon=True)
    time.sleep(max(0.0, begin - time.monotonic()))
    polling.start()
    roots = {"control API": [api.pid], "PostgreSQL": [server.pid], "nginx": [front.pid]}
    roots["clients"] = [client.pid for client in clients]
    before = {name: cpu_seconds(*pids) for name, pids in roots.items()}
    table, updates, hot, _ = server.query("fleet", SIZE)[0]
    moved = server.query("fleet", MOVED)[0][0]
    memory = proxy_memory = 0.0
    while time.monotonic() < begin + options.seconds:
        memory = max(memory, memory_mib(api.pid))
        proxy_memory = max(proxy_memory, memory_mib(front.pid))
        time.sleep(min(1.0, max(0.0, begin + options.seconds - time.monotonic())))
    spent = {name: (cpu_seconds(*pids) - before[name]) / options.seconds for name, pids in roots.items()}
    told = [answer for client in clients for answer in client.answers()]
    if len(told) < len(clients):
        raise SystemExit("fleet: some of the workers gave up, the lines above say why.")
    reader.stop.set()
    polling.join(60)
    after, updates_after, hot_after, dead = server.query("fleet", SIZE)[0]
    return Found(
        connections=sum(part["connections"] for part in told),
        statuses=sum((Counter(part["statuses"]) for part in told), Counter()),
        tenths=sum((Counter({int(at): n for at, n in part["tenths"].items()}) for part in told), Counter()),
        reconnected=sum(part["reconnected"] for part in told),
        cpu=spent,
        memory=memory,
        proxy_memory=proxy_memory,
        table=(table, after),
        hot=(hot_after - hot) / max(1, updates_after - updates),
        dead=dead,
        transitions=server.query("fleet", MOVED)[0][0] - moved,
        reader=reader,
    )


def _section(found: Found, processes: int, options: Options) -> Section:
    answered, p99 = found.statuses["200"], percentile(found.tenths, 0.99)
    other = {status: count for status, count in found.statuses.items() if status != "200"}
    rate, wanted = answered / options.seconds, options.workers / INTERVAL
    growth = found.table[1] / found.table[0]
    cpu = ", ".join(f"{name} {share:.0%}" for name, share in found.cpu.items())
    rows = [
        ("connections kept open by the fleet, TLS, all at once", f"{found.connections:,}"),
        ("connected again during the run", f"{found.reconnected:,}"),
        ("heartbeats stored a second", f"{rate:,.0f} of {wanted:,.0f}"),
        ("other answers", str(other or 0)),
        *(
            (f"answer to a heartbeat, p{share:g}", f"{percentile(found.tenths, share / 100):.1f} ms")
            for share in (50, 90, 99, 99.9)
        ),
        ("the slowest", f"{max(found.tenths, default=0) / 10:.0f} ms"),
        *(_polled(name, waits) for name, waits in found.reader.waits.items()),
        (
            "answers to those who read",
            ", ".join(f"{what} × {count}" for what, count in sorted(found.reader.statuses.items())),
        ),
        ("memory of the control API, highest", f"{found.memory:.0f} MiB"),
        ("memory of nginx, all processes, highest", f"{found.proxy_memory:.0f} MiB"),
        ("CPU, of one core", cpu),
        (
            "table of heartbeats with its index, before → after",
            f"{found.table[0] / 2**20:.1f} → {found.table[1] / 2**20:.1f} MiB",
        ),
        ("updates that were HOT", f"{found.hot:.2%}"),
        ("dead rows at the end", f"{found.dead:,}"),
        ("changes of status during the run", f"{found.transitions:,}"),
    ]
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return Section(
        "Fleet",
        f"{options.workers:,} registered workers, each with a connection of its own and a heartbeat every "
        f"{INTERVAL:g} s for {options.seconds:g} s, through nginx with TLS as the role `nginx` renders it, "
        f"but for its address and {processes} processes instead of one a CPU: here a process may open {files:,} files. "
        "One control API. "
        "Meanwhile list and statistics are read every second, the inventory every ten. The clients, with their half of "
        "the TLS, are on the same CPUs.",
        ("", "found"),
        rows,
        [
            verdict(
                f"{rate:,.0f} heartbeats/s, other answers: {other or 'none'}",
                f"{wanted:,.0f}/s",
                rate >= wanted * 0.999 and not other,
            ),
            verdict(f"p99 {p99:.1f} ms", "≤ 25 ms", p99 <= 25),
            verdict(f"memory {found.memory:.0f} MiB", "≤ 300 MiB", found.memory <= 300),
            verdict(
                f"the table is {growth:.2f} × what it was, {found.hot:.2%} HOT",
                "bounded: ≤ 1.5 ×",
                growth <= 1.5,
            ),
        ],
    )


def percentile(tenths: Counter[int], share: float) -> float:
    """Return the milliseconds that this share of the answers does not exceed."""
    left = share * sum(tenths.values())
    for tenth in sorted(tenths):
        left -= tenths[tenth]
        if left <= 0:
            return (tenth + 1) / 10
    return float("nan")


def _polled(name: str, waits: list[float]) -> tuple[str, str]:
    ordered = sorted(waits)
    return f"{name}, p50 / slowest", f"{ordered[len(ordered) // 2] * 1e3:.0f} / {ordered[-1] * 1e3:.0f} ms"
