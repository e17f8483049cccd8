"""What the page of one worker shows, its transitions and its maintenance among it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from control_api.dashboard.view import Badge, Doubts, Notice, Row, badge, notices, row
from control_api.dashboard.words import When, pairs, size, when
from control_api.workers import wire
from control_api.workers.lifecycle import Moment
from control_api.workers.wire import TransitionView, WorkerView


@dataclass(frozen=True)
class Change:
    """A recorded change of status, with why and on what evidence."""

    at: When
    old: Badge | None
    new: Badge | None
    reason: str
    actor: str
    evidence: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Maintenance:
    """What an operator wants of the worker; may_change: whether the reader may change it."""

    is_on: bool
    may_change: bool
    facts: tuple[tuple[str, str], ...] = ()
    times: tuple[tuple[str, When], ...] = ()


@dataclass(frozen=True)
class Worker:
    """The page of one worker."""

    row: Row
    maintenance: Maintenance
    load: str
    facts: tuple[tuple[str, str], ...]
    labels: tuple[tuple[str, str], ...]
    times: tuple[tuple[str, When], ...]
    changes: tuple[Change, ...]
    notices: tuple[Notice, ...]


def worker(
    found: WorkerView, changes: Sequence[TransitionView], doubts: Doubts, at: Moment, *, may_operate: bool
) -> Worker:
    """Return the page of one worker. changes: the newest first; may_operate: the reader is an operator or above."""
    return Worker(
        row=row(found, at.now),
        maintenance=_maintenance(found.maintenance, at.now, may_operate),
        load="–" if found.load_average is None else f"{found.load_average:.2f}",
        facts=_facts(found),
        labels=tuple(sorted(found.labels.items())),
        times=_times(found, at.now),
        changes=tuple(_change(change, at.now) for change in changes),
        notices=notices(doubts, at),
    )


def _maintenance(resting: wire.Maintenance | None, now: datetime, may_change: bool) -> Maintenance:
    if resting is None:
        return Maintenance(is_on=False, may_change=may_change)
    until = (("Until", when(resting.until, now)),) if resting.until else ()
    drain = (("Pods", "shall move away"),) if resting.drain else ()
    return Maintenance(
        is_on=True,
        may_change=may_change,
        facts=(("Reason", resting.reason), ("By", resting.by), *drain),
        times=(("Since", when(resting.since, now)), *until),
    )


def _facts(worker: WorkerView) -> tuple[tuple[str, str], ...]:
    given = (
        *((("Has not joined", worker.join_error),) if worker.join_error else ()),
        ("Hostname", worker.hostname),
        ("Address", worker.ip_address),
        ("Seen from", worker.observed_address),
        ("Worker id", str(worker.id)),
        ("Machine id", worker.machine_id),
        ("Architecture", worker.architecture),
        ("CPU", worker.cpu_model),
        ("Cores", str(worker.cpu_cores or "")),
        ("Memory", size(worker.total_memory_bytes)),
        ("Disk", size(worker.total_storage_bytes)),
        ("Operating system", worker.operating_system),
        ("Kernel", worker.kernel_version),
        ("Agent", worker.agent_version),
        ("SSH host keys", str(len(worker.ssh_host_keys))),
        ("Most pods", None if worker.max_pods is None else str(worker.max_pods)),
        ("Notes", worker.notes),
    )
    return tuple((name, value or "–") for name, value in given)


def _times(worker: WorkerView, now: datetime) -> tuple[tuple[str, When], ...]:
    moments = (("First registered", worker.created_at), ("Last registered", worker.registered_at))
    return tuple((name, when(moment, now)) for name, moment in moments)


def _change(change: TransitionView, now: datetime) -> Change:
    return Change(
        at=when(change.at, now),
        old=badge(change.from_status) if change.from_status else None,
        new=badge(change.to_status) if change.to_status else None,
        reason=change.reason,
        actor=change.actor,
        evidence=pairs(change.evidence),
    )
