"""The inventory: its rows, its entity tag, and that a large one needs little memory."""

from __future__ import annotations

import json
import tracemalloc
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from control_api.db import Database
from control_api.workers import inventory, inventory_store
from control_api.workers.lifecycle import Intent, Moment, Node, Rules, Status
from control_api.workers.models import Heartbeat, Worker
from control_api.workers.wire import InventoryWorker
from tests.control_api.workers.test_store import add, ago
from tests.control_api.world import INVENTORY_KEY, START, Api, Clock, bearer

AT = Moment(START, Rules())
KNOWS_NODES = Moment(START, Rules(), nodes_seen_at=START)
FULL = {
    "name": "chosen",
    "ip_address": "192.0.2.7",
    "cpu_model": "x",
    "architecture": "amd64",
    "total_memory_bytes": 2**40,
    "total_storage_bytes": 2**50,
    "operating_system": "Debian",
    "kernel_version": "6.1",
    "agent_version": "1",
    "ssh_host_keys": ["ssh-ed25519 AAAA"],
    "labels": {"zone": "a", "wörd": "ä"},
    "ansible_host": "h",
    "ansible_port": 22,
    "ansible_user": "u",
    "max_pods": 7,
    "machine_id": "c" * 32,
    "node_state": Node.READY,
}
CHANGES: list[dict[str, Any]] = [
    {"name": "other"},
    {"hostname": "other"},
    {"ip_address": "192.0.2.8"},
    {"status": Status.INACTIVE, "received_at": ago(95)},
    {"intent": Intent.MAINTENANCE},
    {"approved": False},
    {"node_ready": False},
    {"left_at": START},
    {"node_state": Node.NOT_READY},
    {"node_state": None},
    {"cpu_cores": 5},
    {"cpu_model": None},
    {"architecture": "arm64"},
    {"total_memory_bytes": None},
    {"total_storage_bytes": 1},
    {"operating_system": "Ubuntu"},
    {"kernel_version": None},
    {"agent_version": None},
    {"ssh_host_keys": []},
    {"labels": {"zone": "b"}},
    {"labels": {}},
    {"ansible_host": None},
    {"ansible_port": 23},
    {"ansible_user": None},
    {"max_pods": None},
    {"machine_id": "d" * 32},
    {"removed_at": START},
]


def content(session: Session, at: Moment) -> bytes:
    return b"".join(inventory.pieces(inventory.document(inventory_store.rows(session, at))))


@pytest.mark.parametrize("change", CHANGES, ids=[",".join(change) for change in CHANGES])
def test_whatever_changes_in_the_answer_changes_the_tag_and_nothing_else_does(
    database: Database, change: dict[str, Any]
) -> None:
    with database.transaction() as session:
        changed = add(session, "one", **FULL)
        add(session, "two")
        before = inventory_store.fingerprint(session, KNOWS_NODES), content(session, KNOWS_NODES)
        assert inventory_store.fingerprint(session, KNOWS_NODES) == before[0]
        for table, key in ((Worker, Worker.id), (Heartbeat, Heartbeat.worker_id)):
            if values := {name: value for name, value in change.items() if name in table.__table__.columns}:
                session.execute(update(table).where(key == changed).values(**values))
        after = inventory_store.fingerprint(session, KNOWS_NODES), content(session, KNOWS_NODES)
    assert before[1] != after[1]
    assert before[0] != after[0]


def test_every_column_of_the_answer_is_among_those_changes() -> None:
    changed = {name for change in CHANGES for name in change}
    assert {column.key for column in inventory_store.COLUMNS} - {"id"} <= changed


def test_the_measurements_of_a_heartbeat_do_not_change_the_tag(database: Database) -> None:
    with database.transaction() as session:
        add(session, "one", **FULL)
        before = inventory_store.fingerprint(session, AT), content(session, AT)
        beat = {"received_at": START, "seq": 9, "cpu_usage": 77.0, "current_pods": 3, "load_average": 1.0}
        session.execute(update(Heartbeat).values(**beat))
        assert (inventory_store.fingerprint(session, AT), content(session, AT)) == before


def test_workers_that_swap_their_statuses_change_the_tag(database: Database) -> None:
    """Sums and counts of statuses stay the same; the inventory does not."""
    with database.transaction() as session:
        one, two = add(session, "one"), add(session, "two", node_ready=False)
        before = inventory_store.fingerprint(session, AT)
        for worker_id, ready in ((one, False), (two, True)):
            swap = update(Heartbeat).where(Heartbeat.worker_id == worker_id)
            session.execute(swap.values(node_ready=ready))
        assert inventory_store.fingerprint(session, AT) != before


