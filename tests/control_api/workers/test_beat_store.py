"""Storing batches on a real PostgreSQL: two processes at once, a server that goes away, cheap updates."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest
import structlog
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from control_api import schema
from control_api.db import Database
from control_api.enrolment.admission import Bootstrap
from control_api.errors import BadSettings, DatabaseUnavailable, InvalidCredential
from control_api.workers import lifecycle_store, operations, registry, watch_store
from control_api.workers import store as reading
from control_api.workers.beat_store import Beat, Outcome, PostgresBeats, SqliteBeats, Stored, beat_store
from control_api.workers.credentials import Credentials
from control_api.workers.heartbeats import _status
from control_api.workers.lifecycle import Intent, Moment, Node, Rules, Status
from control_api.workers.models import Heartbeat, Watch, Worker
from control_api.workers.operator_wire import Rest
from control_api.workers.registry import Doors, Entry
from control_api.workers.wire import Registration
from tests.control_api.servers import PostgreSQL, start_postgresql
from tests.control_api.workers.test_store import add
from tests.control_api.world import SETTINGS, TOKEN, Clock, make_settings, registration, running_api

DOORS = Doors(Bootstrap(TOKEN), Credentials([SETTINGS["WORKER_AUTH_SECRET"]]))


@pytest.fixture
def postgres_database(postgresql_url: str) -> Iterator[Database]:
    database = Database(postgresql_url)
    yield database
    database.close()


@pytest.fixture
def own_server() -> Iterator[PostgreSQL]:
    """A server that the test may stop."""
    server = start_postgresql()
    yield server
    server.destroy()


def populate(database: Database, count: int) -> list[UUID]:
    with database.transaction() as session:
        return [add(session, f"w{number}") for number in range(count)]


def beat(worker_id: UUID, *, epoch: int = 1, ready: bool = True) -> Beat:
    return Beat(worker_id, epoch, None, None, ready, 1.0, 2.0, 3.0, 4, None)


def test_every_database_has_its_way(database: Database, clock: Clock) -> None:
    kind = type(beat_store(database, clock))
    assert kind is (SqliteBeats if database.is_sqlite else PostgresBeats)


async def test_outcomes_come_in_the_order_of_the_beats(database: Database, clock: Clock) -> None:
    ids = populate(database, 4)
    store = beat_store(database, clock)
    beats = [beat(ids[3]), beat(ids[0], epoch=2), beat(ids[1], ready=False), beat(UUID(int=0)), beat(ids[2])]
    outcomes = await store.write(beats)
    await store.close()
    fine = Stored(Intent.ACTIVE, True, Status.ACTIVE, True, True, False, None)
    assert [getattr(o, "__name__", o) for o in outcomes] == [
        fine,
        "InvalidCredential",
        fine._replace(node_ready=False),
        "WorkerNotFound",
        fine,
    ]


@pytest.mark.parametrize("seconds_ago", [None, 0, 60, 60.001])
async def test_a_stored_heartbeat_tells_what_k3s_said_and_whether_that_counts(
    database: Database, clock: Clock, seconds_ago: float | None
) -> None:
    """The answer to a heartbeat is the status that everybody reads at that moment."""
    with database.transaction() as session:
        ids = [add(session, str(node), node_state=node) for node in [*Node, None]]
        watch_store.save_watch(session, clock(), clock())
        if seconds_ago is not None:
            session.execute(update(Watch).values(nodes_seen_at=clock() - timedelta(seconds=seconds_ago)))
    store = beat_store(database, clock)
    outcomes = await store.write([beat(worker_id) for worker_id in ids])
    await store.close()
    knows_nodes = seconds_ago in {0, 60}
    fine = Stored(Intent.ACTIVE, True, Status.ACTIVE, True, True, knows_nodes, None)
    assert outcomes == [fine._replace(node=node) for node in [*Node, None]]
    with database.reading() as session:
        at = reading.moment(session, clock(), Rules())
        known = dict(session.execute(select(Worker.id, lifecycle_store.status(at)).join(Heartbeat)).all())
    assert [_status(outcome) for outcome in outcomes] == [known[worker_id] for worker_id in ids]


async def test_two_processes_with_the_same_workers_do_not_deadlock(
    postgres_database: Database, clock: Clock
) -> None:
    ids = populate(postgres_database, 300)
    stores = [PostgresBeats(postgres_database, clock) for _ in range(2)]

    async def batches(store: PostgresBeats, seed: int) -> int:
        order = random.Random(seed)
        stored = 0
        for _ in range(25):
            outcomes = await store.write([beat(worker_id) for worker_id in order.sample(ids, 250)])
            stored += sum(isinstance(outcome, Stored) for outcome in outcomes)
        return stored

    assert await asyncio.gather(*(batches(store, seed) for seed, store in enumerate(stores))) == [6250, 6250]
    for store in stores:
        await store.close()
    with psycopg.connect(postgres_database.url.set(drivername="postgresql").render_as_string()) as connection:
        row = connection.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        assert row.fetchone() == (0,)


async def test_heartbeats_are_hot_updates(postgres_database: Database, clock: Clock) -> None:
    ids = populate(postgres_database, 200)
    store = PostgresBeats(postgres_database, clock)
    for _ in range(20):
        clock.advance(30)
        await store.write([beat(worker_id) for worker_id in ids])
    connection = await store._connected()
    await connection.execute("SELECT pg_stat_force_next_flush()")
    cursor = await connection.execute(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'heartbeats'"
    )
    updates, hot = await cursor.fetchone() or (0, 0)
    await store.close()
    assert updates == 4000
    assert hot / updates > 0.95


async def test_a_server_that_went_away_is_a_503_until_it_is_back(
    own_server: PostgreSQL, clock: Clock
) -> None:
    database = Database(own_server.url("postgres"))
    schema.upgrade(database)
    database.close()
    async with running_api(make_settings(own_server.url("postgres")), clock) as api:
        worker = await api.register()
        assert (await api.beat(worker)).status_code == 200
        admin = api.admin()
        await asyncio.to_thread(own_server.stop, "immediate")
        for _ in range(2):
            answer = await api.beat(worker)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "DATABASE_UNAVAILABLE")
            assert int(answer.headers["retry-after"]) > 0
        listed = await api.client.get("/api/workers", headers=admin)
        assert (listed.status_code, listed.json()["error"]["code"]) == (503, "DATABASE_UNAVAILABLE")
        assert (await api.client.get("/readyz")).status_code == 503
        assert (await api.client.get("/healthz")).status_code == 200
        await asyncio.to_thread(own_server.start)
        assert (await api.beat(worker)).status_code == 200
        assert len((await api.get("/api/workers"))["workers"]) == 1


async def test_without_the_right_to_a_function_a_start_names_it_and_a_service_answers_503_until_it_is_granted(
    postgres_database: Database, clock: Clock
) -> None:
    [worker_id] = populate(postgres_database, 1)
    name = postgres_database.url.database
    with postgres_database.transaction() as session:
        session.execute(text("CREATE ROLE poor LOGIN"))
        session.execute(text("GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA public TO poor"))
        session.execute(text(f'REVOKE TEMPORARY ON DATABASE "{name}" FROM PUBLIC'))
    theirs = Database(postgres_database.url.set(username="poor").render_as_string())
    store = PostgresBeats(theirs, clock)
    with pytest.raises(BadSettings, match=f"run `GRANT TEMPORARY ON DATABASE {name} TO poor`"):
        schema.require_current(theirs)
    with structlog.testing.capture_logs() as lines:
        store._tell("AdminShutdown")  # what the connection before ended with
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable):
                await store.write([beat(worker_id)])
    assert [line["reason"] for line in lines] == ["AdminShutdown", "InsufficientPrivilege"]
    with postgres_database.transaction() as session:
        session.execute(text(f'GRANT TEMPORARY ON DATABASE "{name}" TO poor'))
    schema.require_current(theirs)
    assert isinstance((await store.write([beat(worker_id)]))[0], Stored)
    await store.close()
    theirs.close()
    with postgres_database.transaction() as session:
        session.execute(text("DROP OWNED BY poor"))
        session.execute(text("DROP ROLE poor"))


async def test_a_deadlock_is_tried_again(
    postgres_database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    [worker_id] = populate(postgres_database, 1)
    store = PostgresBeats(postgres_database, clock)
    real, failures = store._write, [psycopg.errors.DeadlockDetected(), psycopg.errors.DeadlockDetected()]

    async def unlucky(connection: psycopg.AsyncConnection, beats: list[Beat]) -> object:
        if failures:
            raise failures.pop()
        return await real(connection, beats)

    monkeypatch.setattr(store, "_write", unlucky)
    assert isinstance((await store.write([beat(worker_id)]))[0], Stored)
    failures += [psycopg.errors.DeadlockDetected()] * 3
    with pytest.raises(DatabaseUnavailable):
        await store.write([beat(worker_id)])
    await store.close()


def register(session: Session, at: Moment) -> Entry:
    request = Registration.model_validate(registration(machineId="a" * 32, registrationToken=None))
    return registry.register(session, DOORS, request, bearer=TOKEN, peer=None, at=at)


def rest(session: Session, worker_id: UUID, at: Moment) -> None:
    operations.rest(
        session, worker_id, Rest.model_validate({"reason": "new disks"}), actor="user:op", peer=None, at=at
    )


HEARD = Stored(Intent.ACTIVE, True, Status.ACTIVE, True, True, False, None)


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        pytest.param(lambda s, _, at: register(s, at), InvalidCredential, id="registered again"),
        pytest.param(
            rest, HEARD._replace(intent=Intent.MAINTENANCE, recorded=Status.MAINTENANCE), id="resting"
        ),
        pytest.param(
            lambda s, _, at: reading.record_changes(s, at, actor="monitor"),
            HEARD._replace(recorded=Status.INACTIVE),
            id="silent",
        ),
    ],
)
async def test_a_batch_sees_what_was_committed_while_it_waited(
    postgres_database: Database,
    clock: Clock,
    change: Callable[[Session, UUID, Moment], object],
    outcome: Outcome,
) -> None:
    store = PostgresBeats(postgres_database, clock)
    with postgres_database.transaction() as session:
        entry = register(session, Moment(clock(), Rules()))
    worker_id = entry.worker.id
    await store.write([beat(worker_id)])
    with postgres_database.transaction() as session:
        reading.record_changes(session, Moment(clock(), Rules()), actor="worker")
    clock.advance(200)
    with postgres_database.transaction() as session:
        await asyncio.to_thread(change, session, worker_id, Moment(clock(), Rules()))
        late = asyncio.create_task(store.write([beat(worker_id)]))
        await asyncio.sleep(0.2)
        assert not late.done()
    assert await late == [outcome]
    await store.close()
