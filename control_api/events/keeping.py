"""How long the audit log is kept: a thread that deletes what is older, a little at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from control_api.db import Database
from control_api.errors import DatabaseUnavailable
from control_api.events import audit_store

EVERY = 3600.0  # seconds between two looks
log = structlog.get_logger()


def forget_old_entries(database: Database, keep: timedelta, now: datetime) -> int:
    """Delete the entries that are older than `keep`, each few in a transaction of their own; return how many."""
    total = 0
    while True:
        with database.transaction() as session:
            gone = audit_store.forget(session, now - keep)
        total += gone
        if gone < audit_store.DELETED_AT_ONCE:
            return total


class AuditKeeping:
    """The thread that keeps the audit log to its age."""

    def __init__(self, database: Database, keep: timedelta, clock: Callable[[], datetime]) -> None:
        """Keep entries so long, by that clock."""
        self._database = database
        self._keep = keep
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit-keeping", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, when the transaction at hand has ended."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                gone = forget_old_entries(self._database, self._keep, self._clock())
                if gone:
                    log.info("old audit entries deleted", count=gone)
            except DatabaseUnavailable:
                log.warning("old audit entries not deleted, the database does not answer")
            self._stop.wait(EVERY)
