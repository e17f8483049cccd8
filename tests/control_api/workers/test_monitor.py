"""The monitor on a clock that the test moves: when it judges, when it doubts itself, who leads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, select, update

from control_api.db import Database
from control_api.workers import store
from control_api.workers.lifecycle import Moment, Rules, Status
from control_api.workers.models import Heartbeat, Transition, Watch, Worker
from control_api.workers.monitor import Caution, Memory, Monitor, judge
from control_api.workers.watch_store import Census
from tests.control_api.workers.test_store import add
from tests.control_api.world import START, Clock

RULES = Rules()
CAUTION = Caution(tick=timedelta(seconds=5), interval=timedelta(seconds=30))
QUIET = Census(live=10, late=0, due=0)
MASS = Census(live=10, late=4, due=1)

# ---- the decision, pure


def look(last: Memory | None, census: Census, clock: Clock) -> Memory:
    return judge(last, census, now=clock(), monotonic=clock.monotonic(), rules=RULES, caution=CAUTION)


def settled(clock: Clock) -> Memory:
    """A leader that has looked every five seconds until its first grace was over."""
    memory = look(None, QUIET, clock)
    for _ in range(20):
        clock.advance(5)
        memory = look(memory, QUIET, clock)
    return memory


def test_a_leader_that_begins_waits_a_full_timeout(clock: Clock) -> None:
    memory = look(None, QUIET, clock)
    assert (memory.grace_until, memory.notes) == (START + timedelta(seconds=90), ("began",))


def test_regular_looks_prolong_no_grace(clock: Clock) -> None:
    memory = settled(clock)
    assert (memory.grace_until, memory.notes) == (START + timedelta(seconds=90), ())
    assert memory.grace_until < clock()


@pytest.mark.parametrize(("pause", "stalled"), [(5, False), (15, False), (15.1, True), (3600, True)])
def test_a_loop_that_stalled_waits_a_full_timeout(clock: Clock, pause: float, stalled: bool) -> None:
    memory = settled(clock)
    clock.advance(pause)
    memory = look(memory, QUIET, clock)
    assert ("stalled" in memory.notes) == stalled
    assert (memory.grace_until == clock() + timedelta(seconds=90)) == stalled


@pytest.mark.parametrize("jump", [3600, -3600, 6, -6])
def test_a_wall_clock_that_jumped_means_a_full_timeout_from_its_new_time(clock: Clock, jump: float) -> None:
    memory = settled(clock)
    clock.advance(5)
    clock.jump(jump)
    memory = look(memory, QUIET, clock)
    assert memory.notes == ("clock jumped",)
    assert memory.grace_until == clock() + timedelta(seconds=90)


def test_a_slow_clock_correction_is_no_jump(clock: Clock) -> None:
    memory = settled(clock)
    clock.advance(5)
    clock.jump(0.5)
    assert look(memory, QUIET, clock).notes == ()


def test_mass_silence_is_held_for_two_minutes_and_then_believed(clock: Clock) -> None:
    memory = look(settled(clock), MASS, clock)
    began = clock()
    assert (memory.notes, memory.grace_until) == (("mass silence",), began + timedelta(seconds=120))
    for _ in range(60):
        clock.advance(5)
        memory = look(memory, MASS, clock)
        assert (memory.notes, memory.grace_until) == ((), began + timedelta(seconds=120))
    clock.advance(5)
    memory = look(memory, QUIET, clock)
    assert memory.notes == ("mass silence over",)
    clock.advance(5)
    assert look(memory, MASS, clock).notes == ("mass silence",)


@pytest.mark.parametrize(
    ("census", "held"),
    [
        (Census(live=10, late=3, due=1), False),  # 30 % is not more than 30 %
        (Census(live=10, late=4, due=1), True),
        (Census(live=3, late=2, due=2), False),  # more than 30 %, but only two
        (Census(live=3, late=3, due=1), True),
        (Census(live=1000, late=300, due=300), False),
        (Census(live=1000, late=301, due=1), True),
        (Census(live=10, late=10, due=0), False),  # late, but nobody is about to expire
        (Census(live=0, late=0, due=0), False),
    ],
)
def test_the_guard_speaks_for_more_than_thirty_percent_and_more_than_two(
    clock: Clock, census: Census, held: bool
) -> None:
    assert ("mass silence" in look(settled(clock), census, clock).notes) == held


def test_the_guard_is_not_spent_on_a_grace_that_lasts_anyway(clock: Clock) -> None:
    memory = look(None, MASS, clock)
    for _ in range(15):
        clock.advance(5)
        memory = look(memory, MASS, clock)
        assert "mass silence" not in memory.notes
    clock.advance(5)  # ten seconds before the end of the grace
    memory = look(memory, MASS, clock)
    assert memory.notes == ("mass silence",)
    assert memory.grace_until == clock() + timedelta(seconds=120)


EVENTS = st.lists(
    st.tuples(
        st.floats(min_value=0, max_value=100),
        st.floats(min_value=-100, max_value=100),
        st.tuples(*[st.integers(min_value=0, max_value=50)] * 3),
    ),
    max_size=40,
)


@given(EVENTS)
def test_grace_never_reaches_further_than_one_hold(
    events: list[tuple[float, float, tuple[int, int, int]]],
) -> None:
    """Whatever happens, from the last look on the fleet is judged again after at most two minutes."""
    clock = Clock()
    memory = look(None, QUIET, clock)
    for elapsed, jump, counts in events:
        clock.advance(elapsed)
        clock.jump(jump)
        memory = look(memory, Census(*counts), clock)
        assert memory.grace_until <= clock() + CAUTION.guard_hold + CAUTION.clock_jump


# ---- the loop, on a database


@pytest.fixture
def monitor(database: Database, clock: Clock) -> Iterator[Monitor]:
    monitor = make_monitor(database, clock)
    yield monitor
    monitor.stop()


def make_monitor(database: Database, clock: Clock, **changes: Any) -> Monitor:
    return Monitor(
        database, rules=RULES, caution=replace(CAUTION, **changes), clock=clock, monotonic=clock.monotonic
    )


def tick(monitor: Monitor, clock: Clock, seconds: float) -> None:
    """Let time pass as it does: with a look every five seconds."""
    for _ in range(round(seconds / 5)):
        clock.advance(5)
        monitor.tick()


def heard(database: Database, clock: Clock, *ids: UUID) -> None:
    """Let the workers be heard now (as far as the monitor is concerned)."""
    with database.transaction() as session:
        session.execute(update(Heartbeat).where(Heartbeat.worker_id.in_(ids)).values(received_at=clock()))


def recorded(database: Database, worker_id: UUID) -> Status:
    with database.reading() as session:
        return session.scalars(select(Worker.status).where(Worker.id == worker_id)).one()


def changes(database: Database) -> list[tuple[Status | None, Status, str]]:
    with database.reading() as session:
        rows = session.scalars(
            select(Transition).where(Transition.worker_id.is_not(None)).order_by(Transition.id)
        ).all()
        return [(row.from_status, row.to_status, row.actor) for row in rows]


def test_a_dead_worker_is_inactive_95_seconds_after_its_last_heartbeat_at_most(
    database: Database, monitor: Monitor, clock: Clock
) -> None:
    with database.transaction() as session:
        dies, lives = add(session, "dies"), add(session, "lives")
    monitor.tick()
    tick(monitor, clock, 300)  # the first grace is over; keep both alive meanwhile
    for phase in (0.0, 1.0, 2.5, 4.9):
        clock.advance(phase)
        heard(database, clock, dies, lives)
        with database.transaction() as session:
            store.record_changes(session, Moment(clock(), RULES), actor="worker")
        died_at = clock()
        clock.advance(5 - phase)
        monitor.tick()
        while recorded(database, dies) is Status.ACTIVE:
            heard(database, clock, lives)
            tick(monitor, clock, 5)
        assert timedelta(seconds=90) < clock() - died_at <= timedelta(seconds=95)
        assert recorded(database, lives) is Status.ACTIVE


def test_a_look_that_finds_nothing_new_locks_nothing(
    postgresql_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most looks do; to lock and judge a whole fleet for nothing costs as much as all its heartbeats."""
    database = Database(postgresql_url)
    with database.transaction() as session:
        worker_id = add(session, "w1")
    monitor = make_monitor(database, clock)
    tick(monitor, clock, 100)  # it fell silent with the end of the first grace
    assert recorded(database, worker_id) is Status.INACTIVE
    said: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *args: said.append(args[2]))
    tick(monitor, clock, 5)
    assert [statement for statement in said if "FOR UPDATE OF workers, heartbeats" in statement] == []
    heard(database, clock, worker_id)
    tick(monitor, clock, 5)
    assert [statement for statement in said if "FOR UPDATE OF workers, heartbeats" in statement] != []
    assert recorded(database, worker_id) is Status.ACTIVE
    monitor.stop()
    database.close()


