"""Upgrading a database that is in use: from every earlier revision, with data in it, under an old process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from control_api import migrations, schema
from control_api.db import Database
from control_api.errors import SchemaInUse
from tests.control_api.processes import wait_until
from tests.control_api.servers import PostgreSQL
from tests.control_api.test_schema import GIN
from tests.control_api.world import HEAD

EARLIER = sorted(path.name[:4] for path in Path(migrations.__file__).parent.glob("versions/[0-9]*.py"))[:-1]
# What a process of the first revision says; every later one must bear it.
REGISTER = """
INSERT INTO workers (id, name, hostname, ip_address, status, intent, epoch, cpu_cores, ssh_host_keys, labels,
                     created_at, registered_at, updated_at)
VALUES (:id, :name, :name, '192.0.2.1', 'ACTIVE', 'active', 1, 4, '[]', '{}', :now, :now, :now)
"""
FIRST_BEAT = """
INSERT INTO heartbeats (worker_id, seq, node_ready, received_at, joined_at) VALUES (:id, 0, :yes, :now, :now)
"""
BEAT = "UPDATE heartbeats SET seq = seq + 1, received_at = :now WHERE worker_id = :id"
CHANGE = "UPDATE workers SET status = 'NOT_READY', updated_at = :now WHERE id = :id"
NOTE = """
INSERT INTO transitions (worker_id, from_status, to_status, reason, actor, evidence, at)
VALUES (:id, 'ACTIVE', 'NOT_READY', 'heard, but not ready', 'worker', '{}', :now)
"""
LIST = "SELECT w.id, w.hostname, w.status, h.seq FROM workers w JOIN heartbeats h ON h.worker_id = w.id"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path, postgresql: PostgreSQL) -> Iterator[Database]:
    """A database without a schema."""
    url, name = f"sqlite:///{tmp_path / 'old.db'}", f"old_{uuid4().hex[:12]}"
    if request.param == "postgresql":
        postgresql.admin("CREATE DATABASE {}", name)
        url = postgresql.url(name)
    database = Database(url)
    yield database
    database.close()
    if request.param == "postgresql":
        postgresql.admin("DROP DATABASE {} WITH (FORCE)", name)


class OldProcess:
    """Registers, beats, changes and lists with the words of the first revision, as fast as it can."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.workers: list[str] = []
        self.over = threading.Event()

    def add(self) -> None:
        worker_id = uuid4()
        one = {
            "id": worker_id.hex if self.database.is_sqlite else worker_id,
            "name": f"w{len(self.workers)}",
            "now": "2026-11-24 12:00:00.000000",
            "yes": True,
        }
        with self.database.transaction() as session:
            for statement in (REGISTER, FIRST_BEAT, BEAT, CHANGE, NOTE):
                session.execute(text(statement), one)
        with self.database.reading() as session:
            assert len(session.execute(text(LIST)).all()) == len(self.workers) + 1
        self.workers.append(worker_id.hex)

    def run(self) -> None:
        while not self.over.is_set():
            self.add()


@pytest.mark.parametrize("revision", EARLIER)
def test_every_earlier_revision_upgrades_under_an_old_process_that_works_on(
    database: Database, revision: str
) -> None:
    with database.migrating() as session:
        command.upgrade(schema.config(session.connection()), revision)
    old = OldProcess(database)
    for _ in range(20):
        old.add()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(old.run)
        try:
            wait_until(lambda: len(old.workers) > 22 or running.done(), 10)
            assert schema.upgrade(database, pause=0.1) == (revision, HEAD)
            reached = len(old.workers)
            wait_until(lambda: len(old.workers) > reached + 2 or running.done(), 10)
        finally:
            old.over.set()
        running.result()  # nothing that it said has failed
    with database.reading() as session:
        ids = {str(row.id).replace("-", "") for row in session.execute(text("SELECT id FROM workers"))}
        options = {"compare_type": True, "include_name": lambda name, _kind, _parents: name not in GIN}
        context = MigrationContext.configure(session.connection(), opts=options)
        assert compare_metadata(context, schema.metadata) == []
    assert ids == set(old.workers)


def test_a_schema_with_data_in_it_can_go_back_and_forth(database: Database) -> None:
    schema.upgrade(database)
    old = OldProcess(database)
    for _ in range(5):
        old.add()
    with database.migrating() as session:
        command.downgrade(schema.config(session.connection()), EARLIER[0])
    old.add()
    assert schema.upgrade(database) == (EARLIER[0], HEAD)
    old.add()
    assert len(old.workers) == 7


def test_an_upgrade_does_not_queue_behind_a_long_transaction(
    postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives up after a moment, in which others wait behind it, and changes nothing; then it tries again."""
    monkeypatch.setattr("control_api.db.TABLE_SECONDS", 0.3)
    postgresql.admin("CREATE DATABASE {}", "in_use")
    database = Database(postgresql.url("in_use"))
    with database.migrating() as session:
        command.upgrade(schema.config(session.connection()), EARLIER[0])
    with psycopg.connect(postgresql.url("in_use")) as report, ThreadPoolExecutor(1) as pool:
        report.execute("SELECT count(*) FROM workers")  # and goes on for hours
        monkeypatch.setattr(schema, "ATTEMPTS", 2)
        with pytest.raises(SchemaInUse, match="nothing was changed"):
            schema.upgrade(database, pause=0)
        with database.reading() as session:
            assert schema.revision(session.connection()) == EARLIER[0]
        monkeypatch.setattr(schema, "ATTEMPTS", 50)
        upgrading = pool.submit(schema.upgrade, database, pause=0.05)
        OldProcess(database).add()  # the service works meanwhile
        assert not upgrading.done()
        report.commit()
        assert upgrading.result(timeout=20) == (EARLIER[0], HEAD)
    database.close()
    postgresql.admin("DROP DATABASE {} WITH (FORCE)", "in_use")
