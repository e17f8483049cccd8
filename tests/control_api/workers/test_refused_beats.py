"""Refused heartbeats are in the audit log: few of them, and no answer waits for that or fails with it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from structlog.testing import capture_logs

from control_api.errors import DatabaseUnavailable
from control_api.events import audit
from control_api.workers import refused_beats
from control_api.workers.credentials import Credentials
from tests.control_api.world import SETTINGS, Api, Clock, bearer, make_settings, running_api

BOOT = "3f0b7a52-5f0c-4b52-9c58-0d6a1f6f3c11"
PEER = "198.51.100.7"
OURS = Credentials([SETTINGS["WORKER_AUTH_SECRET"]])
PATIENCE = 10


async def beat(
    api: Api, worker_id: object, credential: str, peer: str = PEER, **report: Any
) -> httpx2.Response:
    headers = {**bearer(credential), "X-Forwarded-For": peer}
    return await api.client.patch(f"/api/workers/{worker_id}/heartbeat", json=report, headers=headers)


async def entries(api: Api, count: int) -> list[dict[str, Any]]:
    """Return the refused heartbeats once there are as many, the oldest first; they come after the answers."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = (await api.get("/api/audit?action=worker.heartbeat"))["entries"]
            if len(found) >= count:
                return [dict(entry) for entry in reversed(found)]
            await asyncio.sleep(0.02)


async def test_a_replayed_heartbeat_is_in_the_audit_log(api: Api) -> None:
    worker = await api.register()
    subject = f"worker:{worker['workerId']}"
    await api.beat(worker, bootId=BOOT, seq=5)
    answer = await beat(api, worker["workerId"], worker["credential"], bootId=BOOT, seq=4)
    assert answer.status_code == 409
    (entry,) = await entries(api, 1)
    assert {
        name: entry[name] for name in ("actor", "subject", "outcome", "peer", "requestId", "details")
    } == {
        "actor": subject,
        "subject": subject,
        "outcome": "refused",
        "peer": PEER,
        "requestId": answer.headers["x-request-id"],
        "details": {"cause": "HEARTBEAT_OUT_OF_ORDER", "atMost": "1 per 5 minute"},
    }


async def test_forged_and_dead_credentials_are_in_the_audit_log(api: Api) -> None:
    one, removed = [await api.register(hostname=name) for name in ("one", "removed")]
    await api.client.delete(f"/api/workers/{removed['workerId']}", headers=api.admin())
    nobody = uuid4()
    attempts = [
        (one["workerId"], "forged", 401, "anonymous", "INVALID_CREDENTIAL"),
        (one["workerId"], OURS.issue(UUID(one["workerId"]), 7), 401, "worker:{}", "INVALID_CREDENTIAL"),
        (removed["workerId"], removed["credential"], 410, "worker:{}", "WORKER_REMOVED"),
        (nobody, OURS.issue(nobody, 1), 404, "worker:{}", "WORKER_NOT_FOUND"),
    ]
    for number, (worker_id, credential, status, actor, cause) in enumerate(attempts):
        assert (await beat(api, worker_id, credential)).status_code == status
        entry = (await entries(api, number + 1))[-1]
        assert (entry["actor"], entry["subject"]) == (actor.format(worker_id), f"worker:{worker_id}")
        assert (entry["peer"], entry["details"]["cause"]) == (PEER, cause)


async def test_a_thousand_replays_are_one_entry_and_one_line(api: Api) -> None:
    worker, other = [await api.register(hostname=name) for name in ("one", "other")]
    for each in (worker, other):
        await api.beat(each, bootId=BOOT, seq=5)
    with capture_logs() as lines:
        for _ in range(10):
            replays = [api.beat(worker, bootId=BOOT, seq=4) for _ in range(100)]
            assert {answer.status_code for answer in await asyncio.gather(*replays)} == {409}
        assert (await api.beat(other, bootId=BOOT, seq=4)).status_code == 409
    found = await entries(api, 2)
    assert [entry["actor"] for entry in found] == [f"worker:{each['workerId']}" for each in (worker, other)]
    assert len([line for line in lines if line["event"] == "heartbeat refused"]) == 2


