"""What holds whatever happens: random histories of a few machines, against the real registry, stores and monitor."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from control_api.cluster import store as cluster_store
from control_api.cluster.nodes import NodeReport
from control_api.db import Database
from control_api.enrolment.admission import Bootstrap
from control_api.errors import MusterError
from control_api.workers import operations, registry, store, wire
from control_api.workers.beat_store import Beat, Stored, beat_store
from control_api.workers.credentials import Claim, Credentials
from control_api.workers.lifecycle import Intent, Moment, Node, Rules, Status
from control_api.workers.models import StatusIndex, Transition, Watch, Worker
from control_api.workers.monitor import Caution, Monitor
from control_api.workers.operator_wire import Creation, Rest
from control_api.workers.registry import Doors
from tests.control_api.world import START, TOKEN, Clock, registration

MACHINES = ("a", "b", "c")
RULES = Rules()
OPERATOR = "user:op"
CAUTION = Caution(tick=timedelta(seconds=5), interval=timedelta(seconds=30))
DOORS = Doors(Bootstrap(TOKEN), Credentials(["a-secret-of-thirty-two-characters"]))
machine = st.sampled_from(MACHINES)
EVENTS = st.one_of(
    st.tuples(st.just("register"), machine),
    st.tuples(st.just("restart"), machine),
    st.tuples(st.just("beat"), machine, st.booleans()),
    st.tuples(st.just("beat"), machine, st.just(True)),
    st.tuples(st.just("leave"), machine),
    st.tuples(st.just("expect"), machine),
    st.tuples(st.just("maintain"), machine, st.sampled_from([None, 20, 200])),
    st.tuples(st.just("resume"), machine),
    st.tuples(st.just("remove"), machine),
    st.tuples(st.just("nodes"), st.dictionaries(machine, st.booleans())),
    st.tuples(st.just("wait"), st.sampled_from([1, 29, 65, 700])),
    st.tuples(st.just("run"), st.sampled_from([10, 100, 640])),
    st.tuples(st.just("tick")),
)


class World:
    """The machines, the operator and the monitor; and what intent each worker must have."""

    def __init__(self, database: Database, loop: asyncio.Runner) -> None:
        self.database = database
        self.clock = Clock()
        self.loop = loop
        self.beats = beat_store(database, self.clock)
        self.monitor = Monitor(
            database, rules=RULES, caution=CAUTION, clock=self.clock, monotonic=self.clock.monotonic
        )
        self.claims: dict[str, Claim] = {}
        self.credentials: dict[str, str] = {}
        self.intents: dict[UUID, tuple[Intent, datetime | None]] = {}

    def close(self) -> None:
        self.monitor.stop()
        self.loop.run(self.beats.close())

    def at(self, session: Session) -> Moment:
        return store.moment(session, self.clock(), RULES)

    def worker_of(self, session: Session, name: str) -> UUID | None:
        return session.scalar(select(Worker.id).where(Worker.hostname == name, Worker.removed_at.is_(None)))

    # -- events

    def register(self, name: str, bearer: str | None = TOKEN) -> None:
        body = registration(hostname=name, machineId=name * 32, registrationToken=None)
        request = wire.Registration.model_validate(body)
        with self.database.transaction() as session:
            entry = registry.register(session, DOORS, request, bearer=bearer, peer=None, at=self.at(session))
        self.credentials[name] = entry.credential
        claim = DOORS.credentials.check(entry.credential)
        assert claim is not None
        self.claims[name] = claim
        self.intents.setdefault(entry.worker.id, (Intent.ACTIVE, None))

    def restart(self, name: str) -> None:
        self.register(name, self.credentials.get(name, TOKEN))

    def beat(self, name: str, ready: bool) -> None:
        if claim := self.claims.get(name):
            beat = Beat(claim.worker_id, claim.epoch, None, None, ready, 1.0, 1.0, 1.0, 1, 1.0)
            (outcome,) = self.loop.run(self.beats.write([beat]))
            if isinstance(outcome, Stored):
                with self.database.transaction() as session:
                    at = self.at(session)
                    store.record_changes(session, at, actor="worker", only=[claim.worker_id])

    def leave(self, name: str) -> None:
        if claim := self.claims.get(name):
            with self.database.transaction() as session:
                registry.leave(session, claim, "reboot", self.at(session))

    def expect(self, name: str) -> None:
        request = Creation(hostname=name, ip_address="192.0.2.9")
        with self.database.transaction() as session:
            made = operations.create(session, request, actor=OPERATOR, peer=None, at=self.at(session))
        self.intents[made.id] = (Intent.ACTIVE, None)

    def maintain(self, name: str, seconds: int | None) -> None:
        until = None if seconds is None else self.clock() + timedelta(seconds=seconds)
        with self.database.transaction() as session:
            if worker_id := self.worker_of(session, name):
                rest = Rest(reason="x", until=until)
                operations.rest(session, worker_id, rest, actor=OPERATOR, peer=None, at=self.at(session))
                self.intents[worker_id] = (Intent.MAINTENANCE, until)

    def resume(self, name: str) -> None:
        with self.database.transaction() as session:
            if worker_id := self.worker_of(session, name):
                operations.resume(session, worker_id, actor=OPERATOR, peer=None, at=self.at(session))
                self.intents[worker_id] = (Intent.ACTIVE, None)

    def remove(self, name: str) -> None:
        with self.database.transaction() as session:
            if worker_id := self.worker_of(session, name):
                operations.remove(session, worker_id, actor=OPERATOR, peer=None, at=self.at(session))
                self.intents[worker_id] = (Intent.ACTIVE, None)

    def nodes(self, ready: dict[str, bool]) -> None:
        with self.database.transaction() as session:
            reports = [
                NodeReport(name, Node.READY if is_ready else Node.NOT_READY, None, START, name, "1")
                for name, is_ready in ready.items()
            ]
            cluster_store.save_nodes(session, reports, None, self.clock())

    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    def run(self, seconds: int) -> None:
        """Let time pass with a monitor that looks, so that no grace spares the silent for ever."""
        for _ in range(seconds // 10):
            self.clock.advance(10)
            self.tick()

    def tick(self) -> None:
        self.monitor.tick()
        for worker_id, (intent, until) in self.intents.items():
            if intent is Intent.MAINTENANCE and until is not None and until <= self.clock():
                self.intents[worker_id] = (Intent.ACTIVE, None)
        with self.database.reading() as session:
            at = self.at(session)
            for worker in workers(session):
                if worker.removed_at is None:
                    assert worker.status is wire.view(worker, at).status

    # -- what must hold after every event

    def check(self) -> None:
        with self.database.reading() as session:
            found = workers(session)
            listed = dict(session.execute(select(StatusIndex.worker_id, StatusIndex.status)).all())
            histories = history(session)
        assert {worker.id: worker.intent for worker in found} == {
            worker_id: intent for worker_id, (intent, _) in self.intents.items()
        }
        assert listed == {worker.id: worker.status for worker in found if worker.removed_at is None}
        for worker in found:
            replay(worker, histories[worker.id])


def workers(session: Session) -> list[Worker]:
    ids = session.scalars(select(Worker.id)).all()
    return [found for worker_id in ids if (found := store.worker(session, worker_id))]


def history(session: Session) -> dict[UUID, list[Transition]]:
    found: dict[UUID, list[Transition]] = {}
    of_workers = select(Transition).where(
        Transition.worker_id.is_not(None)
    )  # the others are notes of the monitor
    for transition in session.scalars(of_workers.order_by(Transition.id)):
        found.setdefault(transition.worker_id, []).append(transition)
    return found


def replay(worker: Worker, changes: list[Transition]) -> None:
    """The history leads, change by change, from nothing to the present; and nobody but operators maintains."""
    status: Status | None = None
    for change in changes:
        assert change.from_status is status
        status = change.to_status
        if status is Status.MAINTENANCE:
            assert change.actor == OPERATOR
        if change.from_status is Status.MAINTENANCE:
            assert change.actor in {OPERATOR, "monitor"}
            by_monitor = change.actor == "monitor"
            assert by_monitor == (change.reason == "the maintenance's time was up")
        assert change.reason
    assert status is (worker.status if worker.removed_at is None else None)
    assert (worker.status is Status.MAINTENANCE) == (worker.intent is Intent.MAINTENANCE)
    assert [change.at for change in changes] == sorted(change.at for change in changes)


@contextmanager
def world(database: Database) -> Iterator[World]:
    """A world without a past: an example begins where no other has been."""
    with database.transaction() as session:
        for table in (Transition, StatusIndex, Worker, Watch):
            session.execute(delete(table))
    with asyncio.Runner() as loop:
        made = World(database, loop)
        try:
            yield made
        finally:
            made.close()


def live(database: Database, events: list[tuple[Any, ...]]) -> None:
    with world(database) as here:
        for name, *arguments in events:
            with suppress(MusterError):  # a refusal; it must have changed nothing
                getattr(here, name)(*arguments)
            here.check()
        here.tick()
        here.check()


histories = st.lists(EVENTS, min_size=1, max_size=30)
quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@given(events=histories)
@settings(max_examples=40, deadline=None, suppress_health_check=quiet)
def test_whatever_happens_the_rules_hold_on_sqlite(sqlite_url: str, events: list[tuple[Any, ...]]) -> None:
    database = Database(sqlite_url)
    live(database, events)
    database.close()


@given(events=histories)
@settings(max_examples=10, deadline=None, suppress_health_check=quiet)
def test_whatever_happens_the_rules_hold_on_postgresql(
    postgresql_url: str, events: list[tuple[Any, ...]]
) -> None:
    database = Database(postgresql_url)
    live(database, events)
    database.close()


WHOLE_LIFE: list[tuple[Any, ...]] = [
    ("expect", "a"),
    ("run", 640),
    ("register", "a"),
    ("beat", "a", True),
    ("nodes", {"a": False}),
    ("tick",),
    ("maintain", "a", 20),
    ("run", 100),
    ("nodes", {"a": True}),
    ("beat", "a", True),
    ("run", 100),
    ("maintain", "a", None),
    ("leave", "a"),
    ("restart", "a"),
    ("resume", "a"),
    ("beat", "a", False),
    ("remove", "a"),
]


def test_a_life_that_meets_every_status(database: Database) -> None:
    """The rules above are about something: this one history goes through every status and every actor."""
    live(database, WHOLE_LIFE)
    with database.reading() as session:
        (changes,) = history(session).values()
    assert {change.to_status for change in changes} == {*Status, None}
    assert {change.actor for change in changes} == {OPERATOR, "monitor", "worker"}


@pytest.mark.parametrize(
    "broken",
    [
        {"intent": Intent.MAINTENANCE},
        {"status": Status.NOT_READY},
    ],
)
def test_a_broken_rule_would_be_noticed(database: Database, broken: dict[str, Any]) -> None:
    """Whoever writes past the one way is found out by the check."""
    with world(database) as here:
        here.register("a")
        here.check()
        with database.transaction() as session:
            session.execute(Worker.__table__.update().values(**broken))
        with pytest.raises(AssertionError):
            here.check()
