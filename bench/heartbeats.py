"""Durable heartbeats per CPU-second: ours, the plan's own design, and ours without persisting."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench import postgresql, service
from bench.machine import cpu_seconds, free_port, process, wait_for_port
from bench.report import Options, Section, verdict

BASELINE = Path(__file__).parent / "baseline"
HEAD = (
    "",
    "heartbeats/s",
    "CPU µs, server",
    "CPU µs, PostgreSQL",
    "CPU µs, client",
    "heartbeats per CPU-second",
    "p50 ms",
    "p99 ms",
)
KINDS = ("the plan: Express, Prisma, find then update", "Muster", "Muster, storing nothing")


class Rate(NamedTuple):
    """What one server did in one run. server, database, client: their CPU-seconds, a heartbeat."""

    per_second: float
    server: float
    database: float
    client: float
    p50: float
    p99: float

    @property
    def cpu(self) -> float:
        """CPU-seconds of a heartbeat that is durable: of the server and of PostgreSQL."""
        return self.server + self.database


@dataclass(frozen=True)
class Target:
    """A server that takes heartbeats, and what its clients look like."""

    pid: int
    port: int
    kind: str


def run(options: Options) -> Section:
    """Measure the three in turn, several times over."""
    rates: dict[str, list[Rate]] = {kind: [] for kind in KINDS}
    with options.directory() as directory, postgresql.server() as server:
        for number in range(options.runs):
            for kind in KINDS:
                with _target(
                    kind, server, f"run_{number}_{KINDS.index(kind)}", options.workers, directory
                ) as target:
                    rates[kind].append(measure(server, target, options))
    return _section(rates, options)


def measure(server: postgresql.Server, target: Target, options: Options) -> Rate:
    """Load the target with a closed loop and return what it did."""
    client = service.Client(
        "bench.closed_loop",
        port=target.port,
        kind=target.kind,
        connections=min(options.connections, options.workers),
        workers=options.workers,
        warm_up=options.warm_up,
        seconds=options.seconds,
    )
    client.answer()
    roots = (target.pid, server.pid, client.pid)
    before = [cpu_seconds(pid) for pid in roots]
    told = client.answer()
    after = [cpu_seconds(pid) for pid in roots]
    client.answers()
    answered = sum(told["statuses"].values())
    if set(told["statuses"]) != {"200"}:
        raise SystemExit(f"{target.kind}: not every heartbeat was accepted: {told['statuses']}")
    spent = [(end - start) / answered for start, end in zip(before, after, strict=True)]
    return Rate(answered / options.seconds, spent[0], spent[1], spent[2], told["p50"], told["p99"])


@contextmanager
def _target(
    kind: str, server: postgresql.Server, database: str, workers: int, directory: Path
) -> Iterator[Target]:
    url = server.create(database)
    if kind == KINDS[0]:
        with _baseline(url, workers, directory) as target:
            yield target
        return
    service.fill(url, workers)
    program = "control_api.cli" if kind == KINDS[1] else "bench.instant"
    with service.api(url, directory, program=program) as api:
        yield Target(api.pid, api.port, "muster")


@contextmanager
def _baseline(url: str, workers: int, directory: Path) -> Iterator[Target]:
    home = installed()
    table = BASELINE / "workers.sql"
    subprocess.run(
        ["psql", "-qX", "-v", "ON_ERROR_STOP=1", "-v", f"count={workers}", "-f", table, url], check=True
    )
    port, log = free_port(), directory / "baseline.log"
    environment = {"DATABASE_URL": url, "PORT": str(port), "NODE_ENV": "production"}
    with process(["node", "server.js"], log=log, environment=environment, cwd=home) as running:
        wait_for_port(port, running, log)
        yield Target(running.pid, port, "plan")


def available() -> bool:
    """Say whether this machine has what the baseline is installed and run with."""
    return shutil.which("node") is not None and shutil.which("npm") is not None


def cached() -> Path:
    """Return where the baseline is installed, or will be: outside of the tree, a directory a version."""
    content = sha256(b"".join((BASELINE / name).read_bytes() for name in ("package.json", "schema.prisma")))
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "muster-bench" / f"baseline-{content.hexdigest()[:12]}"


def installed() -> Path:
    """Install the baseline where it is not yet, and return where it is."""
    if not available():
        raise SystemExit("The baseline needs Node and npm (apt-get install nodejs npm).")
    home = cached()
    home.mkdir(parents=True, exist_ok=True)
    for file in BASELINE.iterdir():
        shutil.copy(file, home)
    if not (home / "generated").is_dir():
        subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"], check=True, cwd=home
        )
        # No migration is run, so the engine for them is not needed, and not downloaded.
        quiet = {"PRISMA_SCHEMA_ENGINE_BINARY": "/bin/true", "CHECKPOINT_DISABLE": "1"}
        command = ["npx", "prisma", "generate", "--schema", "schema.prisma"]
        subprocess.run(command, check=True, cwd=home, env={**os.environ, **quiet}, stdout=subprocess.DEVNULL)
    return home


def _section(rates: dict[str, list[Rate]], options: Options) -> Section:
    plan, ours, instant = (rates[kind] for kind in KINDS)
    by_cpu = median(theirs.cpu / our.cpu for theirs, our in zip(plan, ours, strict=True))
    by_server = median(theirs.server / our.server for theirs, our in zip(plan, ours, strict=True))
    by_rate = median(our.per_second / theirs.per_second for theirs, our in zip(plan, ours, strict=True))
    persisting = median(our.per_second / bare.per_second for bare, our in zip(instant, ours, strict=True))
    by_bare_cpu = median(bare.cpu / our.cpu for bare, our in zip(instant, ours, strict=True))
    return Section(
        "Heartbeats",
        f"{options.workers:,} workers, closed loop over {options.connections} kept connections, {options.seconds:g} s "
        f"a run, the three in turn, medians of {options.runs} runs. CPU: user and system time, a heartbeat, each by "
        "itself; a CPU-second is one of the server and PostgreSQL together, without the client. The plan's workers "
        "call `curl`, with a new connection each time: here its server is spared that.",
        HEAD,
        [_row(kind, of) for kind, of in rates.items()],
        [
            verdict(
                f"durable heartbeats per CPU-second of server and PostgreSQL: {by_cpu:.1f} × the plan's (server "
                f"alone: {by_server:.1f} ×; heartbeats a second on this machine: {by_rate:.1f} ×)",
                "≥ 30 ×",
                by_cpu >= 30,
            ),
            verdict(
                f"throughput: {persisting:.0%} of the same server storing nothing (heartbeats per CPU-second: "
                f"{by_bare_cpu:.0%})",
                "≥ 60 %",
                persisting >= 0.6,
            ),
        ],
    )


def _row(kind: str, of: list[Rate]) -> tuple[str, ...]:
    return (
        kind,
        f"{median(rate.per_second for rate in of):,.0f}",
        f"{median(rate.server for rate in of) * 1e6:.1f}",
        f"{median(rate.database for rate in of) * 1e6:.1f}",
        f"{median(rate.client for rate in of) * 1e6:.1f}",
        f"{1 / median(rate.cpu for rate in of):,.0f}",
        f"{median(rate.p50 for rate in of) * 1e3:.1f}",
        f"{median(rate.p99 for rate in of) * 1e3:.1f}",
    )
