"""Storing a batch of heartbeats: one round trip to PostgreSQL, one short transaction on SQLite."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import psycopg
import structlog
from psycopg.rows import TupleRow
from sqlalchemy import and_, bindparam, case, func, select, update

from control_api import postgres_link
from control_api.db import Database
from control_api.errors import (
    DatabaseUnavailable,
    HeartbeatOutOfOrder,
    InvalidCredential,
    MusterError,
    WorkerNotFound,
    WorkerRemoved,
)
from control_api.postgres_link import BoundedAsyncConnection
from control_api.workers.lifecycle import NODES_FRESH, Intent, Node, Status
from control_api.workers.models import Heartbeat, Watch, Worker

ATTEMPTS = 3
# The server is away, or does not let this user make the function: until somebody mends it, nothing is stored.
NOT_STORED = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.InsufficientPrivilege)
log = structlog.get_logger()


class Beat(NamedTuple):
    """A heartbeat whose credential's mac is right."""

    worker_id: UUID
    epoch: int
    boot_id: UUID | None
    seq: int | None
    node_ready: bool
    cpu_usage: float | None
    memory_usage: float | None
    disk_usage: float | None
    current_pods: int | None
    load_average: float | None


class Stored(NamedTuple):
    """What a stored heartbeat's status depends on."""

    intent: Intent
    approved: bool
    recorded: Status
    ever_ready: bool
    node_ready: bool
    knows_nodes: bool
    node: Node | None


Outcome = Stored | type[MusterError]


@cache
def _stored(words: str) -> Stored:
    """Return the one object for these few words, as POSTGRES_WRITE answers them."""
    intent, recorded, *flags, node = words.split(" ")
    approved, ever_ready, node_ready, knows_nodes = (flag == "t" for flag in flags)
    seen = Node(node) if node else None
    return Stored(Intent(intent), approved, Status(recorded), ever_ready, node_ready, knows_nodes, seen)


class BeatStore(Protocol):
    """Stores batches."""

    async def write(self, beats: Sequence[Beat]) -> list[Outcome]:
        """Commit the batch and return an outcome for each, in order. Raises DatabaseUnavailable."""

    async def close(self) -> None:
        """Give the connection back."""


def beat_store(database: Database, clock: Callable[[], datetime]) -> BeatStore:
    """Return the way to store heartbeats in this database."""
    return SqliteBeats(database, clock) if database.is_sqlite else PostgresBeats(database, clock)


# What a worker was known by before its heartbeat: epoch, removed_at, boot_id, previous_boot_id, seq.
Known = tuple[int, datetime | None, UUID | None, UUID | None, int]


def refusal(known: Known | None, beat: Beat) -> type[MusterError] | None:
    """Return why the heartbeat is not stored, None when it is."""
    if known is None:
        return WorkerNotFound
    epoch, removed_at, boot_id, previous_boot_id, seq = known
    if removed_at is not None:
        return WorkerRemoved
    if epoch != beat.epoch:
        return InvalidCredential
    if beat.boot_id is None or beat.seq is None or boot_id is None:
        return None
    stale = beat.seq <= seq if beat.boot_id == boot_id else beat.boot_id == previous_boot_id
    return HeartbeatOutOfOrder if stale else None