def test_a_worker_that_comes_back_is_active_again(database: Database, monitor: Monitor, clock: Clock) -> None:
    with database.transaction() as session:
        worker_id = add(session, "w1")
    monitor.tick()
    tick(monitor, clock, 100)
    assert recorded(database, worker_id) is Status.INACTIVE
    heard(database, clock, worker_id)
    tick(monitor, clock, 5)
    assert changes(database) == [
        (Status.ACTIVE, Status.INACTIVE, "monitor"),
        (Status.INACTIVE, Status.ACTIVE, "monitor"),
    ]


def test_a_restart_after_a_long_outage_marks_nobody_inactive(database: Database, clock: Clock) -> None:
    with database.transaction() as session:
        ids = [add(session, f"w{number}") for number in range(20)]
    clock.advance(3600)  # the control API was down for an hour
    monitor = make_monitor(database, clock)
    monitor.tick()
    with database.reading() as session:
        at = store.moment(session, clock(), RULES)
        assert {tally.status: tally.workers for tally in store.tallies(session, at)} == {Status.ACTIVE: 20}
    tick(monitor, clock, 25)
    heard(database, clock, *ids)
    tick(monitor, clock, 85)
    assert changes(database) == []
    monitor.stop()


def test_a_restart_does_not_revive_who_was_dead_before(database: Database, clock: Clock) -> None:
    with database.transaction() as session:
        dead = add(session, "dead", status=Status.INACTIVE, received_at=START - timedelta(days=1))
    monitor = make_monitor(database, clock)
    tick(monitor, clock, 200)
    assert (recorded(database, dead), changes(database)) == (Status.INACTIVE, [])
    monitor.stop()