async def test_forged_credentials_of_one_network_are_one_entry(api: Api) -> None:
    worker = await api.register()
    for number in range(50):
        for peer in (f"2001:db8::{number:x}", PEER):
            assert (await beat(api, worker["workerId"], f"forged-{number}", peer)).status_code == 401
    assert [entry["peer"] for entry in await entries(api, 2)] == ["2001:db8::", PEER]


async def test_however_many_are_refused_few_are_written_in_a_minute(
    api: Api,
) -> None:
    worker = await api.register()
    for number in range(100):
        answer = await beat(api, worker["workerId"], "forged", f"198.51.100.{number}")
        assert answer.status_code == 401
    assert len(await entries(api, 60)) == 60
    assert (
        await api.client.get("/api/workers")
    ).status_code == 401  # which does not use up the room of others
    assert len((await api.get("/api/audit?action=access"))["entries"]) == 1


@pytest.mark.parametrize("path_id", ["x" * 5000, "%00", "not-an-id"])
async def test_whatever_stands_in_the_path_can_be_written(api: Api, path_id: str) -> None:
    assert (await beat(api, path_id, "forged")).status_code == 401
    (entry,) = await entries(api, 1)
    assert entry["subject"] in {f"worker:{'x' * 36}", "worker:", "worker:not-an-id"}


async def test_a_body_that_is_none_and_a_database_that_is_away_are_no_attempts(api: Api) -> None:
    worker = await api.register()
    assert (await api.beat(worker, cpuUsage=101)).status_code == 422
    assert (await beat(api, worker["workerId"], "forged")).status_code == 401
    assert [entry["details"]["cause"] for entry in await entries(api, 1)] == ["INVALID_CREDENTIAL"]


async def test_without_a_database_the_log_has_the_refusal_alone(
    sqlite_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise DatabaseUnavailable

    worker = await sqlite_api.register()
    monkeypatch.setattr(audit, "record", away)
    with capture_logs() as lines:
        answer = await beat(sqlite_api, worker["workerId"], "forged")
        assert answer.status_code == 401
        async with asyncio.timeout(PATIENCE):
            while len(lines) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    shown = {"worker": worker["workerId"], "peer": PEER, "request_id": answer.headers["x-request-id"]}
    assert lines[0] == {
        "event": "heartbeat refused",
        "log_level": "warning",
        "reason": "InvalidCredential",
        **shown,
    }
    assert (lines[1]["event"], lines[1]["peer"]) == ("refusal not in the audit log", PEER)


async def test_no_answer_waits_for_the_audit_log(
    sqlite_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, write = threading.Event(), refused_beats.RefusedBeats._write_now

    def slow(*args: Any) -> Any:
        go.wait(PATIENCE)
        return write(*args)

    monkeypatch.setattr(refused_beats.RefusedBeats, "_write_now", slow)
    async with running_api(make_settings(sqlite_url), clock) as api:
        worker = await api.register()
        for number in range(5):
            assert (await beat(api, worker["workerId"], "forged", f"198.51.100.{number}")).status_code == 401
            assert (await api.beat(worker)).status_code == 200
        assert (await api.get("/api/audit?action=worker.heartbeat"))["entries"] == []
        go.set()
        assert len(await entries(api, 5)) == 5


async def test_a_stop_writes_what_was_refused_before(sqlite_url: str, clock: Clock) -> None:
    async with running_api(make_settings(sqlite_url), clock) as api:
        worker = await api.register()
        assert (await beat(api, worker["workerId"], "forged")).status_code == 401
    async with running_api(make_settings(sqlite_url), clock) as again:
        assert len((await again.get("/api/audit?action=worker.heartbeat"))["entries"]) == 1
