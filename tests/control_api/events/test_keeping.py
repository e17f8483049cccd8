"""Forgetting what is too old: in small batches, by the leader, and never the newest transition of a worker."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import insert, select

from control_api.db import Database
from control_api.events import event_store, keeping, webhook_store
from control_api.events.keeping import Ages, Keeping
from control_api.events.models import Delivery, State
from control_api.workers import history_store
from control_api.workers.models import Transition, Worker
from tests.control_api.processes import wait_until
from tests.control_api.world import START, Api, Clock

DAY = timedelta(days=1)
AUDIT = timedelta(days=365)


def notes(database: Database, days: list[int]) -> None:
    """Write a note for each of these ages in days."""
    with database.transaction() as session:
        for day in days:
            history_store.record_note(session, "x", evidence={}, now=START - day * DAY)


def kept(database: Database) -> list[int]:
    with database.reading() as session:
        return list(session.scalars(select(Transition.id).order_by(Transition.id)))


def forget(database: Database, days: int | None) -> list[int]:
    """Forget what is older than so many days; return how many events each transaction deleted."""
    ages = Ages(audit=AUDIT, history=None if days is None else days * DAY)
    return [gone for what, gone in keeping.forget(database, ages, START) if what == "events"]


def history(database: Database, worker_id: UUID) -> list[Transition]:
    with database.reading() as session:
        rows = select(Transition).where(Transition.worker_id == worker_id).order_by(Transition.id)
        return list(session.scalars(rows))


def test_what_is_older_is_forgotten_and_nothing_else(database: Database) -> None:
    notes(database, [40, 31, 30, 29, 1])
    assert forget(database, 30) == [2, 0]
    assert kept(database) == [3, 4, 5]


def test_without_the_setting_nothing_is_forgotten(database: Database) -> None:
    notes(database, [36500, 4000, 1])
    assert forget(database, None) == []
    assert kept(database) == [1, 2, 3]


def test_the_very_newest_stays_so_that_no_id_comes_twice(database: Database) -> None:
    notes(database, [40, 39, 38])
    forget(database, 30)
    assert kept(database) == [3]
    notes(database, [0])
    assert kept(database) == [3, 4]


def test_it_goes_in_small_batches(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_store, "FORGOTTEN_AT_ONCE", 2)
    notes(database, [40] * 5 + [1])
    assert forget(database, 30) == [2, 2, 1, 0]
    assert kept(database) == [6]


def test_a_moment_that_a_wrong_clock_wrote_stops_nothing(database: Database) -> None:
    notes(database, [40, -9000, 39, 1])
    assert forget(database, 30) == [2, 0]
    assert kept(database) == [2, 4]


def test_history_without_a_gap_begins_behind_what_was_forgotten(database: Database) -> None:
    notes(database, [40, 39, 1])
    with database.reading() as session:
        assert event_store.forgotten(session) == 0
    forget(database, 30)
    forget(database, 60)  # and it never goes back
    with database.reading() as session:
        assert event_store.forgotten(session) == 2


async def test_every_worker_keeps_its_newest_transition_and_leads_to_the_present(
    api: Api, clock: Clock
) -> None:
    """One has been quiet for months, one has just changed, one was removed long ago."""
    clock.advance(-100 * DAY.total_seconds())
    quiet, lively, removed = [await api.register(hostname=name) for name in ("quiet", "lively", "removed")]
    for worker in (quiet, lively):
        await api.beat(worker)
    await api.client.delete(f"/api/workers/{removed['workerId']}", headers=api.admin())
    clock.advance(100 * DAY.total_seconds())
    path = f"/api/workers/{lively['workerId']}/maintenance"
    await api.client.post(path, json={"reason": "disk"}, headers=api.admin())
    database = api.service.database
    before = {one["workerId"]: history(database, UUID(one["workerId"])) for one in (quiet, lively, removed)}
    assert [len(rows) for rows in before.values()] == [2, 3, 2]

    assert forget(database, 30) == [4, 0]
    after = {worker_id: history(database, UUID(worker_id)) for worker_id in before}
    assert {key: [row.id for row in rows] for key, rows in after.items()} == {
        key: [rows[-1].id] for key, rows in before.items()
    }
    with database.reading() as session:
        workers = {str(worker.id): worker for worker in session.scalars(select(Worker))}
    leads_to = {worker_id: rows[-1].to_status for worker_id, rows in after.items()}
    assert leads_to == {
        worker_id: None if workers[worker_id].removed_at else workers[worker_id].status for worker_id in after
    }
    assert list(leads_to.values()) == ["ACTIVE", "MAINTENANCE", None]


async def test_what_a_worker_kept_goes_once_it_is_no_longer_its_newest(api: Api, clock: Clock) -> None:
    clock.advance(-100 * DAY.total_seconds())
    worker = await api.register()
    assert forget(api.service.database, 30) == [0, 0]
    clock.advance(100 * DAY.total_seconds())
    await api.beat(worker)
    assert forget(api.service.database, 30) == [1, 0]
    assert [row.to_status for row in history(api.service.database, UUID(worker["workerId"]))] == ["ACTIVE"]


def test_deliveries_that_ended_are_forgotten_after_a_week(database: Database) -> None:
    webhook_id = uuid4()
    with database.transaction() as session:
        common = {"kinds": [], "statuses": [], "enabled": True, "cursor": 0}
        times = {"created_at": START, "updated_at": START}
        webhook_store.add(session, id=webhook_id, url="https://a.example.org/", secret="x", **common, **times)
        for event_id, (state, days) in enumerate(
            [(State.DELIVERED, 8), (State.FAILED, 8), (State.PENDING, 8), (State.DELIVERED, 6)], start=1
        ):
            at = START - days * DAY
            values = {"webhook_id": webhook_id, "event_id": event_id, "state": state, "attempts": 1}
            session.execute(insert(Delivery).values(**values, begun_at=at, next_at=at))
    ages = Ages(audit=AUDIT, history=None)
    assert list(keeping.forget(database, ages, START)) == [("audit", 0), ("deliveries", 2)]
    with database.reading() as session:
        left = session.scalars(select(Delivery.event_id).order_by(Delivery.id)).all()
    assert left == [3, 4]


@pytest.fixture
def old(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.setattr(keeping, "IDLE", 0.02)
    notes(database, [40, 39, 1])
    return database


def test_only_the_leader_forgets_and_a_new_leader_begins_soon(old: Database, clock: Clock) -> None:
    leads = False
    thread = Keeping(old, Ages(AUDIT, 30 * DAY), leads=lambda: leads, clock=clock)
    thread.start()
    try:
        with pytest.raises(AssertionError):
            wait_until(lambda: kept(old) != [1, 2, 3], 0.3)
        leads = True
        wait_until(lambda: kept(old) == [3], 10)
    finally:
        thread.stop()
