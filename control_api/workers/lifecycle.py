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


class Node(StrEnum):
    """What K3s says of a worker's node; MISSING: it has none of that name."""

    READY = "Ready"
    NOT_READY = "NotReady"
    MISSING = "Missing"


class Intent(StrEnum):
    """What the operator wants of a worker; no signal of the machine ever changes it."""

    ACTIVE = "active"
    MAINTENANCE = "maintenance"


# Only a worker recorded as one of these can still be declared silent, so only these are spared in a grace.
LIVE = (Status.PENDING, Status.ACTIVE, Status.NOT_READY)
WAITS = "waits for approval"
NOT_HEARD = "not heard for {} s"
GOODBYE = "said goodbye: {}"
NODES_FRESH = timedelta(seconds=60)  # what K3s said longer ago says nothing of now


@dataclass(frozen=True, slots=True)
class Rules:
    """How long silence may last: `timeout` once a worker was ready, `join_grace` before."""

    timeout: timedelta = timedelta(seconds=90)
    join_grace: timedelta = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Moment:
    """What a status depends on besides the worker itself.

    grace_until: nobody is declared silent before it, because the monitor has just begun, or doubts itself.
    nodes_seen_at: when K3s last said how its nodes are; None when it never did, or is not asked at all.
    """

    now: datetime
    rules: Rules
    grace_until: datetime | None = None
    nodes_seen_at: datetime | None = None

    @property
    def in_grace(self) -> bool:
        """Say whether the grace still lasts."""
        return self.grace_until is not None and self.now < self.grace_until

    @property
    def knows_nodes(self) -> bool:
        """Say whether K3s was heard lately; if not, each worker's own word about its node has to do."""
        return self.nodes_seen_at is not None and self.now - self.nodes_seen_at <= NODES_FRESH


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
    node: Node | None,
    registered_at: datetime,
    last_heartbeat_at: datetime | None,
    at: Moment,
) -> Status:
    """Return the status that the machine's own signals and K3s give, whatever the operator wants.

    approved: whoever is not is PENDING, whatever it says and however long it is silent.
    recorded: the last recorded status; a worker recorded as silent is not revived by the monitor's grace.
    ever_ready: it said that its node is ready since it last registered.
    left: it said goodbye, and nothing since.
    node_ready: what its last heartbeat said; a heartbeat without that field counts as ready.
    node: what K3s said when it was last asked, None when it was not asked since the worker became known. It
    counts only at a moment that knows the nodes: then a worker is ACTIVE only if both say that it is ready.
    All times are aware and of the server's clock.
    """
    silence = at.now - last_heard(registered_at, last_heartbeat_at)
    spared = at.in_grace and recorded in LIVE
    joined = ever_ready and not (at.knows_nodes and node is None)
    if not approved:
        return Status.PENDING
    if left:
        return Status.INACTIVE
    if not joined and (spared or silence <= at.rules.join_grace):
        return Status.PENDING
    if silence > at.rules.timeout and not spared:
        return Status.INACTIVE
    ready = node_ready and (node is Node.READY or not at.knows_nodes)
    return Status.ACTIVE if ready else Status.NOT_READY


def status(intent: Intent, health: Status) -> Status:
    """Return what everyone sees: an operator's maintenance covers whatever the health is."""
    return Status.MAINTENANCE if intent is Intent.MAINTENANCE else health


def current_pods(counted: int | None, told: int | None, at: Moment) -> int | None:
    """Return how many pods run on a worker: what K3s counted when it was heard lately, else what it said itself."""
    return counted if at.knows_nodes and counted is not None else told


def why_first(approved: bool) -> str:
    """Return the sentence that explains a worker's first status, which is PENDING."""
    return "registered" if approved else f"registered, {WAITS}"


def why(
    new: Status,
    *,
    approved: bool,
    left_reason: str | None,
    silence: timedelta,
    node_ready: bool,
    node: Node | None,
    at: Moment,
) -> str:
    """Return the sentence that explains a change to `new`, and whose word it rests on.

    left_reason: what the worker said with its goodbye, None when it said none.
    silence: time since it was last heard of.
    approved, node_ready, node, at: as in `health`.
    """
    if new is Status.MAINTENANCE:
        return "an operator put it into maintenance"
    if new is Status.INACTIVE:
        if left_reason is not None:
            return GOODBYE.format(left_reason) if left_reason else "said goodbye"
        return NOT_HEARD.format(f"{silence.total_seconds():.0f}")
    if new is Status.PENDING:
        return f"registered again, {'not ready yet' if approved else WAITS}"
    if new is Status.ACTIVE:
        return f"heard, {_ready_by(at)}"
    return f"heard, but {_not_ready_by(node_ready, node if at.knows_nodes else None)}"


def _ready_by(at: Moment) -> str:
    if at.knows_nodes:
        return "its node is ready, as K3s says too"
    if at.nodes_seen_at is None:
        return "its node is ready"
    return "its node is ready by its own word; K3s does not answer"


def _not_ready_by(node_ready: bool, node: Node | None) -> str:
    if node is Node.MISSING:
        return "K3s has no node of its name"
    if node is Node.NOT_READY:
        return "K3s says that its node is not ready" + ("" if node_ready else ", and so does it")
    return "it says that its node is not ready"
