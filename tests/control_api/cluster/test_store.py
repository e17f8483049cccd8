"""Writing what K3s says: all nodes at once, and only what is new."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import event, select

from control_api.cluster import store
from control_api.cluster.nodes import NodeReport
from control_api.db import Database
from control_api.workers import watch_store
from control_api.workers.lifecycle import Node
from control_api.workers.models import Worker
from tests.control_api.workers.test_store import add
from tests.control_api.world import START


def report(name: str, state: Node = Node.READY, capacity: int | None = 110) -> NodeReport:
    return NodeReport(name, state, capacity, START, "uid", "1")


def saved(database: Database) -> dict[str, tuple[Any, ...]]:
    with database.reading() as session:
        columns = (Worker.hostname, Worker.node_state, Worker.node_pods, Worker.node_pod_capacity)
        return {name: tuple(values) for name, *values in session.execute(select(*columns))}


def test_every_worker_gets_what_k3s_says_of_its_node(database: Database) -> None:
    with database.transaction() as session:
        watch_store.save_watch(session, START, START)
        ids = {name: add(session, name) for name in ("ready", "idle", "broken", "missing")}
        add(session, "gone", removed_at=START)
    reports = [report("ready"), report("idle"), report("broken", Node.NOT_READY, None), report("master")]
    with database.transaction() as session:
        changed = store.save_nodes(session, reports, {"ready": 7, "broken": 2, "master": 9}, START)
    assert set(changed) == set(ids.values())
    assert saved(database) == {
        "ready": (Node.READY, 7, 110),
        "idle": (Node.READY, 0, 110),
        "broken": (Node.NOT_READY, 2, None),
        "missing": (Node.MISSING, None, None),
        "gone": (None, None, None),
    }
    with database.transaction() as session:
        assert store.save_nodes(session, reports, {"ready": 8, "broken": 2}, START) == [ids["ready"]]
    with database.transaction() as session:
        assert store.save_nodes(session, reports, {"ready": 8, "broken": 2}, START) == []


def test_a_node_that_is_ready_wipes_out_why_it_had_not_joined(database: Database) -> None:
    with database.transaction() as session:
        watch_store.save_watch(session, START, START)
        for name in ("ready", "broken"):
            add(session, name, join_error="K3s refused the join token.")
        store.save_nodes(session, [report("ready"), report("broken", Node.NOT_READY)], {}, START)
    with database.reading() as session:
        told = dict(row for row in session.execute(select(Worker.hostname, Worker.join_error)))
    assert told == {"ready": None, "broken": "K3s refused the join token."}


def test_before_the_monitor_has_looked_nothing_is_written(database: Database) -> None:
    with database.transaction() as session:
        add(session, "w1")
        assert store.save_nodes(session, [report("w1")], {}, START) == []
    assert saved(database) == {"w1": (None, None, None)}


def test_thousands_of_nodes_are_a_handful_of_statements(database: Database) -> None:
    count = 5000
    with database.transaction() as session:
        watch_store.save_watch(session, START, START)
        for number in range(count):
            add(session, f"w{number:05}")
    reports = [report(f"w{number:05}") for number in range(count)]
    statements: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    with database.transaction() as session:
        assert len(store.save_nodes(session, reports, {}, START)) == count
    assert len(statements) <= 10
    statements.clear()
    with database.transaction() as session:
        later = START + timedelta(seconds=5)
        assert store.save_nodes(session, [*reports[1:], report("w00000", Node.NOT_READY)], {}, later)
    assert len(statements) <= 4
