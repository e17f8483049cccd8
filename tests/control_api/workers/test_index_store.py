"""Processes of the version before change workers during an upgrade, and know nothing of the index of statuses."""

from __future__ import annotations

import pytest
from sqlalchemy import select, text, update

from control_api.db import Database
from control_api.workers import index_store
from control_api.workers.models import StatusIndex, Worker
from control_api.workers.monitor import INDEX_SECONDS, Monitor
from tests.control_api.test_upgrades import OldProcess
from tests.control_api.workers.test_monitor import CAUTION, RULES
from tests.control_api.world import Api

OLD_REMOVAL = "UPDATE workers SET removed_at = updated_at, status = 'INACTIVE' WHERE hostname = :name"
OLD_RENAMING = "UPDATE workers SET hostname = 'renamed', name = 'renamed' WHERE hostname = :name"
OLD_CHANGE = "UPDATE workers SET status = 'ACTIVE' WHERE hostname = :name"


def indexed(database: Database) -> dict[str, str]:
    with database.reading() as session:
        return {row.hostname: row.status.value for row in session.scalars(select(StatusIndex))}


def repair(database: Database) -> int:
    with database.transaction() as session:
        return index_store.repair(session)


def say(database: Database, statement: str, name: str) -> None:
    with database.transaction() as session:
        session.execute(text(statement), {"name": name})


def test_a_worker_that_an_old_process_registered_is_found(database: Database) -> None:
    old = OldProcess(database)
    old.add()
    old.add()
    assert indexed(database) == {}
    assert repair(database) == 2
    assert indexed(database) == {"w0": "NOT_READY", "w1": "NOT_READY"}
    assert repair(database) == 0


@pytest.mark.parametrize(
    ("statement", "then"),
    [
        (OLD_CHANGE, {"w0": "ACTIVE", "w1": "NOT_READY"}),
        (OLD_RENAMING, {"renamed": "NOT_READY", "w1": "NOT_READY"}),
        (OLD_REMOVAL, {"w1": "NOT_READY"}),
    ],
)
def test_what_an_old_process_changed_is_found(
    database: Database, statement: str, then: dict[str, str]
) -> None:
    old = OldProcess(database)
    old.add()
    old.add()
    repair(database)
    say(database, statement, "w0")
    assert repair(database) == 1
    assert indexed(database) == then


def test_a_worker_that_is_being_changed_is_not_waited_for(postgresql_url: str) -> None:
    database = Database(postgresql_url)
    OldProcess(database).add()
    with database.transaction() as session:
        session.execute(update(Worker).values(notes="held"))
        assert repair(database) == 0
    assert repair(database) == 1
    database.close()


async def test_a_list_by_status_shows_such_a_worker_within_a_minute(api: Api) -> None:
    clock, database = api.clock, api.service.database
    monitor = Monitor(database, rules=RULES, caution=CAUTION, clock=clock, monotonic=clock.monotonic)
    monitor.tick()
    OldProcess(database).add()
    say(database, OLD_CHANGE, "w0")
    monitor.tick()
    assert (await api.get("/api/workers?status=ACTIVE"))["workers"] == []
    clock.advance(INDEX_SECONDS)
    monitor.tick()
    found = (await api.get("/api/workers?status=ACTIVE"))["workers"]
    assert [(worker["hostname"], worker["status"]) for worker in found] == [("w0", "ACTIVE")]
    monitor.stop()
