"""Refused heartbeats in the audit log: few of each worker and address, written beside the answers, never before one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import structlog
from limits import RateLimitItemPerMinute

from control_api import middleware
from control_api.attempts import source
from control_api.errors import Conflict, MusterError, NotFound, Unauthorized, WorkerRemoved
from control_api.events import audit, refusals
from control_api.events.refusals import Refusals
from control_api.workers.batcher import GroupCommit
from control_api.workers.requests import Asked

if TYPE_CHECKING:
    from control_api.db import Database
    from control_api.workers.credentials import Claim

ATTEMPTS = (
    Unauthorized,
    NotFound,
    WorkerRemoved,
    Conflict,
)  # the rest is a fault of ours, or a body that is none
# Of one worker whose credential is genuine, or of one address that shows no such credential.
NOTED = RateLimitItemPerMinute(1, 5, namespace="refused-heartbeats")
IN_ALL = RateLimitItemPerMinute(60, namespace="all-refused-heartbeats")
LONGEST = 36  # characters of a worker's id; in a path may stand more
Entry: TypeAlias = dict[str, Any]
log = structlog.get_logger()


class RefusedBeats:
    """Notes refusals without making anybody wait; what the database does not take is only in the log."""

    def __init__(self, database: Database, bounds: Refusals, clock: Callable[[], datetime]) -> None:
        """Write there, as many as the bounds admit."""
        self._database = database
        self._bounds = bounds
        self._clock = clock
        self._entries: GroupCommit[Entry, None] = GroupCommit(self._write, id, patience=0)

    def start(self) -> None:
        """Begin to write; call it in the event loop that serves the requests."""
        self._entries.start()

    async def close(self) -> None:
        """Write what has arrived, then stop."""
        await self._entries.close()

    def add(self, exc: MusterError, asked: Asked, claim: Claim | None) -> None:
        """Take a refusal; claim: what the credential says, when it is genuine and of the worker in the path."""
        if not isinstance(exc, ATTEMPTS):
            return
        peer = middleware.peer(asked.client, asked.headers)
        actor = f"worker:{claim.worker_id}" if claim else audit.ANONYMOUS
        if not self._bounds.admits(actor if claim else source(peer), NOTED, IN_ALL):
            return
        worker, request_id = asked.worker[:LONGEST], asked.request_id.decode()
        log.warning(
            "heartbeat refused", worker=worker, peer=peer, reason=type(exc).__name__, request_id=request_id
        )
        entry = {
            "actor": actor,
            "action": "worker.heartbeat",
            "subject": f"worker:{worker}",
            "outcome": "refused",
            "peer": peer,
            "request_id": request_id,
            "details": refusals.shown(exc, NOTED),
            "now": self._clock(),
        }
        told = partial(_told, entry)
        try:
            self._entries.add(entry, told)
        except MusterError as away:
            told(away)

    async def _write(self, entries: Sequence[Entry]) -> Sequence[None]:
        return await asyncio.to_thread(self._write_now, entries)

    def _write_now(self, entries: Sequence[Entry]) -> Sequence[None]:
        with self._database.transaction() as session:
            for entry in entries:
                audit.record(session, **entry)
        return [None] * len(entries)


def _told(entry: Entry, answer: Exception | None) -> None:
    if answer is not None:
        shown = {name: entry[name] for name in ("actor", "action", "subject", "peer", "request_id")}
        log.warning("refusal not in the audit log", **shown, reason=type(answer).__name__)