def test_a_restart_detects_who_died_meanwhile_a_full_timeout_later(database: Database, clock: Clock) -> None:
    with database.transaction() as session:
        worker_id = add(session, "w1")
    clock.advance(3600)
    monitor = make_monitor(database, clock)
    monitor.tick()
    tick(monitor, clock, 85)
    assert recorded(database, worker_id) is Status.ACTIVE
    tick(monitor, clock, 5)
    assert recorded(database, worker_id) is Status.INACTIVE
    monitor.stop()


def test_an_uplink_that_fails_is_held_for_two_minutes(
    database: Database, monitor: Monitor, clock: Clock
) -> None:
    """All workers fall silent within one interval, each at its own moment, and come back before the hold ends."""
    with database.transaction() as session:
        ids = [
            add(session, f"w{number:02}", received_at=START + timedelta(seconds=number))
            for number in range(30)
        ]
    clock.advance(30)
    monitor.tick()
    for _ in range(4):
        tick(monitor, clock, 25)
        heard(database, clock, *ids)
    for number, worker_id in enumerate(ids):
        with database.transaction() as session:
            moment = clock() - timedelta(seconds=number)
            session.execute(
                update(Heartbeat).where(Heartbeat.worker_id == worker_id).values(received_at=moment)
            )
    tick(monitor, clock, 165)
    assert changes(database) == []
    heard(database, clock, *ids)
    tick(monitor, clock, 60)
    assert changes(database) == []


def test_a_fleet_that_stays_silent_is_believed_after_the_hold(
    database: Database, monitor: Monitor, clock: Clock
) -> None:
    with database.transaction() as session:
        for number in range(10):
            add(session, f"w{number}")
    monitor.tick()
    tick(monitor, clock, 85)
    tick(monitor, clock, 100)
    assert changes(database) == []
    tick(monitor, clock, 30)
    assert changes(database) == [(Status.ACTIVE, Status.INACTIVE, "monitor")] * 10