def test_time_alone_changes_the_tag_when_it_changes_a_status(database: Database) -> None:
    with database.transaction() as session:
        add(session, "one")
        tags = [
            inventory_store.fingerprint(session, Moment(START + timedelta(seconds=seconds), Rules()))
            for seconds in (0, 90, 91, 1000)
        ]
    assert tags[0] == tags[1] != tags[2] == tags[3]


def test_the_tag_is_the_same_however_many_parts_it_is_counted_in(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.transaction() as session:
        for number in range(50):
            add(session, f"w{number}")
        whole = inventory_store.fingerprint(session, AT)
        for size in (1, 7, 50):
            monkeypatch.setattr(inventory_store, "PART", size)
            assert inventory_store.fingerprint(session, AT) == whole
    assert whole.startswith("50-")


def test_an_empty_inventory_has_a_tag_too(database: Database) -> None:
    with database.reading() as session:
        assert inventory_store.fingerprint(session, AT) == "0-0"
        assert json.loads(content(session, AT))["data"] == {"workers": []}


def test_a_row_says_what_the_contract_says(database: Database) -> None:
    with database.transaction() as session:
        worker_id = add(session, "one", intent=Intent.MAINTENANCE, **FULL)
        row = json.loads(content(session, KNOWS_NODES))["data"]["workers"][0]
    assert InventoryWorker.model_validate(row).model_dump(mode="json", by_alias=True) == row
    assert row == {
        "id": str(worker_id),
        "name": "chosen",
        "hostname": "one",
        "machineId": "c" * 32,
        "ipAddress": "192.0.2.7",
        "status": "MAINTENANCE",
        "intent": "maintenance",
        "approved": True,
        "isReady": True,
        "isSchedulable": False,
        "nodeState": "Ready",
        "cpuCores": 4,
        "cpuModel": "x",
        "architecture": "amd64",
        "totalMemoryBytes": 2**40,
        "totalStorageBytes": 2**50,
        "operatingSystem": "Debian",
        "kernelVersion": "6.1",
        "agentVersion": "1",
        "sshHostKeys": ["ssh-ed25519 AAAA"],
        "labels": {"zone": "a", "wörd": "ä"},
        "ansibleHost": "h",
        "ansiblePort": 22,
        "ansibleUser": "u",
        "maxPods": 7,
    }


def test_a_large_inventory_needs_little_memory(database: Database) -> None:
    """20 MB of workers; as objects they would be ten times that."""
    count, text = 10_000, "x" * 190
    with database.transaction() as session:
        template = {
            "status": "ACTIVE",
            "intent": "active",
            "epoch": 1,
            "cpu_cores": 4,
            "ip_address": "192.0.2.1",
        }
        template |= {"cpu_model": text, "operating_system": text, "kernel_version": text, "labels": {}}
        template |= {"ssh_host_keys": [f"ssh-rsa {'A' * 700}"], "machine_id": None}
        template |= dict.fromkeys(("created_at", "registered_at", "updated_at"), START)
        ids = [uuid4() for _ in range(count)]
        workers = [{**template, "id": key, "name": f"w{n}", "hostname": f"w{n}"} for n, key in enumerate(ids)]
        session.execute(Worker.__table__.insert(), workers)
        session.execute(
            Heartbeat.__table__.insert(), [{"worker_id": key, "seq": 0, "node_ready": True} for key in ids]
        )
    del workers, ids
    with database.reading() as session:
        tracemalloc.start()
        file = inventory.document(inventory_store.rows(session, AT))
        size, (_, peak) = file.tell(), tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(json.loads(b"".join(inventory.pieces(file)))["data"]["workers"]) == count
    assert size > 15 * 2**20
    assert peak < 16 * 2**20


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, False),
        ("", False),
        ("*", True),
        ('W/"2-a"', True),
        ('"2-a"', True),
        ('"x", W/"2-a"', True),
        ('"2-b"', False),
        ("2-a", False),
    ],
)
def test_a_client_names_what_it_has(header: str | None, expected: bool) -> None:
    assert inventory.matches(header, inventory.entity_tag("a")) == expected


async def test_an_inventory_that_has_not_changed_is_not_sent_again(api: Api, clock: Clock) -> None:
    worker = await api.register()
    key = bearer(INVENTORY_KEY)
    first = await api.client.get("/api/inventory", headers=key)
    assert int(first.headers["Content-Length"]) == len(first.content)
    assert first.headers["Cache-Control"] == "private, no-cache"
    again = {**key, "If-None-Match": first.headers["ETag"]}
    second = await api.client.get("/api/inventory", headers=again)
    assert (second.status_code, second.content) == (304, b"")
    assert second.headers["ETag"] == first.headers["ETag"]
    await api.beat(worker)
    third = await api.client.get("/api/inventory", headers=again)
    assert third.status_code == 200
    assert [row["status"] for row in third.json()["data"]["workers"]] == ["ACTIVE"]
    assert third.headers["ETag"] != first.headers["ETag"]
