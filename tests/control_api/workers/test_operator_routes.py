"""What operators do with workers, over HTTP: create, change, remove, maintain; and what remains of it."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import httpx2
import pytest
from sqlalchemy import select

from control_api.events.models import AuditEntry
from control_api.identity.roles import Role
from control_api.workers import store
from control_api.workers.lifecycle import Moment, Rules
from control_api.workers.models import Worker
from tests.control_api.world import Api, Clock, bearer

NOBODY = f"/api/workers/{UUID(int=7)}"
MACHINE = "a" * 32
ACTOR = "user:some-admin"
OPERATOR = "user:some-operator"


async def ask(api: Api, method: str, path: str, body: Any = None, role: Role = Role.ADMIN) -> httpx2.Response:
    content = None if body is None else json.dumps(body)  # which writes a lone surrogate as it is, escaped
    headers = {**api.as_role(role), "Content-Type": "application/json"}
    return await api.client.request(method, path, headers=headers, content=content)


async def done(api: Api, method: str, path: str, body: Any = None, role: Role = Role.ADMIN) -> dict[str, Any]:
    answer = await ask(api, method, path, body, role)
    assert answer.is_success, answer.text
    return dict(answer.json()["data"])


async def refusal(api: Api, method: str, path: str, body: Any = None) -> tuple[int, str, list[str]]:
    answer = await ask(api, method, path, body)
    error = answer.json()["error"]
    return answer.status_code, error["code"], [detail["field"] for detail in error["details"]]


def path(worker: dict[str, Any]) -> str:
    return f"/api/workers/{worker.get('workerId') or worker['id']}"


async def history(api: Api, worker: dict[str, Any]) -> list[tuple[str | None, str, str, str]]:
    rows = (await api.get(f"{path(worker)}/transitions"))["transitions"]
    return [(row["from"], row["to"], row["actor"], row["reason"]) for row in reversed(rows)]


def trail(api: Api, action: str) -> list[tuple[str, str, str | None, Any]]:
    with api.service.database.reading() as session:
        rows = session.scalars(select(AuditEntry).where(AuditEntry.action == action).order_by(AuditEntry.id))
        return [(row.actor, row.subject, row.peer, row.details) for row in rows]


# ---- create


async def test_a_machine_can_be_expected(api: Api, clock: Clock) -> None:
    body = {
        "hostname": "w7",
        "ipAddress": "192.0.2.17",
        "name": "seven",
        "labels": {"zone": "a"},
        "notes": "rack 4,\nbehind the door",
        "ansibleHost": "w7.example.org",
        "ansiblePort": 2222,
        "ansibleUser": "ops",
        "maxPods": 50,
    }
    answer = await ask(api, "POST", "/api/workers", body)
    assert answer.status_code == 201
    made = answer.json()["data"]
    assert {name: made[name] for name in body} == body
    assert (made["status"], made["isReady"], made["lastHeartbeat"], made["cpuCores"]) == (
        "PENDING",
        False,
        None,
        0,
    )
    assert (await api.get(path(made))) == made
    assert await history(api, made) == [(None, "PENDING", ACTOR, "registered")]
    assert trail(api, "worker.create") == [(ACTOR, f"worker:{made['id']}", "127.0.0.1", body)]
    clock.advance(601)
    assert (await api.get(path(made)))["status"] == "INACTIVE"


@pytest.mark.parametrize("machine_id", [MACHINE, None])
async def test_the_machine_that_was_expected_becomes_that_worker(
    api: Api, clock: Clock, machine_id: str | None
) -> None:
    made = await done(
        api, "POST", "/api/workers", {"hostname": "w7", "ipAddress": "192.0.2.17", "labels": {"zone": "a"}}
    )
    clock.advance(700)
    with api.service.database.transaction() as session:
        store.record_changes(session, Moment(clock(), Rules()), actor="monitor")
    body = {"hostname": "w7", "ipAddress": "192.0.2.18", "machineId": machine_id}
    registered = await api.register(**body)
    assert (registered["workerId"], registered["isRestart"]) == (made["id"], False)
    assert registered["worker"]["labels"] == {"zone": "a"}
    assert (await api.beat(registered)).status_code == 200
    assert [(old, new) for old, new, *_ in await history(api, made)] == [
        (None, "PENDING"),
        ("PENDING", "INACTIVE"),
        ("INACTIVE", "PENDING"),
        ("PENDING", "ACTIVE"),
    ]
    assert (await api.register(**body))["isRestart"] is True


async def test_a_machine_that_is_known_already_does_not_become_another_worker(api: Api) -> None:
    known = await api.register(hostname="old", machineId=MACHINE)
    await done(api, "POST", "/api/workers", {"hostname": "new", "ipAddress": "192.0.2.17"})
    body = {"hostname": "new", "ipAddress": "192.0.2.11", "cpuCores": 8, "machineId": MACHINE}
    headers = bearer(known["credential"])
    answer = await api.client.post("/api/workers/register", json=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "HOSTNAME_TAKEN")


async def test_only_the_first_machine_becomes_the_worker_that_was_expected(api: Api) -> None:
    await done(api, "POST", "/api/workers", {"hostname": "w1", "ipAddress": "192.0.2.17"})
    await api.register(machineId=MACHINE)
    with pytest.raises(AssertionError, match="HOSTNAME_TAKEN"):
        await api.register(machineId="b" * 32)


async def test_names_are_unique(api: Api) -> None:
    await api.register(hostname="one")
    two = await api.register(hostname="two")
    where = {"ipAddress": "192.0.2.17"}
    for body in ({"hostname": "one", **where}, {"hostname": "one", "name": "x", **where}):
        assert await refusal(api, "POST", "/api/workers", body) == (409, "HOSTNAME_TAKEN", [])
    body = {"hostname": "three", "name": "one", **where}
    assert await refusal(api, "POST", "/api/workers", body) == (409, "NAME_TAKEN", [])
    assert await refusal(api, "PATCH", path(two), {"name": "one"}) == (409, "NAME_TAKEN", [])
    await done(api, "PATCH", path(two), {"name": "three"})
    with pytest.raises(AssertionError, match="NAME_TAKEN"):
        await api.register(hostname="three")
    assert (await api.get("/api/workers?sort=name"))["workers"][1]["name"] == "three"


async def test_a_name_follows_the_hostname_until_somebody_chooses_one(api: Api) -> None:
    for number, chosen in enumerate((False, True)):
        machine = {"machineId": str(number) * 32}
        worker = await api.register(hostname=f"w{number}", **machine)
        if chosen:
            await done(api, "PATCH", path(worker), {"name": "chosen"})
        renamed = await api.register(hostname=f"renamed-{number}", **machine)
        assert renamed["worker"]["name"] == ("chosen" if chosen else "renamed-0")


# ---- change


async def test_only_what_is_given_changes_and_null_empties(api: Api, clock: Clock) -> None:
    worker = await api.register()
    first = {
        "notes": "mind the dog",
        "labels": {"zone": "a", "disk": "nvme"},
        "ansiblePort": 22,
        "maxPods": 10,
    }
    await done(api, "PATCH", path(worker), first)
    clock.advance(5)
    seen = await done(api, "PATCH", path(worker), {"labels": {"zone": "b", "disk": None}, "notes": None})
    assert (seen["labels"], seen["notes"], seen["ansiblePort"], seen["maxPods"]) == (
        {"zone": "b"},
        None,
        22,
        10,
    )
    assert seen["updatedAt"] == "2026-11-24T12:00:05Z"
    assert [details for *_, details in trail(api, "worker.update")] == [
        first,
        {"labels": {"zone": "b", "disk": None}, "notes": None},
    ]


async def test_a_change_that_changes_nothing_leaves_no_trail(api: Api, clock: Clock) -> None:
    worker = await api.register()
    await done(api, "PATCH", path(worker), {"labels": {"zone": "a"}})
    clock.advance(5)
    for body in ({}, {"labels": {"zone": "a"}}, {"notes": None}, {"labels": {"other": None}}):
        assert (await done(api, "PATCH", path(worker), body))["updatedAt"] == "2026-11-24T12:00:00Z"
    assert len(trail(api, "worker.update")) == 1


async def test_a_registration_keeps_what_operators_decided(api: Api) -> None:
    worker = await api.register(machineId=MACHINE)
    decided = {
        "name": "big-one",
        "labels": {"zone": "a"},
        "notes": "n",
        "ansibleHost": "2001:db8::1",
        "ansiblePort": 2222,
        "ansibleUser": "ops",
        "maxPods": 3,
    }
    await done(api, "PATCH", path(worker), decided)
    again = await api.register(machineId=MACHINE)
    assert {name: again["worker"][name] for name in decided} == decided


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"name": "UPPER"}, "name"),
        ({"labels": None}, "labels"),
        ({"labels": {"": "x"}}, "labels..[key]"),
        ({"labels": {"a b": "x"}}, "labels.a b.[key]"),
        ({"labels": {"a": "x y"}}, "labels.a"),
        ({"labels": {"a": 1}}, "labels.a"),
        ({"labels": {f"l{n}": "" for n in range(65)}}, "labels"),
        ({"notes": "x" * 2001}, "notes"),
        ({"notes": "\x00"}, "notes"),
        ({"notes": "\ud800"}, "notes"),
        ({"ansibleHost": ""}, "ansibleHost"),
        ({"ansibleHost": "-oProxyCommand=x"}, "ansibleHost"),
        ({"ansibleHost": "fe80::1%eth0"}, "ansibleHost"),
        ({"ansiblePort": 0}, "ansiblePort"),
        ({"ansiblePort": 65536}, "ansiblePort"),
        ({"ansiblePort": "22"}, "ansiblePort"),
        ({"ansibleUser": "Root"}, "ansibleUser"),
        ({"ansibleUser": "-l"}, "ansibleUser"),
        ({"maxPods": -1}, "maxPods"),
        ({"maxPods": 2**63}, "maxPods"),
        ({"status": "ACTIVE"}, "status"),
        ({"intent": "maintenance"}, "intent"),
    ],
)
async def test_a_bad_change_names_its_field_and_changes_nothing(
    sqlite_api: Api, body: dict[str, Any], field: str
) -> None:
    worker = await sqlite_api.register()
    before = await sqlite_api.get(path(worker))
    status, code, fields = await refusal(sqlite_api, "PATCH", path(worker), body)
    assert (status, code) == (422, "INVALID_REQUEST")
    assert fields == [field]
    assert await sqlite_api.get(path(worker)) == before


async def test_labels_do_not_grow_for_ever(api: Api) -> None:
    worker = await api.register()
    await done(api, "PATCH", path(worker), {"labels": {f"l{n}": "" for n in range(64)}})
    refused = await refusal(api, "PATCH", path(worker), {"labels": {"one-more": ""}})
    assert refused == (422, "INVALID_REQUEST", ["labels"])
    await done(api, "PATCH", path(worker), {"labels": {"one-more": "", "l0": None}})


# ---- remove


async def test_a_removed_worker_is_gone_and_told_so(api: Api, clock: Clock) -> None:
    worker = await api.register(machineId=MACHINE)
    await api.beat(worker)
    clock.advance(5)
    removed = await done(api, "DELETE", path(worker))
    assert removed == {"id": worker["workerId"], "hostname": "w1", "removedAt": "2026-11-24T12:00:05Z"}
    assert (await api.beat(worker)).status_code == 410
    assert (await ask(api, "GET", path(worker))).status_code == 404
    for query in ("", "?status=INACTIVE", "?status=ACTIVE", "?sort=status"):
        assert (await api.get(f"/api/workers{query}"))["workers"] == []
    assert (await api.get("/api/inventory"))["workers"] == []
    assert (await api.get("/api/workers/stats"))["total"] == 0
    assert (await history(api, worker))[-1] == ("ACTIVE", None, ACTOR, "removed by an operator")
    assert trail(api, "worker.remove") == [
        (ACTOR, f"worker:{worker['workerId']}", "127.0.0.1", {"hostname": "w1"})
    ]
    for method, tail in (("DELETE", ""), ("PATCH", ""), ("POST", "/maintenance"), ("DELETE", "/maintenance")):
        body = {"PATCH": {}, "POST": {"reason": "x"}}.get(method)
        assert (await ask(api, method, path(worker) + tail, body)).status_code == 404


async def test_what_a_removed_worker_had_is_free(api: Api) -> None:
    first = await api.register(machineId=MACHINE)
    await done(api, "DELETE", path(first))
    second = await api.register(machineId=MACHINE)
    assert (second["isRestart"], second["workerId"] != first["workerId"]) == (False, True)
    with api.service.database.reading() as session:
        assert session.get(Worker, UUID(first["workerId"])).removed_at is not None


async def test_the_monitor_leaves_a_removed_worker_alone(api: Api, clock: Clock) -> None:
    worker = await api.register()
    await done(api, "POST", f"{path(worker)}/maintenance", {"reason": "x", "until": "2026-11-24T12:01:00Z"})
    await done(api, "DELETE", path(worker))
    before = await history(api, worker)
    for _ in range(3):
        clock.advance(300)
        api.service.monitor.tick()
    assert await history(api, worker) == before


# ---- maintenance


async def test_maintenance_says_who_why_and_until_when(api: Api, clock: Clock) -> None:
    worker = await api.register()
    await api.beat(worker)
    body = {"reason": "new disk", "until": "2026-11-24T20:00:00+02:00", "drain": True}
    seen = await done(api, "POST", f"{path(worker)}/maintenance", body, Role.OPERATOR)
    assert (seen["status"], seen["intent"], seen["isReady"], seen["isSchedulable"]) == (
        "MAINTENANCE",
        "maintenance",
        True,
        False,
    )
    assert seen["maintenance"] == {
        "reason": "new disk",
        "by": OPERATOR,
        "since": "2026-11-24T12:00:00Z",
        "until": "2026-11-24T18:00:00Z",
        "drain": True,
    }
    clock.advance(60)
    seen = await done(api, "DELETE", f"{path(worker)}/maintenance", None, Role.OPERATOR)
    assert (seen["status"], seen["intent"], seen["maintenance"]) == ("ACTIVE", "active", None)
    assert (await history(api, worker))[2:] == [
        ("ACTIVE", "MAINTENANCE", OPERATOR, "maintenance: new disk"),
        ("MAINTENANCE", "ACTIVE", OPERATOR, "an operator ended the maintenance"),
    ]
    subject = f"worker:{worker['workerId']}"
    noted = {**body, "until": "2026-11-24T20:00:00+02:00"}
    assert trail(api, "worker.maintenance") == [(OPERATOR, subject, "127.0.0.1", noted)]
    assert trail(api, "worker.resume") == [(OPERATOR, subject, "127.0.0.1", {})]


async def test_maintenance_twice_is_maintenance_once(api: Api, clock: Clock) -> None:
    worker = await api.register()
    maintenance = f"{path(worker)}/maintenance"
    assert (await done(api, "DELETE", maintenance))["status"] == "PENDING"
    await done(api, "POST", maintenance, {"reason": "one", "drain": True})
    clock.advance(60)
    seen = await done(api, "POST", maintenance, {"reason": "two"})
    assert seen["maintenance"] == {
        "reason": "two",
        "by": ACTOR,
        "since": "2026-11-24T12:00:00Z",
        "until": None,
        "drain": False,
    }
    await done(api, "DELETE", maintenance)
    await done(api, "DELETE", maintenance)
    assert [(old, new) for old, new, *_ in await history(api, worker)] == [
        (None, "PENDING"),
        ("PENDING", "MAINTENANCE"),
        ("MAINTENANCE", "PENDING"),
    ]
    assert (len(trail(api, "worker.maintenance")), len(trail(api, "worker.resume"))) == (2, 1)


async def test_maintenance_ends_by_itself_when_its_time_is_up(api: Api, clock: Clock) -> None:
    worker, other = await api.register(), await api.register(hostname="other")
    for each in (worker, other):
        await api.beat(each)
    until = {"reason": "patches", "until": "2026-11-24T12:01:00Z"}
    await done(api, "POST", f"{path(worker)}/maintenance", until)
    await done(api, "POST", f"{path(other)}/maintenance", {"reason": "no end"})
    api.service.monitor.tick()
    clock.advance(59)
    api.service.monitor.tick()
    assert (await api.get(path(worker)))["status"] == "MAINTENANCE"
    clock.advance(1)
    api.service.monitor.tick()
    seen = await api.get(path(worker))
    assert (seen["status"], seen["intent"], seen["maintenance"]) == ("ACTIVE", "active", None)
    assert (await api.get(path(other)))["status"] == "MAINTENANCE"
    ended = ("MAINTENANCE", "ACTIVE", "monitor", "the maintenance's time was up")
    assert (await history(api, worker))[-1] == ended
    details = {"reason": "its time was up"}
    assert trail(api, "worker.resume") == [("monitor", f"worker:{worker['workerId']}", None, details)]


async def test_neither_silence_nor_a_heartbeat_nor_a_restart_ends_maintenance(api: Api, clock: Clock) -> None:
    worker = await api.register(machineId=MACHINE)
    await api.beat(worker)
    await done(api, "POST", f"{path(worker)}/maintenance", {"reason": "x"})
    for step in range(4):
        clock.advance(200)
        api.service.monitor.tick()
        if step == 1:
            worker = await api.register(machineId=MACHINE)
        if step > 1:
            await api.beat(worker, nodeReady=step > 2)
        assert (await api.get(path(worker)))["status"] == "MAINTENANCE"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "reason"),
        ({"reason": ""}, "reason"),
        ({"reason": "x" * 201}, "reason"),
        ({"reason": "a\nb"}, "reason"),
        ({"reason": "x", "until": "2026-11-24T12:00:00Z"}, "until"),
        ({"reason": "x", "until": "2026-11-24T13:00:00"}, "until"),
        ({"reason": "x", "until": "2028-01-01T00:00:00Z"}, "until"),
        ({"reason": "x", "until": "9999-12-31T23:59:59-23:59"}, "until"),
        ({"reason": "x", "until": "0001-01-01T00:00:00+23:59"}, "until"),
        ({"reason": "x", "until": 10**30}, "until"),
        ({"reason": "x", "until": "soon"}, "until"),
        ({"reason": "x", "drain": "yes"}, "drain"),
        ({"reason": "x", "force": True}, "force"),
    ],
)
async def test_a_bad_maintenance_names_its_field_and_changes_nothing(
    sqlite_api: Api, body: dict[str, Any], field: str
) -> None:
    worker = await sqlite_api.register()
    refused = await refusal(sqlite_api, "POST", f"{path(worker)}/maintenance", body)
    assert refused == (422, "INVALID_REQUEST", [field])
    assert (await sqlite_api.get(path(worker)))["status"] == "PENDING"


# ---- who may


OPERATIONS = [
    ("POST", "/api/workers", {"hostname": "w7", "ipAddress": "192.0.2.17"}, Role.ADMIN),
    ("PATCH", NOBODY, {"notes": "x"}, Role.ADMIN),
    ("DELETE", NOBODY, None, Role.ADMIN),
    ("POST", f"{NOBODY}/maintenance", {"reason": "x"}, Role.OPERATOR),
    ("DELETE", f"{NOBODY}/maintenance", None, Role.OPERATOR),
]


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(("method", "where", "body", "needed"), OPERATIONS)
async def test_a_role_may_do_what_it_is_for(
    sqlite_api: Api, method: str, where: str, body: Any, needed: Role, role: Role
) -> None:
    status = (await ask(sqlite_api, method, where, body, role)).status_code
    allowed = 201 if where == "/api/workers" else 404
    assert status == (allowed if role.covers(needed) else 403)


@pytest.mark.parametrize(("method", "where", "body", "needed"), OPERATIONS)
async def test_nobody_may_do_anything(
    sqlite_api: Api, method: str, where: str, body: Any, needed: Role
) -> None:
    worker = await sqlite_api.register()
    for headers in ({}, bearer("x"), bearer(worker["credential"])):
        answer = await sqlite_api.client.request(method, where, headers=headers, json=body)
        assert answer.status_code == 401


async def test_openapi_tells_every_refusal_with_an_example(sqlite_api: Api) -> None:
    paths = (await sqlite_api.client.get("/api/openapi.json")).json()["paths"]
    told = paths["/api/workers/{worker_id}/maintenance"]["post"]["responses"]
    assert set(told) == {"200", "400", "401", "403", "404", "413", "422", "500", "503"}
    examples = told["404"]["content"]["application/json"]["examples"]
    assert examples["WORKER_NOT_FOUND"]["value"]["error"]["code"] == "WORKER_NOT_FOUND"
    body = paths["/api/workers/{worker_id}/maintenance"]["post"]["requestBody"]
    assert body["content"]["application/json"]["schema"]["$ref"].endswith("/Rest")