def test_readers_see_the_hold_too(database: Database, monitor: Monitor, clock: Clock) -> None:
    with database.transaction() as session:
        for number in range(10):
            add(session, f"w{number}")
    monitor.tick()
    for _ in range(36):  # three minutes: past the timeout, within the hold
        tick(monitor, clock, 5)
        with database.reading() as session:
            at = store.moment(session, clock(), RULES)
            assert {tally.status for tally in store.tallies(session, at)} == {Status.ACTIVE}
            late = Moment(
                clock() + timedelta(seconds=4.9), RULES, at.grace_until
            )  # just before the next look
            assert {tally.status for tally in store.tallies(session, late)} == {Status.ACTIVE}


@pytest.mark.parametrize("jump", [3600, -3600])
def test_a_jump_of_the_wall_clock_flips_nobody(
    database: Database, monitor: Monitor, clock: Clock, jump: float
) -> None:
    with database.transaction() as session:
        lives, dies = add(session, "lives"), add(session, "dies")
    monitor.tick()
    for _ in range(5):
        tick(monitor, clock, 25)
        heard(database, clock, lives, dies)
    clock.jump(jump)
    tick(monitor, clock, 25)
    assert changes(database) == []
    for _ in range(4):
        heard(database, clock, lives)
        tick(monitor, clock, 25)
    assert (recorded(database, lives), recorded(database, dies)) == (Status.ACTIVE, Status.INACTIVE)


def test_a_worker_that_never_beats_is_pending_for_ten_minutes(
    database: Database, monitor: Monitor, clock: Clock
) -> None:
    with database.transaction() as session:
        facts = {"status": Status.PENDING, "joined_at": None, "received_at": None, "registered_at": START}
        worker_id = add(session, "w1", **facts)
    monitor.tick()
    tick(monitor, clock, 600)
    assert recorded(database, worker_id) is Status.PENDING
    tick(monitor, clock, 5)
    assert recorded(database, worker_id) is Status.INACTIVE


def test_every_look_is_written_down(database: Database, monitor: Monitor, clock: Clock) -> None:
    monitor.tick()
    tick(monitor, clock, 10)
    with database.reading() as session:
        watch = session.scalars(select(Watch)).one()
    assert (watch.ticked_at, watch.grace_until) == (clock(), START + timedelta(seconds=90))


def test_the_loop_is_alive_while_it_looks(database: Database, monitor: Monitor, clock: Clock) -> None:
    seen = [monitor.is_alive]
    monitor.start()
    seen.append(monitor.is_alive)
    clock.advance(16)
    seen.append(monitor.is_alive)
    assert seen == [False, True, False]


def test_a_heartbeat_that_is_just_being_stored_is_not_overruled(postgresql_url: str, clock: Clock) -> None:
    """The monitor has seen the old heartbeat; it waits for the new one and judges by that."""
    database = Database(postgresql_url)
    with database.transaction() as session:
        worker_id = add(session, "w1")
    monitor = make_monitor(database, clock)
    monitor.tick()
    tick(monitor, clock, 90)
    clock.advance(5)
    with psycopg.connect(postgresql_url) as beat, ThreadPoolExecutor(1) as pool:
        beat.execute("UPDATE heartbeats SET received_at = %s", [clock()])
        look = pool.submit(monitor.tick)
        time.sleep(0.3)
        waits = not look.done()
        beat.commit()
        look.result(timeout=10)
    assert waits
    assert recorded(database, worker_id) is Status.ACTIVE
    assert changes(database) == []
    monitor.stop()
    database.close()


def test_one_of_two_processes_leads(postgresql_url: str, clock: Clock) -> None:
    databases = [Database(postgresql_url) for _ in range(2)]
    first, second = (make_monitor(database, clock) for database in databases)
    assert first.tick() == ["began"]
    assert second.tick() == []
    assert (first.leads, second.leads) == (True, False)
    first.stop()
    assert second.tick() == ["began"]
    assert second.leads
    second.stop()
    for database in databases:
        database.close()


def test_a_leader_that_loses_its_connection_leads_no_more(postgresql_url: str, clock: Clock) -> None:
    databases = [Database(postgresql_url) for _ in range(2)]
    first, second = (make_monitor(database, clock) for database in databases)
    first.tick()
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
    for _ in range(50):
        if second.tick():
            break
    assert second.leads
    first._look()
    assert not first.leads
    first._look()
    assert not first.leads
    for monitor, database in zip((first, second), databases, strict=True):
        monitor.stop()
        database.close()
