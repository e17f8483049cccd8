"""The queries, on both databases."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from control_api.db import Database
from control_api.workers import inventory_store, lifecycle, lifecycle_store, store, watch_store
from control_api.workers.lifecycle import Intent, Moment, Node, Rules, Status
from control_api.workers.models import Heartbeat, StatusIndex, Transition, Worker
from tests.control_api.world import START

RULES = Rules()


def add(session: Session, hostname: str, **values: Any) -> UUID:
    """Add a worker as it is stored when it is heard and ready, but for `values` of either table."""
    worker_id = uuid4()
    of_worker = {
        "id": worker_id,
        "name": hostname,
        "hostname": hostname,
        "ip_address": "192.0.2.1",
        "status": Status.ACTIVE,
        "intent": Intent.ACTIVE,
        "epoch": 1,
        "cpu_cores": 4,
        "ssh_host_keys": [],
        "labels": {},
        "created_at": START - timedelta(days=1),
        "registered_at": START - timedelta(days=1),
        "updated_at": START,
    }
    of_beat = {"worker_id": worker_id, "seq": 0, "node_ready": True, "joined_at": START, "received_at": START}
    for name, value in values.items():
        (of_beat if name in Heartbeat.__table__.columns else of_worker)[name] = value
    session.add_all([Worker(**of_worker), Heartbeat(**of_beat)])
    session.flush()
    store.index_statuses(session, [worker_id])
    return worker_id


def statuses(session: Session) -> dict[str, Status]:
    return dict(row for row in session.execute(select(Worker.hostname, Worker.status)))


def of(worker: Worker, beat: Heartbeat, at: Moment) -> Status:
    health = lifecycle.health(
        approved=worker.approved,
        recorded=worker.status,
        ever_ready=beat.joined_at is not None,
        left=beat.left_at is not None,
        node_ready=beat.node_ready,
        node=worker.node_state,
        registered_at=worker.registered_at,
        last_heartbeat_at=beat.received_at,
        at=at,
    )
    return lifecycle.status(worker.intent, health)


def ago(seconds: float) -> datetime:
    return START - timedelta(seconds=seconds)


def test_the_expression_says_what_the_function_says_in_every_case(database: Database) -> None:
    """2 × 5 × 2 × 2 × 2 × 2 × 4 × 6 workers at 9 moments: the whole table, and both sides of every border."""
    silences = [None, -5.0, 0.0, 90.0, 90.001, 600.001]
    booleans, nodes = [[True, False]] * 4, [*Node, None]
    cases = list(itertools.product(Intent, Status, *booleans, nodes, silences))
    with database.transaction() as session:
        for number, case in enumerate(cases):
            intent, recorded, approved, ever_ready, left, node_ready, node, silence = case
            add(
                session,
                f"w{number}",
                intent=intent,
                approved=approved,
                status=recorded,
                joined_at=START if ever_ready else None,
                left_at=START if left else None,
                left_reason=("reboot", "", None)[number % 3] if left else None,
                node_ready=node_ready,
                node_state=node,
                received_at=None if silence is None else ago(silence),
                registered_at=ago(300) if silence is None else ago(1000),
            )
    graces = (None, START, START + timedelta(seconds=1))
    for grace_until, seen_at in itertools.product(graces, (None, ago(60), ago(60.001))):
        at = Moment(START, RULES, grace_until, seen_at)
        with database.reading() as session:
            seen = select(Worker.id, *lifecycle_store.seen(at)).join_from(Worker, Heartbeat).subquery()
            query = select(Worker, Heartbeat, seen.c.to_status, lifecycle_store.reason(session, at, seen))
            query = query.join_from(Worker, Heartbeat).join(seen, seen.c.id == Worker.id)
            rows = session.execute(query).all()
            counted = watch_store.census(session, at, late=RULES.timeout, due=RULES.timeout)
        assert len(rows) == len(cases)
        without_grace = replace(at, grace_until=None)
        changed = {worker.id for worker, beat, *_ in rows if of(worker, beat, without_grace) != worker.status}
        assert counted.changed == len(changed)
        for worker, beat, status, reason in rows:
            expected = of(worker, beat, at)
            assert (
                expected == worker.status or worker.id in changed
            )  # who counts without a grace misses nobody
            why = lifecycle.why(
                expected,
                approved=worker.approved,
                left_reason=None if beat.left_at is None else beat.left_reason or "",
                silence=START - lifecycle.last_heard(worker.registered_at, beat.received_at),
                node_ready=beat.node_ready,
                node=worker.node_state,
                at=at,
            )
            case = (worker.intent, worker.status, worker.node_state, beat.received_at, at)
            assert (status, reason) == (expected, why), case


def test_changes_are_recorded_with_a_transition_each(database: Database) -> None:
    at = Moment(START, RULES)
    with database.transaction() as session:
        silent = add(session, "silent", received_at=ago(95))
        broken = add(session, "broken", node_ready=False)
        add(session, "fine")
        back = add(session, "back", status=Status.INACTIVE)
        left = add(session, "left", left_at=START, left_reason="reboot")
    with database.transaction() as session:
        changes = store.record_changes(session, at, actor="monitor")
        recorded = session.scalars(select(Transition)).all()
    assert {(c.from_status, c.to_status, c.workers, frozenset(c.examples)) for c in changes} == {
        (Status.ACTIVE, Status.INACTIVE, 2, frozenset({silent, left})),
        (Status.ACTIVE, Status.NOT_READY, 1, frozenset({broken})),
        (Status.INACTIVE, Status.ACTIVE, 1, frozenset({back})),
    }
    assert {(t.worker_id, t.from_status, t.to_status, t.reason) for t in recorded} == {
        (silent, Status.ACTIVE, Status.INACTIVE, "not heard for 95 s"),
        (broken, Status.ACTIVE, Status.NOT_READY, "heard, but it says that its node is not ready"),
        (back, Status.INACTIVE, Status.ACTIVE, "heard, its node is ready"),
        (left, Status.ACTIVE, Status.INACTIVE, "said goodbye: reboot"),
    }
    with database.reading() as session:
        assert statuses(session) == {
            "silent": Status.INACTIVE,
            "broken": Status.NOT_READY,
            "fine": Status.ACTIVE,
            "back": Status.ACTIVE,
            "left": Status.INACTIVE,
        }
        stored = session.scalars(select(Transition).where(Transition.worker_id == silent)).one()
        assert (stored.from_status, stored.to_status, stored.actor, stored.at) == (
            Status.ACTIVE,
            Status.INACTIVE,
            "monitor",
            START,
        )
        assert stored.evidence == {
            "lastHeartbeat": ago(95).isoformat(timespec="microseconds"),
            "silenceSeconds": 95.0,
            "nodeReady": True,
            "nodeState": None,
            "nodesSeenAt": None,
        }


def test_recording_twice_changes_nothing_the_second_time(database: Database) -> None:
    with database.transaction() as session:
        add(session, "silent", received_at=ago(95))
        assert len(store.record_changes(session, Moment(START, RULES), actor="monitor")) == 1
    with database.transaction() as session:
        assert store.record_changes(session, Moment(START, RULES), actor="monitor") == []


def test_recording_can_be_limited_to_some_workers(database: Database) -> None:
    with database.transaction() as session:
        one = add(session, "one", received_at=ago(95))
        add(session, "two", received_at=ago(95))
    with database.transaction() as session:
        store.record_changes(session, Moment(START, RULES), actor="worker", only=[one])
        assert statuses(session) == {"one": Status.INACTIVE, "two": Status.ACTIVE}


@pytest.mark.parametrize("many", [True, False])
def test_thousands_expire_in_one_look(database: Database, many: bool) -> None:
    with database.transaction() as session:
        for number in range(2500):
            add(session, f"w{number}", received_at=ago(95))
    with database.transaction() as session:
        changes = store.record_changes(session, Moment(START, RULES), actor="monitor", many=many)
        assert [(change.workers, len(change.examples)) for change in changes] == [(2500, 10)]
        assert set(statuses(session).values()) == {Status.INACTIVE}
        assert len(session.scalars(select(Transition)).all()) == 2500
        assert set(session.scalars(select(StatusIndex.status))) == {Status.INACTIVE}


def test_a_removed_worker_is_left_alone(database: Database) -> None:
    with database.transaction() as session:
        add(session, "gone", received_at=ago(95), removed_at=START)
    with database.transaction() as session:
        assert store.record_changes(session, Moment(START, RULES), actor="monitor") == []
        assert list(inventory_store.rows(session, Moment(START, RULES))) == []
        assert store.tallies(session, Moment(START, RULES)) == []


def test_tallies_sum_capacity_of_all_and_use_of_those_that_are_heard(database: Database) -> None:
    use = {"cpu_usage": 50.0, "memory_usage": 25.0, "disk_usage": 10.0, "current_pods": 3}
    size = {"cpu_cores": 8, "total_memory_bytes": 1000, "total_storage_bytes": 10_000}
    with database.transaction() as session:
        add(session, "one", **use, **size)
        add(session, "two", **use, **size)
        add(session, "silent", received_at=ago(95), **use, **size)
        add(session, "bare", max_pods=105)
    with database.reading() as session:
        found = {tally.status: tally for tally in store.tallies(session, Moment(START, RULES))}
    assert found == {
        Status.ACTIVE: store.Tally(Status.ACTIVE, 3, 20, 2000, 20_000, 8.0, 500.0, 2000.0, 6, 325),
        Status.INACTIVE: store.Tally(Status.INACTIVE, 1, 8, 1000, 10_000, 0.0, 0.0, 0.0, 0, 110),
    }
