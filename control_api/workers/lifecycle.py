"""What a worker's status is: one pure function over plain values; nothing else decides it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Status(StrEnum):
    """What everyone sees of a worker."""

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    INACTIVE = "INACTIVE"
    MAINTENANCE = "MAINTENANCE"
    NOT_READY = "NOT_READY"


class Intent(StrEnum):
    """What the operator wants of a worker; no signal of the machine ever changes it."""

    ACTIVE = "active"
    MAINTENANCE = "maintenance"


# Only a worker recorded as one of these can still be declared silent, so only these are spared in a grace.
LIVE = (Status.PENDING, Status.ACTIVE, Status.NOT_READY)


@dataclass(frozen=True, slots=True)
class Rules:
    """How long silence may last: `timeout` once a worker was ready, `join_grace` before."""

    timeout: timedelta = timedelta(seconds=90)
    join_grace: timedelta = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Moment:
    """What a status depends on besides the worker itself.

    grace_until: nobody is declared silent before it, because the monitor has just begun, or doubts itself.
    """

    now: datetime
    rules: Rules
    grace_until: datetime | None = None

    @property
    def in_grace(self) -> bool:
        """Say whether the grace still lasts."""
        return self.grace_until is not None and self.now < self.grace_until


def last_heard(registered_at: datetime, last_heartbeat_at: datetime | None) -> datetime:
    """Return when the worker was last heard of; a registration counts as a heartbeat does."""
    return registered_at if last_heartbeat_at is None else max(registered_at, last_heartbeat_at)


def health(
    *,
    approved: bool,
    recorded: Status,
    ever_ready: bool,
    left: bool,
    node_ready: bool,
    registered_at: datetime,
    last_heartbeat_at: datetime | None,
    at: Moment,
) -> Status:
    """Return the status that the machine's own signals give, whatever the operator wants.

    approved: whoever is not is PENDING, whatever it says and however long it is silent.
    recorded: the last recorded status; a worker recorded as silent is not revived by the monitor's grace.
    ever_ready: it said that its node is ready since it last registered.
    left: it said goodbye, and nothing since.
    node_ready: what its last heartbeat said; a heartbeat without that field counts as ready.
    All times are aware and of the server's clock.
    """
    silence = at.now - last_heard(registered_at, last_heartbeat_at)
    spared = at.in_grace and recorded in LIVE
    if not approved:
        return Status.PENDING
    if left:
        return Status.INACTIVE
    if not ever_ready and (spared or silence <= at.rules.join_grace):
        return Status.PENDING
    if silence > at.rules.timeout and not spared:
        return Status.INACTIVE
    return Status.ACTIVE if node_ready else Status.NOT_READY


def status(intent: Intent, health: Status) -> Status:
    """Return what everyone sees: an operator's maintenance covers whatever the health is."""
    return Status.MAINTENANCE if intent is Intent.MAINTENANCE else health


def why(
    new: Status, *, left_reason: str | None, silence: timedelta, first: bool, approved: bool = True
) -> str:
    """Return the sentence that explains a change to `new`.

    left_reason: what the worker said with its goodbye, None when it said none.
    silence: time since it was last heard of. first: it has just become known.
    approved: whether an operator, or its enrolment token, has approved it.
    """
    if new is Status.MAINTENANCE:
        return "an operator put it into maintenance"
    if new is Status.INACTIVE:
        if left_reason is not None:
            return f"said goodbye: {left_reason}" if left_reason else "said goodbye"
        return f"not heard for {silence.total_seconds():.0f} s"
    if new is Status.PENDING:
        said = "registered" if first else "registered again"
        return f"{said}, waits for approval" if not approved else said if first else f"{said}, not ready yet"
    return "heard, its node is ready" if new is Status.ACTIVE else "heard, but its node is not ready"
