"""What both pages show: a worker as a line, its status, and what weakens the page. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from control_api.dashboard.words import Gauge, When, gauge, plural, size, when
from control_api.workers.lifecycle import Intent, Moment, Node, Status
from control_api.workers.wire import WorkerView

MONITOR_LATE = timedelta(seconds=20)  # four of its looks


@dataclass(frozen=True)
class Badge:
    """A status: `kind` chooses the colour, `text` says it."""

    kind: str
    text: str


@dataclass(frozen=True)
class Notice:
    """Something that the reader of this page should know: `kind` is doubt or degraded."""

    kind: str
    text: str
    until: When | None = None


@dataclass(frozen=True)
class Row:
    """One worker in the list. is_old: its numbers are those of a last heartbeat long ago."""

    id: UUID
    name: str
    hostname: str
    address: str
    badge: Badge
    hint: str
    heard: When | None
    node: Badge
    cpu: Gauge
    memory: Gauge
    disk: Gauge
    pods: str
    is_old: bool


@dataclass(frozen=True)
class Doubts:
    """What the service knows of its own state. nodes_expected: it should know K3s's nodes; nodes_known: it does."""

    ticked_at: datetime | None
    degraded: tuple[str, ...] = ()
    nodes_expected: bool = False
    nodes_known: bool = False


NODES = {
    Node.READY: Badge("ready", "Ready"),
    Node.NOT_READY: Badge("not-ready", "Not ready"),
    Node.MISSING: Badge("not-ready", "Missing"),
}


def row(worker: WorkerView, now: datetime) -> Row:
    """Return the worker as a line of the list."""
    return Row(
        id=worker.id,
        name=worker.name,
        hostname=worker.hostname,
        address=worker.ip_address,
        badge=badge(worker.status),
        hint=_hint(worker),
        heard=_maybe(worker.last_heartbeat, now),
        node=_node(worker.node_state),
        cpu=gauge(worker.cpu_usage, plural(worker.cpu_cores, "core") if worker.cpu_cores else "–"),
        memory=gauge(worker.memory_usage, size(worker.total_memory_bytes)),
        disk=gauge(worker.disk_usage, size(worker.total_storage_bytes)),
        pods="–" if worker.current_pods is None else str(worker.current_pods),
        is_old=worker.status is Status.INACTIVE,
    )


def badge(status: Status) -> Badge:
    """Return the status as it is shown."""
    return Badge(status.value.lower().replace("_", "-"), status.value.replace("_", " "))


def notices(doubts: Doubts, at: Moment) -> tuple[Notice, ...]:
    """Return what weakens the page: a monitor in doubt or stuck, news of K3s that are old, degraded features."""
    found = []
    if at.in_grace:
        text = "Nobody is declared silent now: the monitor has just begun, or doubts what it sees. It judges again"
        found.append(Notice("doubt", text, _maybe(at.grace_until, at.now)))
    if doubts.ticked_at is None or at.now - doubts.ticked_at > MONITOR_LATE:
        text = "The monitor does not look: statuses here are right, but no change is recorded. It last looked"
        found.append(Notice("degraded", text, _maybe(doubts.ticked_at, at.now)))
    if doubts.nodes_expected and not doubts.nodes_known:
        found.append(
            Notice("degraded", "K3s does not answer: a status rests on the worker's own word about its node.")
        )
    found += [Notice("degraded", f"Degraded: {name}.") for name in doubts.degraded]
    return tuple(found)


def _maybe(moment: datetime | None, now: datetime) -> When | None:
    return None if moment is None else when(moment, now)


def _hint(worker: WorkerView) -> str:
    """Return what the status does not say: the machine's health under maintenance, an approval that is missing."""
    if worker.intent is Intent.MAINTENANCE:
        return "healthy" if worker.is_ready else "not healthy"
    return "" if worker.approved else "not approved"


def _node(state: Node | None) -> Badge:
    return Badge("unknown", "not known") if state is None else NODES[state]
