"""The workers over HTTP: the mission's literal calls, lists, numbers, who may read."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import update

from control_api.identity.roles import Role
from control_api.workers.lifecycle import Intent, Status
from control_api.workers.models import Worker
from tests.control_api.world import INVENTORY_KEY, TOKEN, Api, Clock, bearer, make_settings, running_api

NOBODY = f"/api/workers/{UUID(int=7)}"
READABLE = ["/api/workers", "/api/workers/stats", "/api/inventory"]


async def test_the_missions_literal_calls_work(api: Api) -> None:
    """Phase 5.2: the body of its curl command, byte for byte, but for the token."""
    body = f"""{{
    "hostname": "test-worker",
    "ipAddress": "192.168.1.100",
    "cpuCores": 8,
    "registrationToken": "{TOKEN}"
  }}"""
    headers = {"Content-Type": "application/json"}
    answer = await api.client.post("/api/workers/register", content=body, headers=headers)
    assert answer.status_code == 201
    assert answer.json()["success"] is True
    assert set(answer.json()["data"]) >= {"worker", "joinToken", "masterUrl", "workerId", "isRestart"}
    listed = await api.get("/api/workers")
    assert [worker["name"] for worker in listed["workers"]] == ["test-worker"]
    assert (await api.get("/api/workers/stats"))["byStatus"]["PENDING"] == 1


async def test_the_missions_worker_script_can_register_and_beat(api: Api) -> None:
    """Phase 3.2: what its scripts send, with the credential that they did not know of."""
    worker = await api.register(
        hostname="worker-1",
        ipAddress="10.0.0.5",
        cpuCores=16,
        cpuArchitecture="AMD Ryzen 9 6900HS",
        totalMemory="31Gi",
        totalStorage="468G",
        architecture="amd64",
        operatingSystem="Ubuntu 22.04.4 LTS",
        kernelVersion="5.15.0-101-generic",
        osImage="Ubuntu 22.04.4 LTS",
    )
    report = {"cpuUsage": 3.2, "memoryUsage": 12.7, "diskUsage": 41, "currentPods": 0}
    assert (await api.beat(worker, **report)).json()["success"] is True


async def test_a_worker_is_shown_with_every_field_of_the_contract(api: Api) -> None:
    registered = await api.register(machineId="a" * 32, sshHostKeys=[], totalMemory="1Ki", cpuModel="x")
    seen = await api.get(f"/api/workers/{registered['workerId']}")
    assert seen == {
        "id": registered["workerId"],
        "name": "w1",
        "hostname": "w1",
        "ipAddress": "192.0.2.11",
        "status": "PENDING",
        "intent": "active",
        "maintenance": None,
        "approved": True,
        "isReady": False,
        "isSchedulable": False,
        "lastHeartbeat": None,
        "heartbeatAgeSeconds": None,
        "nodeState": None,
        "joinError": None,
        "cpuCores": 8,
        "cpuModel": "x",
        "architecture": None,
        "totalMemoryBytes": 1024,
        "totalStorageBytes": None,
        "operatingSystem": None,
        "kernelVersion": None,
        "agentVersion": None,
        "sshHostKeys": [],
        "labels": {},
        "ansibleHost": None,
        "ansiblePort": None,
        "ansibleUser": None,
        "maxPods": None,
        "notes": None,
        "machineId": "a" * 32,
        "observedAddress": "127.0.0.1",
        "cpuUsage": None,
        "memoryUsage": None,
        "diskUsage": None,
        "currentPods": None,
        "podCapacity": None,
        "loadAverage": None,
        "createdAt": "2026-11-24T12:00:00Z",
        "registeredAt": "2026-11-24T12:00:00Z",
        "updatedAt": "2026-11-24T12:00:00Z",
    }
    listed = await api.get("/api/workers")
    assert listed == {"workers": [seen], "nextCursor": None}
    (row,) = (await api.get("/api/inventory"))["workers"]
    assert row == {name: seen[name] for name in row}


async def test_lists_are_filtered_searched_and_paged(api: Api, clock: Clock) -> None:
    beating = [
        await api.register(hostname=f"b{number}", ipAddress=f"192.0.2.{number}") for number in range(1, 4)
    ]
    await api.register(hostname="pending")
    for worker in beating:
        await api.beat(worker)

    async def names(query: str) -> list[str]:
        return [worker["hostname"] for worker in (await api.get(f"/api/workers?{query}"))["workers"]]

    assert await names("status=ACTIVE") == ["b1", "b2", "b3"]
    assert await names("status=ACTIVE&status=PENDING") == ["b1", "b2", "b3", "pending"]
    assert await names("status=MAINTENANCE") == []
    assert await names("search=192.0.2.2") == ["b2"]
    assert await names("search=END") == ["pending"]
    assert await names("sort=hostname&order=desc&limit=2") == ["pending", "b3"]
    first = await api.get("/api/workers?limit=3")
    assert await names(f"limit=3&cursor={first['nextCursor']}") == ["pending"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=DEAD", "status.0"),
        ("intent=away", "intent"),
        ("nodeState=ready", "nodeState"),
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=x", "limit"),
        ("offset=0", "offset"),
        ("search=%00", "search"),
        ("architecture=%0A", "architecture"),
        ("label=", "label.0"),
        ("label=a%22b", "label.0"),
        ("label=a=b=c", "label.0"),
        ("sort=lastHeartbeat", "sort"),
        ("order=up", "order"),
        ("cursor=", "cursor"),
        ("cursor=%21", "cursor"),
        ("cursor=bnVsbA", "cursor"),
        ("cursor=" + "W" * 1001, "cursor"),
    ],
)
async def test_a_bad_query_names_its_parameter(sqlite_api: Api, query: str, field: str) -> None:
    answer = await sqlite_api.client.get(f"/api/workers?{query}", headers=sqlite_api.admin())
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "INVALID_REQUEST")
    assert [detail["field"] for detail in answer.json()["error"]["details"]] == [field]


async def test_a_cursor_is_of_use_in_its_own_order_only(sqlite_api: Api) -> None:
    for number in range(3):
        await sqlite_api.register(hostname=f"w{number}")
    cursor = (await sqlite_api.get("/api/workers?limit=1&sort=cpuCores"))["nextCursor"]
    for query in ("", "&sort=name", "&sort=cpuCores&order=desc"):
        path = f"/api/workers?cursor={cursor}{query}"
        answer = await sqlite_api.client.get(path, headers=sqlite_api.admin())
        assert answer.json()["error"]["details"] == [
            {"field": "cursor", "message": "belongs to a list in another order"}
        ]


async def test_the_fleet_in_numbers(api: Api, clock: Clock) -> None:
    size = {"cpuCores": 8, "totalMemoryBytes": 1000, "totalStorageBytes": 10_000}
    workers = [await api.register(hostname=f"w{number}", **size) for number in range(4)]
    for worker in workers[:3]:
        await api.beat(worker, cpuUsage=50, memoryUsage=10, diskUsage=20, currentPods=5)
    with api.service.database.transaction() as session:
        quiet = {"intent": Intent.MAINTENANCE, "status": Status.MAINTENANCE}
        session.execute(update(Worker).where(Worker.hostname == "w0").values(**quiet))
    await api.beat(workers[1], nodeReady=False, cpuUsage=50, memoryUsage=10, diskUsage=20, currentPods=5)
    assert await api.get("/api/workers/stats") == {
        "total": 4,
        "byStatus": {"PENDING": 1, "ACTIVE": 1, "INACTIVE": 0, "MAINTENANCE": 1, "NOT_READY": 1},
        "cpuCores": {"total": 32, "active": 8, "used": 12.0},
        "memoryBytes": {"total": 4000, "active": 1000, "used": 300.0},
        "storageBytes": {"total": 40000, "active": 10000, "used": 6000.0},
        "pods": {"capacity": 440, "current": 15},
        "cluster": {"isConfigured": False, "answers": False, "seenAt": None},
    }


async def test_an_empty_fleet_has_numbers_too(api: Api) -> None:
    stats = await api.get("/api/workers/stats")
    assert (stats["total"], set(stats["byStatus"].values()), stats["pods"]) == (
        0,
        {0},
        {"capacity": 0, "current": 0},
    )


async def test_transitions_are_listed_newest_first(api: Api, clock: Clock) -> None:
    worker = await api.register()
    clock.advance(10)
    await api.beat(worker)
    path = f"/api/workers/{worker['workerId']}/transitions"
    found = (await api.get(path))["transitions"]
    assert [(row["from"], row["to"], row["at"]) for row in found] == [
        ("PENDING", "ACTIVE", "2026-11-24T12:00:10Z"),
        (None, "PENDING", "2026-11-24T12:00:00Z"),
    ]
    assert found[1]["evidence"] == {
        "ipAddress": "192.0.2.11",
        "observedAddress": "127.0.0.1",
        "admittedBy": "bootstrap",
    }
    first = await api.get(f"{path}?limit=1")
    assert [row["to"] for row in first["transitions"]] == ["ACTIVE"]
    assert await api.get(f"{path}?limit=1&cursor={first['nextCursor']}") == {
        "transitions": found[1:],
        "nextCursor": None,
    }
    for cursor in ("", "x", "-1", "9" * 19):
        answer = await api.client.get(f"{path}?cursor={cursor}", headers=api.admin())
        assert answer.status_code == 422


async def test_a_worker_that_does_not_exist_is_a_404(api: Api, clock: Clock) -> None:
    gone = await api.register()
    with api.service.database.transaction() as session:
        session.execute(update(Worker).values(removed_at=clock()))
    for worker_id in (uuid4(), gone["workerId"]):
        answer = await api.client.get(f"/api/workers/{worker_id}", headers=api.admin())
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "WORKER_NOT_FOUND")
    answer = await api.client.get(f"/api/workers/{uuid4()}/transitions", headers=api.admin())
    assert answer.status_code == 404


@pytest.mark.parametrize("body", [None, {}, {"reason": "shutdown"}])
async def test_a_goodbye_is_effective_at_once(api: Api, body: dict[str, Any] | None) -> None:
    worker = await api.register()
    await api.beat(worker)
    path = f"/api/workers/{worker['workerId']}"
    answer = await api.client.post(f"{path}/leave", json=body, headers=bearer(worker["credential"]))
    assert (answer.status_code, answer.json()["data"]) == (200, {"status": "INACTIVE"})
    assert (await api.get(path))["status"] == "INACTIVE"


async def test_a_goodbye_is_in_the_audit_log_once(api: Api) -> None:
    worker = await api.register()
    path, subject = f"/api/workers/{worker['workerId']}/leave", f"worker:{worker['workerId']}"
    for reason in ("shutdown", "shutdown", "reboot"):
        await api.client.post(path, json={"reason": reason}, headers=bearer(worker["credential"]))
    await api.beat(worker)
    await api.client.post(path, headers=bearer(worker["credential"]))
    entries = (await api.get("/api/audit?action=worker.leave"))["entries"]
    assert [(e["actor"], e["subject"], e["outcome"], e["peer"], e["details"]) for e in entries] == [
        (subject, subject, "done", "127.0.0.1", {"reason": reason}) for reason in (None, "reboot", "shutdown")
    ]


async def test_only_the_worker_itself_can_say_goodbye(api: Api) -> None:
    one, two = [await api.register(hostname=name) for name in ("one", "two")]
    path = f"/api/workers/{one['workerId']}/leave"
    for headers in ({}, bearer(two["credential"]), api.admin(), bearer(TOKEN), bearer(INVENTORY_KEY)):
        answer = await api.client.post(path, json={}, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "INVALID_CREDENTIAL")


async def test_a_goodbye_with_a_dead_credential_is_refused(api: Api) -> None:
    first = await api.register(machineId="a" * 32)
    await api.register(machineId="a" * 32)
    path = f"/api/workers/{first['workerId']}/leave"
    assert (await api.client.post(path, json={}, headers=bearer(first["credential"]))).status_code == 401


@pytest.mark.parametrize("path", [*READABLE, NOBODY, f"{NOBODY}/transitions"])
async def test_reading_needs_somebody_who_is_known(sqlite_api: Api, path: str) -> None:
    worker = await sqlite_api.register()
    for headers in (
        {},
        bearer("x"),
        bearer(TOKEN),
        bearer(worker["credential"]),
        {"X-Unrelated": "x"},
    ):
        answer = await sqlite_api.client.get(path, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "UNAUTHORIZED"), headers


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("path", READABLE)
async def test_every_role_may_read(sqlite_api: Api, path: str, role: Role) -> None:
    assert (await sqlite_api.client.get(path, headers=sqlite_api.as_role(role))).status_code == 200


async def test_the_inventory_key_opens_the_inventory_and_nothing_else(sqlite_api: Api) -> None:
    statuses = {
        path: (await sqlite_api.client.get(path, headers=bearer(INVENTORY_KEY))).status_code
        for path in READABLE
    }
    assert statuses == {"/api/workers": 403, "/api/workers/stats": 403, "/api/inventory": 200}
    for wrong in (INVENTORY_KEY[:-1], INVENTORY_KEY + "x", INVENTORY_KEY.upper()):
        assert (await sqlite_api.client.get("/api/inventory", headers=bearer(wrong))).status_code == 401


async def test_without_an_inventory_key_nothing_is_one(sqlite_url: str, clock: Clock) -> None:
    async with running_api(make_settings(sqlite_url, MUSTER_INVENTORY_KEY=None), clock) as api:
        for headers in ({}, bearer("None"), bearer("")):
            assert (await api.client.get("/api/inventory", headers=headers)).status_code == 401
