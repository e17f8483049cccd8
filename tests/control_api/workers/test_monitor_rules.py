"""The monitor's rules one by one, on a clock that the test moves: detection, guard, goodbye, the leader's own rest."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session

from control_api.db import Database
from control_api.errors import DatabaseUnavailable
from control_api.workers import store, watch_store
from control_api.workers.lifecycle import Moment, Status
from control_api.workers.models import Heartbeat, Transition
from control_api.workers.monitor import Caution, Memory, Monitor, judge
from control_api.workers.watch_store import Census
from tests.control_api.workers.test_monitor import (
    CAUTION,
    MASS,
    QUIET,
    RULES,
    changes,
    heard,
    look,
    make_monitor,
    settled,
    tick,
)
from tests.control_api.workers.test_store import add
from tests.control_api.world import START, Api, Clock, bearer, make_settings


@pytest.fixture
def monitor(database: Database, clock: Clock) -> Iterator[Monitor]:
    """A leader whose first grace is over, of a fleet that is not there yet."""
    monitor = make_monitor(database, clock)
    monitor.tick()
    tick(monitor, clock, 95)
    yield monitor
    monitor.stop()


def fleet(database: Database, clock: Clock, size: int) -> list[UUID]:
    """Add workers that are heard at this very moment."""
    with database.transaction() as session:
        return [add(session, f"w{number:03}", received_at=clock()) for number in range(size)]


def fell_silent(database: Database) -> dict[UUID, timedelta]:
    """Return how long after its last heartbeat each worker was recorded INACTIVE."""
    query = (
        select(Transition.worker_id, Transition.at, Heartbeat.received_at)
        .join(Heartbeat, Heartbeat.worker_id == Transition.worker_id)
        .where(Transition.to_status == Status.INACTIVE)
    )
    with database.reading() as session:
        return {row[0]: row[1] - row[2] for row in session.execute(query)}


# ---- detection


def test_a_dead_worker_is_inactive_after_90_to_95_seconds_in_every_phase_of_tick_and_beat(
    database: Database, monitor: Monitor, clock: Clock
) -> None:
    """Fifty workers die at fifty moments between two looks; two hundred others live, so the guard is silent."""
    ids = fleet(database, clock, 250)
    for step, worker_id in enumerate(ids[:50]):
        clock.advance(0.1)
        heard(database, clock, worker_id)
        assert step < 49 or clock() == START + timedelta(seconds=100)
    heard(database, clock, *ids[50:])
    monitor.tick()
    for _ in range(25):
        heard(database, clock, *ids[50:])
        tick(monitor, clock, 5)
    silences = fell_silent(database)
    assert set(silences) == set(ids[:50])
    assert all(timedelta(seconds=90) < silence <= timedelta(seconds=95) for silence in silences.values())


@given(st.floats(min_value=0.05, max_value=60))
def test_the_pace_lets_a_worker_lose_two_heartbeats_and_the_monitor_look_often_enough(minutes: float) -> None:
    settings = make_settings(
        "sqlite:///x.db", HEARTBEAT_TIMEOUT_MINUTES=minutes, MUSTER_JOIN_GRACE_MINUTES=60
    )
    timeout = settings.rules.timeout.total_seconds()
    assert settings.heartbeat_seconds * 3 <= timeout
    assert settings.tick_seconds <= 5
    assert minutes > 1.5 or timeout + settings.tick_seconds <= 95


@pytest.mark.parametrize("tick_seconds", [0.5, 1, 5])
def test_a_leader_that_is_lost_is_replaced_within_15_seconds(tick_seconds: float) -> None:
    caution = Caution(tick=timedelta(seconds=tick_seconds), interval=timedelta(seconds=30))
    assert caution.idle + caution.candidacy < timedelta(seconds=15)
    assert caution.idle >= 2 * caution.tick


# ---- the mass-failure guard


@pytest.mark.parametrize(("size", "dead"), [(3, 2), (2, 2), (10, 3), (100, 30)])
def test_two_workers_or_thirty_percent_are_believed_at_once(
    database: Database, monitor: Monitor, clock: Clock, size: int, dead: int
) -> None:
    ids = fleet(database, clock, size)
    for _ in range(19):
        heard(database, clock, *ids[dead:])
        tick(monitor, clock, 5)
    assert set(fell_silent(database)) == set(ids[:dead])


def test_mass_silence_is_held_told_and_then_believed(
    database: Database, monitor: Monitor, clock: Clock
) -> None:
    ids = fleet(database, clock, 10)
    told = []
    for _ in range(43):
        heard(database, clock, *ids[4:])
        clock.advance(5)
        told += [(note, (clock() - START).total_seconds() - 95) for note in monitor.tick()]
    assert told == [("mass silence", 85), ("mass silence over", 210)]
    assert set(fell_silent(database).values()) == {timedelta(seconds=205)}  # 85 + 120
    assert set(fell_silent(database)) == set(ids[:4])


def test_a_fleet_that_dies_one_by_one_is_recorded_one_by_one(
    database: Database, monitor: Monitor, clock: Clock
) -> None:
    """A worker every twenty seconds: never more than 30 % at once, so nobody is held."""
    ids = fleet(database, clock, 20)
    for step in range(80):
        heard(database, clock, *ids[min(step // 4, 12) :])
        tick(monitor, clock, 5)
    silences = fell_silent(database)
    assert set(silences) == set(ids[:12])
    assert max(silences.values()) <= timedelta(seconds=95)


def test_a_fleet_that_dies_fast_one_by_one_is_held_once_and_then_recorded(
    database: Database, monitor: Monitor, clock: Clock
) -> None:
    ids = fleet(database, clock, 20)
    notes: list[str] = []
    for step in range(100):
        heard(database, clock, *ids[min(step, 20) :])
        clock.advance(5)
        notes += monitor.tick()
    silences = fell_silent(database)
    assert set(silences) == set(ids)
    assert max(silences.values()) <= timedelta(seconds=215)  # a timeout, a hold, a look
    assert notes.count("mass silence") <= 2


@given(st.lists(st.booleans(), min_size=200, max_size=200))
def test_a_fleet_that_flickers_cannot_keep_the_monitor_from_judging(flicker: list[bool]) -> None:
    """Whatever comes and goes: in any 125 s there is a look outside every grace, which records who is silent."""
    clock = Clock()
    memory = settled(clock)
    judged = clock()
    for mass in flicker:
        clock.advance(5)
        memory = look(memory, MASS if mass else QUIET, clock)
        if memory.grace_until <= clock():
            judged = clock()
        assert clock() - judged <= timedelta(seconds=125)


# ---- goodbye


async def test_a_worker_that_says_goodbye_is_inactive_at_once_even_in_a_grace(api: Api) -> None:
    worker = await api.register()
    await api.beat(worker)
    api.service.monitor.tick()  # the leader has just begun: nobody is declared silent
    path = f"/api/workers/{worker['workerId']}"
    headers = bearer(worker["credential"])
    answer = await api.client.post(f"{path}/leave", json={"reason": "reboot"}, headers=headers)
    assert answer.json()["data"]["status"] == "INACTIVE"
    history = await api.get(f"{path}/transitions")
    assert history["transitions"][0]["reason"] == "said goodbye: reboot"
    api.service.monitor.tick()
    assert (await api.get(path))["status"] == "INACTIVE"  # no look revives it
    assert (await api.beat(worker)).json()["data"]["status"] == "ACTIVE"  # its own word does
    api.service.monitor.stop()


# ---- the leader's own rest


def test_a_leader_that_was_suspended_grants_grace_before_it_judges(
    database: Database, monitor: Monitor, clock: Clock
) -> None:
    """Its process slept for ten minutes, and so did whoever would have stored heartbeats."""
    ids = fleet(database, clock, 10)
    clock.advance(600)
    assert "stalled" in monitor.tick()
    tick(monitor, clock, 30)
    heard(database, clock, *ids[2:])
    tick(monitor, clock, 55)
    assert changes(database) == []
    heard(database, clock, *ids[2:])
    tick(monitor, clock, 10)
    assert set(fell_silent(database)) == set(ids[:2])


def end_sessions_with_locks(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        query = "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory'"
        connection.execute(query)


def test_a_leader_that_wakes_up_in_the_middle_of_a_look_writes_nothing(
    postgresql_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has counted and is about to record; meanwhile its session has ended and another one leads."""
    databases = [Database(postgresql_url) for _ in range(2)]
    sleeper, other = (make_monitor(database, clock) for database in databases)
    ids = fleet(databases[0], clock, 2)
    sleeper.tick()
    tick(sleeper, clock, 95)
    count = watch_store.census

    def count_and_sleep(session: Session, at: Moment, **limits: Any) -> Census:
        counted = count(session, at, **limits)
        monkeypatch.setattr(watch_store, "census", count)
        end_sessions_with_locks(postgresql_url)
        heard(databases[1], clock, *ids)
        assert other.tick() == ["began"]
        return counted

    monkeypatch.setattr(watch_store, "census", count_and_sleep)
    known = changes(databases[1])
    clock.advance(5)
    with pytest.raises(DatabaseUnavailable):
        sleeper.tick()
    assert (sleeper.leads, other.leads) == (False, True)
    assert sleeper.tick() == []
    with databases[1].reading() as session:
        watch = store.watch(session)
    assert watch is not None
    assert watch.grace_until == clock() + RULES.timeout  # as the new leader wrote it
    assert [change for change in changes(databases[1])[len(known) :] if change[1] is Status.INACTIVE] == []
    for monitor, database in zip((sleeper, other), databases, strict=True):
        monitor.stop()
        database.close()


