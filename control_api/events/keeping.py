"""How long things are kept: the leader deletes what is older, a little at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import structlog

from control_api.db import Database
from control_api.errors import DatabaseUnavailable
from control_api.events import audit_store, event_store, webhook_store

if TYPE_CHECKING:
    from sqlalchemy.orm import Session  # opaque here: the queries are in the stores

EVERY = 3600.0  # seconds between two rounds of the leader
IDLE = 15.0  # seconds between two looks whether this process leads
PAUSE = 0.05  # seconds between two transactions: others write too
DELIVERIES = timedelta(days=7)  # a delivery that has ended; the event itself can be replayed for longer
log = structlog.get_logger()


class Ages(NamedTuple):
    """How old things may become. history None: it is kept for ever."""

    audit: timedelta
    history: timedelta | None
    deliveries: timedelta = DELIVERIES


def forget(database: Database, ages: Ages, now: datetime) -> Iterator[tuple[str, int]]:
    """Delete what is older, each few in a transaction of their own; yield of what and how many after each."""
    for gone in _until_few(database, audit_store.forget, audit_store.DELETED_AT_ONCE, now - ages.audit):
        yield "audit", gone
    deleted = webhook_store.DELETED_AT_ONCE
    for gone in _until_few(database, webhook_store.forget, deleted, now - ages.deliveries):
        yield "deliveries", gone
    if ages.history is not None:
        for gone in _events(database, now - ages.history):
            yield "events", gone


def _until_few(
    database: Database, forget: Callable[[Session, datetime], int], many: int, before: datetime
) -> Iterator[int]:
    gone = many
    while gone == many:
        with database.transaction() as session:
            gone = forget(session, before)
        yield gone


def _events(database: Database, before: datetime) -> Iterator[int]:
    place: int | None = 0
    while place is not None:
        with database.transaction() as session:
            gone, place = event_store.forget(session, place, before)
        yield gone


class Keeping:
    """The thread that keeps things to their age, in the process that leads."""

    def __init__(
        self, database: Database, ages: Ages, *, leads: Callable[[], bool], clock: Callable[[], datetime]
    ) -> None:
        """Keep things so long, by that clock. leads: says whether this process is the one that deletes."""
        self._database = database
        self._ages = ages
        self._leads = leads
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeping", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, when the transaction at hand has ended."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            pause = EVERY if self._leads() and self._round() else IDLE

    def _round(self) -> bool:
        """Delete what is too old; say whether that came to its end."""
        total: dict[str, int] = {}
        try:
            for what, gone in forget(self._database, self._ages, self._clock()):
                total[what] = total.get(what, 0) + gone
                if self._stop.wait(PAUSE) or not self._leads():
                    return False
        except DatabaseUnavailable:
            log.warning("what is too old is not deleted yet, the database does not answer")
            return False
        if any(total.values()):
            log.info("what was too old is deleted", **total)
        return True