# The rows are locked in id order before they are written, else two processes with the same workers deadlock. Who
# registers a worker or records its status holds its heartbeat too: the statement that writes begins when the batch
# has its locks, and so with what was committed while it waited. That takes two statements: a function holds them, since
# a pipeline of two makes the event loop go round four times more for every batch, with all of its requests each time.
# The function is temporary, of this connection: it is always the one of this process, whatever version others have.
# The conditions say what `refusal` says; tests hold both to one table.
# It answers in two columns a row: to make a UUID and seven values of each costs more than all the rest of reading it.
POSTGRES_FUNCTION = """
CREATE FUNCTION pg_temp.store_heartbeats(uuid[], int4[], uuid[], int8[], bool[], float8[], float8[], float8[], int4[],
                                         float8[], timestamptz, timestamptz)
RETURNS TABLE (place int8, words text) LANGUAGE plpgsql AS $$
BEGIN
  PERFORM FROM heartbeats WHERE worker_id = ANY($1) ORDER BY worker_id FOR UPDATE;
  RETURN QUERY UPDATE heartbeats h SET
    received_at = $11, node_ready = beat.node_ready, left_at = NULL, left_reason = NULL,
    joined_at = CASE WHEN beat.node_ready THEN COALESCE(h.joined_at, $11) ELSE h.joined_at END,
    boot_id = COALESCE(beat.boot_id, h.boot_id),
    seq = COALESCE(beat.seq, CASE WHEN beat.boot_id IS DISTINCT FROM h.boot_id AND beat.boot_id IS NOT NULL
                                  THEN 0 ELSE h.seq END),
    previous_boot_id = CASE WHEN beat.boot_id <> h.boot_id THEN h.boot_id ELSE h.previous_boot_id END,
    cpu_usage = beat.cpu_usage, memory_usage = beat.memory_usage, disk_usage = beat.disk_usage,
    current_pods = beat.current_pods, load_average = beat.load_average
  FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    WITH ORDINALITY AS beat (worker_id, epoch, boot_id, seq, node_ready,
                             cpu_usage, memory_usage, disk_usage, current_pods, load_average, place),
    workers w
  WHERE h.worker_id = beat.worker_id AND w.id = beat.worker_id
    AND w.epoch = beat.epoch AND w.removed_at IS NULL
    AND (beat.boot_id IS NULL OR beat.seq IS NULL OR h.boot_id IS NULL
         OR CASE WHEN beat.boot_id = h.boot_id THEN beat.seq > h.seq
                 ELSE beat.boot_id IS DISTINCT FROM h.previous_boot_id END)
  RETURNING beat.place, concat_ws(' ', w.intent, w.status, w.approved, h.joined_at IS NOT NULL, h.node_ready,
    COALESCE((SELECT nodes_seen_at >= $12 FROM watch), false), COALESCE(w.node_state, ''));
END $$
"""
POSTGRES_WRITE = """
SELECT place, words FROM pg_temp.store_heartbeats(
  %(worker_id)b::uuid[], %(epoch)b::int4[], %(boot_id)b::uuid[], %(seq)b::int8[], %(node_ready)b::bool[],
  %(cpu_usage)b::float8[], %(memory_usage)b::float8[], %(disk_usage)b::float8[], %(current_pods)b::int4[],
  %(load_average)b::float8[], %(now)b, %(nodes_fresh)b)
"""
POSTGRES_KNOWN = """
SELECT w.id, w.epoch, w.removed_at, h.boot_id, h.previous_boot_id, h.seq
FROM workers w JOIN heartbeats h ON h.worker_id = w.id WHERE w.id = ANY(%s)
"""


class PostgresBeats:
    """One connection of its own, in autocommit: when the round trip ends, the batch is durable."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        """Prepare; it connects with the first batch."""
        self._conninfo = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._clock = clock
        self._connection: psycopg.AsyncConnection[TupleRow] | None = None
        self._reason = ""  # why nothing is stored

    async def write(self, beats: Sequence[Beat]) -> list[Outcome]:
        """Commit the batch, again after a deadlock; a connection that fails is thrown away."""
        for _ in range(ATTEMPTS):
            try:
                return await self._write(await self._connected(), beats)
            except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
                continue
            except psycopg.Error as exc:
                self._tell(type(exc).__name__)
                await self.close()
                if isinstance(exc, NOT_STORED):
                    raise DatabaseUnavailable from exc
                raise
        raise DatabaseUnavailable

    async def close(self) -> None:
        """Close the connection; the next batch makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def _tell(self, reason: str = "") -> None:
        """Log only a change of why nothing is stored: a database that is away would be a line a batch."""
        if reason != self._reason:
            log.warning("heartbeats: not stored" if reason else "heartbeats: stored again", reason=reason)
        self._reason = reason

    async def _connected(self) -> psycopg.AsyncConnection[TupleRow]:
        if self._connection is None or self._connection.closed:
            self._connection = await BoundedAsyncConnection.connect(
                self._conninfo, autocommit=True, **postgres_link.ARGUMENTS
            )
            await self._connection.execute(POSTGRES_FUNCTION)
        return self._connection

    async def _write(
        self, connection: psycopg.AsyncConnection[TupleRow], beats: Sequence[Beat]
    ) -> list[Outcome]:
        columns = dict(zip(Beat._fields, map(list, zip(*beats, strict=True)), strict=True))
        now = self._clock()
        cursor = await connection.execute(
            POSTGRES_WRITE, {**columns, "now": now, "nodes_fresh": now - NODES_FRESH}, binary=True
        )
        outcomes: list[Outcome | None] = [None] * len(beats)
        for place, words in await cursor.fetchall():
            outcomes[place - 1] = _stored(words)
        refused = [beat for beat, outcome in zip(beats, outcomes, strict=True) if outcome is None]
        reasons = await self._refusals(connection, refused) if refused else {}
        self._tell()
        pairs = zip(beats, outcomes, strict=True)
        return [outcome or reasons[beat.worker_id] for beat, outcome in pairs]

    async def _refusals(
        self, connection: psycopg.AsyncConnection[TupleRow], beats: list[Beat]
    ) -> dict[UUID, Outcome]:
        cursor = await connection.execute(POSTGRES_KNOWN, [[beat.worker_id for beat in beats]])
        known = {row[0]: row[1:] for row in await cursor.fetchall()}
        # A worker that changed between the two statements is told to come again, which it does anyway.
        return {
            beat.worker_id: refusal(known.get(beat.worker_id), beat) or HeartbeatOutOfOrder for beat in beats
        }