def test_leadership_does_not_survive_a_connection_that_was_quietly_replaced(
    postgresql_url: str, clock: Clock
) -> None:
    database = Database(postgresql_url)
    monitor = make_monitor(database, clock)
    monitor.tick()
    connection = monitor._leadership._connection
    assert connection is not None
    connection.invalidate()  # the next statement on it would connect anew, without the lock
    with pytest.raises(DatabaseUnavailable):
        monitor.tick()
    assert not monitor.leads
    assert monitor.tick() == ["began"]
    monitor.stop()
    database.close()


def test_the_session_of_a_leader_that_asks_nothing_ends_and_frees_the_lock(
    postgresql_url: str, clock: Clock
) -> None:
    from control_api.db import Leadership
    from tests.control_api.processes import wait_until

    database = Database(postgresql_url)
    idle, other = Leadership(database, idle=0.2), Leadership(database)
    assert idle.acquire()
    wait_until(other.acquire, 5)
    with pytest.raises(DatabaseUnavailable), idle.transaction():
        pass
    assert (idle.held, other.held) == (False, True)
    other.release()
    database.close()


# ---- its own age


def test_the_age_of_the_last_look_is_told(database: Database, clock: Clock) -> None:
    monitor = make_monitor(database, clock)
    ages = [monitor.age_seconds]
    monitor._look()
    ages.append(monitor.age_seconds)
    clock.advance(7)
    ages.append(monitor.age_seconds)
    monitor.stop()
    assert ages == [None, 0, 7]


async def test_a_loop_that_is_stuck_makes_the_service_unready(
    sqlite_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor = sqlite_api.service.monitor
    monkeypatch.setattr(monitor, "_monotonic", sqlite_api.clock.monotonic)
    seen = []
    for seconds in (0, 15, 1):
        if not seen:
            monitor._look()
        sqlite_api.clock.advance(seconds)
        answer = await sqlite_api.client.get("/readyz")
        seen.append((answer.status_code, answer.json()["monitor"], answer.json()["database"]))
    assert seen == [(200, True, True), (200, True, True), (503, False, True)]


def test_judging_is_a_pure_function_of_what_it_is_given(clock: Clock) -> None:
    memory: Memory = settled(clock)
    clock.advance(5)
    given = {"now": clock(), "monotonic": clock.monotonic(), "rules": RULES, "caution": CAUTION}
    assert judge(memory, MASS, **given) == judge(memory, MASS, **given)
