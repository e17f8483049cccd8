"""Heartbeats over HTTP, on both databases: what is stored, what is refused, what is answered."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, update

from control_api.workers.credentials import Credentials
from control_api.workers.lifecycle import Intent, Status
from control_api.workers.models import Heartbeat, Transition, Worker
from tests.control_api.world import SETTINGS, Api, Clock, bearer, make_settings, running_api

BOOT = "3f0b7a52-5f0c-4b52-9c58-0d6a1f6f3c11"
NEXT_BOOT = "9a1d2c3b-4e5f-4a6b-8c7d-0e1f2a3b4c5d"


async def test_the_missions_four_numbers_alone_are_a_heartbeat(api: Api) -> None:
    worker = await api.register()
    report = {"cpuUsage": 3.2, "memoryUsage": 41.5, "diskUsage": 12, "currentPods": 7}
    answer = await api.beat(worker, **report)
    assert answer.status_code == 200
    assert answer.json() == {
        "success": True,
        "message": "Heartbeat received",
        "data": {"nextInSeconds": 30, "status": "ACTIVE"},
    }
    seen = await api.get(f"/api/workers/{worker['workerId']}")
    assert {name: seen[name] for name in report} == report
    assert (seen["lastHeartbeat"], seen["heartbeatAgeSeconds"]) == ("2026-11-24T12:00:00Z", 0.0)
    assert (seen["status"], seen["isReady"], seen["isSchedulable"]) == ("ACTIVE", True, True)


async def test_an_empty_heartbeat_is_valid(api: Api) -> None:
    worker = await api.register()
    headers = bearer(worker["credential"])
    answer = await api.client.patch(worker["heartbeat"]["url"], headers=headers)
    assert (answer.status_code, answer.json()["data"]["status"]) == (200, "ACTIVE")


async def test_a_worker_is_pending_until_its_node_is_ready_and_never_again(api: Api) -> None:
    worker = await api.register()
    answers = [(await api.beat(worker, nodeReady=ready)).json() for ready in (False, True, False, True)]
    assert [a["data"]["status"] for a in answers] == ["PENDING", "ACTIVE", "NOT_READY", "ACTIVE"]
    changes = (await api.get(f"/api/workers/{worker['workerId']}/transitions"))["transitions"]
    assert [c["to"] for c in changes] == ["ACTIVE", "NOT_READY", "ACTIVE", "PENDING"]
    assert {c["actor"] for c in changes} == {"worker"}


async def test_a_heartbeat_that_changes_nothing_writes_no_transition(api: Api) -> None:
    worker = await api.register()
    for _ in range(5):
        await api.beat(worker, nodeReady=True)
    changes = (await api.get(f"/api/workers/{worker['workerId']}/transitions"))["transitions"]
    assert len(changes) == 2


async def test_a_heartbeat_does_not_touch_the_workers_row(api: Api, clock: Clock) -> None:
    worker = await api.register()
    await api.beat(worker)
    before = await api.get(f"/api/workers/{worker['workerId']}")
    clock.advance(30)
    await api.beat(worker, cpuUsage=99)
    after = await api.get(f"/api/workers/{worker['workerId']}")
    assert after["updatedAt"] == before["updatedAt"]
    assert after["lastHeartbeat"] == "2026-11-24T12:00:30Z"


async def test_a_heartbeat_never_ends_an_operators_maintenance(api: Api) -> None:
    worker = await api.register()
    with api.service.database.transaction() as session:
        session.execute(update(Worker).values(intent=Intent.MAINTENANCE, status=Status.MAINTENANCE))
    assert (await api.beat(worker)).json()["data"]["status"] == "MAINTENANCE"
    seen = await api.get(f"/api/workers/{worker['workerId']}")
    assert (seen["status"], seen["isReady"], seen["isSchedulable"]) == ("MAINTENANCE", True, False)


async def test_a_worker_that_said_goodbye_is_back_with_its_next_heartbeat(api: Api) -> None:
    worker = await api.register()
    await api.beat(worker)
    leave = f"/api/workers/{worker['workerId']}/leave"
    answer = await api.client.post(leave, json={"reason": "reboot"}, headers=bearer(worker["credential"]))
    assert (answer.status_code, answer.json()["data"]) == (200, {"status": "INACTIVE"})
    assert (await api.beat(worker)).json()["data"]["status"] == "ACTIVE"
    changes = (await api.get(f"/api/workers/{worker['workerId']}/transitions"))["transitions"]
    assert [(c["to"], c["reason"]) for c in changes[:2]] == [
        ("ACTIVE", "heard, its node is ready"),
        ("INACTIVE", "said goodbye: reboot"),
    ]


async def test_numbers_that_are_not_sent_are_not_kept(api: Api) -> None:
    worker = await api.register()
    await api.beat(worker, cpuUsage=50)
    await api.beat(worker, memoryUsage=20)
    seen = await api.get(f"/api/workers/{worker['workerId']}")
    assert (seen["cpuUsage"], seen["memoryUsage"]) == (None, 20)


# fmt: off
SEQUENCES = [
    ("counting up",              [(BOOT, 1), (BOOT, 2), (BOOT, 7)],                      [200, 200, 200]),
    ("the same again",           [(BOOT, 1), (BOOT, 1)],                                 [200, 409]),
    ("an older one",             [(BOOT, 5), (BOOT, 4), (BOOT, 6)],                      [200, 409, 200]),
    ("a new boot counts anew",   [(BOOT, 9), (NEXT_BOOT, 1), (NEXT_BOOT, 2)],            [200, 200, 200]),
    ("the boot before",          [(BOOT, 9), (NEXT_BOOT, 1), (BOOT, 10)],                [200, 200, 409]),
    ("two clones",               [(BOOT, 1), (NEXT_BOOT, 1), (BOOT, 2), (NEXT_BOOT, 2)], [200, 200, 409, 200]),
    ("no sequence at all",       [(None, None), (None, None)],                           [200, 200]),
    ("without one in between",   [(BOOT, 3), (None, None), (BOOT, 3), (BOOT, 4)],        [200, 200, 409, 200]),
    ("only a boot",              [(BOOT, 3), (BOOT, None), (BOOT, 3)],                   [200, 200, 409]),
    ("only a new boot",          [(BOOT, 9), (NEXT_BOOT, None), (NEXT_BOOT, 1)],         [200, 200, 200]),
    ("a count before its boot",  [(None, 9), (BOOT, None), (BOOT, 1)],                   [200, 200, 200]),
]
# fmt: on


@pytest.mark.parametrize(
    ("sent", "expected"), [row[1:] for row in SEQUENCES], ids=[row[0] for row in SEQUENCES]
)
async def test_a_replay_or_a_clone_is_refused(
    api: Api, sent: list[tuple[str | None, int | None]], expected: list[int]
) -> None:
    worker = await api.register()
    got = []
    for boot_id, seq in sent:
        report = {name: value for name, value in (("bootId", boot_id), ("seq", seq)) if value is not None}
        answer = await api.beat(worker, **report)
        got.append(answer.status_code)
        if answer.status_code == 409:
            assert answer.json()["error"]["code"] == "HEARTBEAT_OUT_OF_ORDER"
    assert got == expected


async def test_a_refused_heartbeat_keeps_nobody_alive(api: Api, clock: Clock) -> None:
    worker = await api.register()
    await api.beat(worker, bootId=BOOT, seq=5)
    clock.advance(60)
    assert (await api.beat(worker, bootId=BOOT, seq=5, cpuUsage=99)).status_code == 409
    seen = await api.get(f"/api/workers/{worker['workerId']}")
    assert (seen["lastHeartbeat"], seen["cpuUsage"]) == ("2026-11-24T12:00:00Z", None)


async def test_a_registration_lets_the_sequence_begin_again(api: Api) -> None:
    worker = await api.register(machineId="0" * 32, bootId=BOOT)
    await api.beat(worker, bootId=BOOT, seq=5)
    again = await api.register(machineId="0" * 32, bootId=BOOT)
    assert (await api.beat(again, bootId=BOOT, seq=1)).status_code == 200


async def test_heartbeats_need_the_credential_of_that_worker(api: Api) -> None:
    one = await api.register(hostname="one")
    two = await api.register(hostname="two")
    path = one["heartbeat"]["url"]
    refused: list[dict[str, str]] = [
        {},
        bearer(""),
        bearer("nonsense"),
        bearer(two["credential"]),
        bearer(one["credential"] + "0"),
        {"Authorization": one["credential"]},
        {"Authorization": f"Basic {one['credential']}"},
        bearer(Credentials(["x" * 32]).issue(UUID(one["workerId"]), 1)),
        bearer(Credentials([SETTINGS["WORKER_AUTH_SECRET"]]).issue(UUID(one["workerId"]), 2)),
    ]
    for headers in refused:
        answer = await api.client.patch(path, json={}, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "INVALID_CREDENTIAL"), headers
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_an_unknown_worker_is_told_so(api: Api) -> None:
    nobody = uuid4()
    credential = Credentials([SETTINGS["WORKER_AUTH_SECRET"]]).issue(nobody, 1)
    for method, path in (("PATCH", "heartbeat"), ("POST", "leave")):
        url = f"/api/workers/{nobody}/{path}"
        answer = await api.client.request(method, url, json={}, headers=bearer(credential))
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "WORKER_NOT_FOUND")


async def test_a_removed_worker_is_told_so(api: Api, clock: Clock) -> None:
    worker = await api.register()
    with api.service.database.transaction() as session:
        session.execute(update(Worker).values(removed_at=clock()))
    answer = await api.beat(worker)
    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "WORKER_REMOVED")


# fmt: off
BAD = [
    ({"cpuUsage": 100.1},        "cpuUsage"),
    ({"cpuUsage": -0.1},         "cpuUsage"),
    ({"cpuUsage": "3"},          "cpuUsage"),
    ({"cpuUsage": True},         "cpuUsage"),
    ({"memoryUsage": [1]},       "memoryUsage"),
    ({"diskUsage": {}},          "diskUsage"),
    ({"currentPods": -1},        "currentPods"),
    ({"currentPods": 1.5},       "currentPods"),
    ({"currentPods": True},      "currentPods"),
    ({"currentPods": 10**12},    "currentPods"),
    ({"loadAverage": -1},        "loadAverage"),
    ({"loadAverage": 1e300},     "loadAverage"),
    ({"nodeReady": "yes"},       "nodeReady"),
    ({"nodeReady": 1},           "nodeReady"),
    ({"seq": -1},                "seq"),
    ({"seq": 2**63},             "seq"),
    ({"seq": "1"},               "seq"),
    ({"bootId": "not a boot"},   "bootId"),
    ({"bootId": 7},              "bootId"),
    ({"status": "ACTIVE"},       "status"),
    ({"intent": "active"},       "intent"),
]
# fmt: on


@pytest.mark.parametrize(("report", "field"), BAD, ids=[str(report) for report, _ in BAD])
async def test_a_bad_heartbeat_names_its_field_and_stores_nothing(
    sqlite_api: Api, report: dict[str, Any], field: str
) -> None:
    worker = await sqlite_api.register()
    answer = await sqlite_api.beat(worker, **report)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "INVALID_REQUEST")
    assert [detail["field"] for detail in answer.json()["error"]["details"]] == [field]
    assert (await sqlite_api.get(f"/api/workers/{worker['workerId']}"))["lastHeartbeat"] is None


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"null", b"7", b'"x"', b'{"cpuUsage": NaN}', b'{"cpuUsage": 1e999}', b"\xff\xfe"]
)
async def test_what_is_not_an_object_is_refused(sqlite_api: Api, body: bytes) -> None:
    worker = await sqlite_api.register()
    headers = bearer(worker["credential"])
    answer = await sqlite_api.client.patch(worker["heartbeat"]["url"], content=body, headers=headers)
    assert answer.status_code == 422


async def test_a_large_body_is_refused(sqlite_api: Api) -> None:
    worker = await sqlite_api.register()
    headers = bearer(worker["credential"])
    answer = await sqlite_api.client.patch(worker["heartbeat"]["url"], content=b" " * 65537, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "BODY_TOO_LARGE")


async def test_other_methods_on_the_path_are_the_applications(api: Api) -> None:
    worker = await api.register()
    for method in ("GET", "POST", "PUT", "DELETE"):
        answer = await api.client.request(method, worker["heartbeat"]["url"])
        assert answer.status_code in {404, 405}


async def test_many_workers_beat_at_once(api: Api) -> None:
    workers = [await api.register(hostname=f"w{number}") for number in range(60)]
    answers = await asyncio.gather(
        *(api.beat(w, nodeReady=True, currentPods=3) for w in workers for _ in range(3))
    )
    assert {answer.status_code for answer in answers} == {200}
    assert (await api.get("/api/workers/stats"))["byStatus"]["ACTIVE"] == 60
    with api.service.database.reading() as session:
        assert set(session.scalars(select(Heartbeat.current_pods))) == {3}
        assert len(session.scalars(select(Transition)).all()) == 120


async def test_a_worker_with_the_old_secret_gets_a_new_credential(database_url: str, clock: Clock) -> None:
    async with running_api(make_settings(database_url), clock) as before:
        worker = await before.register()
    rotated = make_settings(
        database_url,
        WORKER_AUTH_SECRET="rotated-9876543210-9876543210-98765",
        MUSTER_WORKER_AUTH_SECRET_OLD=SETTINGS["WORKER_AUTH_SECRET"],
    )
    async with running_api(rotated, clock) as after:
        credential = (await after.beat(worker)).json()["data"]["credential"]
        assert credential != worker["credential"]
        answer = await after.beat({**worker, "credential": credential})
        assert (answer.status_code, "credential" in answer.json()["data"]) == (200, False)


async def test_the_pace_leaves_room_for_two_lost_heartbeats(database_url: str, clock: Clock) -> None:
    async with running_api(make_settings(database_url, HEARTBEAT_TIMEOUT_MINUTES="0.1"), clock) as api:
        worker = await api.register()
        assert worker["heartbeat"]["intervalSeconds"] == 2
        assert (await api.beat(worker)).json()["data"]["nextInSeconds"] == 2


async def test_silence_is_seen_even_when_nobody_records_it(api: Api, clock: Clock) -> None:
    worker = await api.register()
    await api.beat(worker)
    clock.advance(90)
    assert (await api.get(f"/api/workers/{worker['workerId']}"))["status"] == "ACTIVE"
    clock.advance(1)
    seen = await api.get(f"/api/workers/{worker['workerId']}")
    assert (seen["status"], seen["isReady"], seen["heartbeatAgeSeconds"]) == ("INACTIVE", False, 91.0)
    assert len((await api.get("/api/workers?status=INACTIVE"))["workers"]) == 1
    assert (await api.get("/api/workers/stats"))["byStatus"]["INACTIVE"] == 1
    with api.service.database.reading() as session:
        assert session.scalars(select(Worker.status)).one() is Status.ACTIVE


async def test_a_beat_is_stamped_with_the_servers_clock(api: Api, clock: Clock) -> None:
    worker = await api.register()
    clock.advance(17)
    await api.beat(worker)
    with api.service.database.reading() as session:
        received_at = session.scalars(select(Heartbeat.received_at)).one()
    assert received_at == clock.now
    assert received_at is not None
    assert received_at.utcoffset() == timedelta(0)