class SqliteBeats:
    """The same in a thread: one transaction a batch."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        """Use the database's own engine."""
        self._database = database
        self._clock = clock

    async def write(self, beats: Sequence[Beat]) -> list[Outcome]:
        """Commit the batch."""
        return await asyncio.to_thread(self._write, beats)

    async def close(self) -> None:
        """Nothing is held between two batches."""

    def _write(self, beats: Sequence[Beat]) -> list[Outcome]:
        with self._database.transaction() as session:
            now = self._clock()
            seen_at = session.scalar(select(Watch.nodes_seen_at))
            knows_nodes = seen_at is not None and seen_at >= now - NODES_FRESH
            rows = {
                row[0]: row for row in session.execute(SQLITE_KNOWN, {"ids": [b.worker_id for b in beats]})
            }
            outcomes: list[Outcome] = []
            accepted = []
            for beat in beats:
                row = rows.get(beat.worker_id)
                refused = refusal(None if row is None else (row[1], row[2], row[3], row[4], row[5]), beat)
                if refused is None and row is not None:
                    accepted.append(
                        {f"_{name}": value for name, value in beat._asdict().items()} | {"_now": now}
                    )
                    ever_ready = row.joined_at is not None or beat.node_ready
                    fixed = (row.intent, row.approved, row.status)
                    outcomes.append(Stored(*fixed, ever_ready, beat.node_ready, knows_nodes, row.node_state))
                else:
                    outcomes.append(refused or WorkerNotFound)
            if accepted:
                session.connection().execute(SQLITE_WRITE, accepted)
        return outcomes


SQLITE_KNOWN = (
    select(
        Worker.id,
        Worker.epoch,
        Worker.removed_at,
        Heartbeat.boot_id,
        Heartbeat.previous_boot_id,
        Heartbeat.seq,
        Worker.intent,
        Worker.approved,
        Worker.status,
        Heartbeat.joined_at,
        Worker.node_state,
    )
    .join(Heartbeat)
    .where(Worker.id.in_(bindparam("ids", expanding=True)))
)


def _given(names: Iterable[str]) -> dict[str, Any]:
    columns = Heartbeat.__table__.columns
    return {name: bindparam(f"_{name}", type_=columns[name].type) for name in names}


BOOT = _given(["boot_id"])["boot_id"]
NOW = bindparam("_now", type_=Heartbeat.__table__.columns["received_at"].type)
READY = _given(["node_ready"])["node_ready"]
SQLITE_WRITE = (
    update(Heartbeat.__table__)  # type: ignore[arg-type]  # a declarative table is a Table
    .where(Heartbeat.worker_id == _given(["worker_id"])["worker_id"])
    .values(
        received_at=NOW,
        left_at=None,
        left_reason=None,
        joined_at=case((READY, func.coalesce(Heartbeat.joined_at, NOW)), else_=Heartbeat.joined_at),
        boot_id=func.coalesce(BOOT, Heartbeat.boot_id),
        previous_boot_id=case(
            (Heartbeat.boot_id != BOOT, Heartbeat.boot_id), else_=Heartbeat.previous_boot_id
        ),
        seq=func.coalesce(
            _given(["seq"])["seq"],
            case((and_(BOOT.is_not(None), Heartbeat.boot_id.is_distinct_from(BOOT)), 0), else_=Heartbeat.seq),
        ),
        **_given(["node_ready", "cpu_usage", "memory_usage", "disk_usage", "current_pods", "load_average"]),
    )
)
