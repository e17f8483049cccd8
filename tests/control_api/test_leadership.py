"""Two real processes on one PostgreSQL: one leads; whatever happens to it, the other one follows within 15 s."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from control_api import schema
from control_api.db import MONITOR_LOCK, Database
from tests.control_api.processes import Service, free_port, wait_until
from tests.control_api.proxy import Proxy
from tests.control_api.servers import PostgreSQL, start_postgresql
from tests.control_api.world import SETTINGS

REPLACED = 15.0  # seconds
TICK = {"HEARTBEAT_TIMEOUT_MINUTES": "0.1"}  # a timeout of 6 s, so a tick of 1 s; leaders may idle for 5 s
Start = Callable[[str], Service]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    server = start_postgresql(free_port())
    yield server
    server.destroy()


@pytest.fixture
def start(server: PostgreSQL, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Start]:
    name = f"lead_{request.node.name}"[:60]
    server.admin("CREATE DATABASE {}", name)
    database = Database(server.url(name))
    schema.upgrade(database)
    database.close()
    made: list[Service] = []

    def make(url: str = "") -> Service:
        directory = tmp_path / str(len(made))
        directory.mkdir()
        environment = {**SETTINGS, **TICK, "DATABASE_URL": url or server.url(name)}
        made.append(Service(directory, **environment))
        return made[-1].start()

    yield make
    for service in made:
        if service.process is not None:
            service.kill(signal.SIGCONT)
            service.stop(signal.SIGKILL)
    server.admin("DROP DATABASE {} WITH (FORCE)", name)


def leads(service: Service) -> bool:
    return service.events().count("monitor: began") > 0


def test_two_processes_have_one_leader_and_a_killed_one_is_replaced(start: Start) -> None:
    first, second = start(""), start("")
    worker = first.register(hostname="w1")
    assert second.beat(worker).status_code == 200
    assert (leads(first), leads(second)) == (True, False)
    first.stop(signal.SIGKILL)
    wait_until(lambda: leads(second), REPLACED)
    assert second.workers() == {"w1": "ACTIVE"}
    wait_until(lambda: second.workers() == {"w1": "INACTIVE"}, 60)  # the new leader judges
    assert second.ready()["monitor"] is True


def test_a_suspended_leader_is_replaced_and_only_follows_when_it_wakes_up(
    start: Start, server: PostgreSQL
) -> None:
    first, second = start(""), start("")
    first.kill(signal.SIGSTOP)
    wait_until(lambda: leads(second), REPLACED)
    first.kill(signal.SIGCONT)
    wait_until(lambda: "monitor: the database does not answer" in first.events(), 60)
    wait_until(lambda: first.ready()["ready"], 60)
    assert first.events().count("monitor: began") == 1  # it has not led again
    assert lock_holders(server) == 1


def test_a_leader_that_is_cut_off_without_a_word_is_replaced(start: Start, server: PostgreSQL) -> None:
    """Half open: for PostgreSQL the leader's connection lives, and so does the lock, until the session ends."""
    proxy = Proxy(server.port or 0)
    name = "lead_test_a_leader_that_is_cut_off_without_a_word_is_replaced"[:60]
    try:
        first, second = start(server.url(name, proxy.port)), start("")
        assert (leads(first), leads(second)) == (True, False)
        proxy.fall_silent()
        wait_until(lambda: leads(second), REPLACED)
        assert second.ready()["ready"] is True
    finally:
        proxy.close()
    wait_until(lambda: "monitor: the database does not answer" in first.events(), 60)


def lock_holders(server: PostgreSQL) -> int:
    query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND granted"
    with psycopg.connect(server.url("postgres")) as connection:
        row = connection.execute(query, [MONITOR_LOCK & 0xFFFFFFFF]).fetchone()
    assert row is not None
    return int(row[0])
