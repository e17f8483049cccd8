"""Refused attempts of every kind are in the audit log, with who, from where and why, and never in great numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import httpx2
import pytest

from control_api.identity.roles import Role
from control_api.workers.credentials import Credentials
from tests.control_api.dashboard.conftest import FORM, LINK, log_in
from tests.control_api.identity.world import add
from tests.control_api.identity.world import log_in as tokens_of
from tests.control_api.world import SETTINGS, Api, Clock, bearer, make_settings, registration, running_api

PEER = "198.51.100.7"
FROM_PEER = {"X-Forwarded-For": PEER}
Attempt = Callable[[Api, dict[str, Any]], Awaitable[httpx2.Response]]


async def refused(api: Api) -> list[dict[str, Any]]:
    """Return the refused attempts, the oldest first."""
    entries = (await api.get("/api/audit?outcome=refused&limit=500"))["entries"]
    return [dict(entry) for entry in reversed(entries)]


async def forged_goodbye(api: Api, worker: dict[str, Any]) -> httpx2.Response:
    headers = {**bearer(worker["credential"][:-1] + "x"), **FROM_PEER}
    return await api.client.post(f"/api/workers/{worker['workerId']}/leave", headers=headers)


async def dead_goodbye(api: Api, worker: dict[str, Any]) -> httpx2.Response:
    dead = Credentials([SETTINGS["WORKER_AUTH_SECRET"]]).issue(UUID(worker["workerId"]), 7)
    headers = {**bearer(dead), **FROM_PEER}
    return await api.client.post(f"/api/workers/{worker['workerId']}/leave", headers=headers)


async def forged_join_error(api: Api, worker: dict[str, Any]) -> httpx2.Response:
    path, headers = f"/api/workers/{worker['workerId']}/join-error", {**bearer("forged"), **FROM_PEER}
    return await api.client.put(path, json={"joinError": "x"}, headers=headers)


async def dead_peer_list(api: Api, worker: dict[str, Any]) -> httpx2.Response:
    dead = Credentials([SETTINGS["WORKER_AUTH_SECRET"]]).issue(UUID(worker["workerId"]), 7)
    return await api.client.get("/api/peers", headers={**bearer(dead), **FROM_PEER})


async def forged_refresh_token(api: Api, _: dict[str, Any]) -> httpx2.Response:
    return await api.client.post("/api/auth/refresh", json={"refreshToken": "forged"}, headers=FROM_PEER)


async def expired_refresh_token(api: Api, _: dict[str, Any]) -> httpx2.Response:
    add(api, "ann")
    tokens = await tokens_of(api, "ann")
    api.clock.advance(8 * 86400)
    body = {"refreshToken": tokens["refreshToken"]}
    return await api.client.post("/api/auth/refresh", json=body, headers=FROM_PEER)


async def form_of_a_viewer(api: Api, worker: dict[str, Any]) -> httpx2.Response:
    await log_in(api, Role.VIEWER)
    path = f"/workers/{worker['workerId']}/maintenance"
    return await api.client.post(path, data={"reason": "x"}, headers={**FORM, **FROM_PEER})


async def form_of_a_foreign_page(api: Api, worker: dict[str, Any]) -> httpx2.Response:
    path = f"/workers/{worker['workerId']}/maintenance"
    return await api.client.post(path, data={"reason": "x"}, headers={**LINK, **FROM_PEER})


async def form_of_nobody(api: Api, worker: dict[str, Any]) -> httpx2.Response:
    path = f"/workers/{worker['workerId']}/maintenance/end"
    return await api.client.post(path, headers={**FORM, **FROM_PEER})


async def login_that_others_can_read(api: Api, _: dict[str, Any]) -> httpx2.Response:
    return await api.client.post("/login", data={"username": "ann"}, headers={**FORM, **FROM_PEER})


# fmt: off
ATTEMPTS: list[tuple[Attempt, int, tuple[str, str, str, str]]] = [
    (forged_goodbye,             401, ("anonymous", "worker.leave", "worker:{}", "INVALID_CREDENTIAL")),
    (dead_goodbye,               401, ("worker:{}", "worker.leave", "worker:{}", "INVALID_CREDENTIAL")),
    (forged_join_error,          401, ("anonymous", "worker.join_error", "worker:{}", "INVALID_CREDENTIAL")),
    (dead_peer_list,             401, ("worker:{}", "access", "GET /api/peers", "INVALID_CREDENTIAL")),
    (forged_refresh_token,       401, ("anonymous", "login.refresh", "", "UNAUTHORIZED")),
    (expired_refresh_token,      401, ("anonymous", "login.refresh", "", "UNAUTHORIZED")),
    (form_of_a_viewer,           403, ("user:viewer", "access", "POST /workers/{}/maintenance", "FORBIDDEN")),
    (form_of_a_foreign_page,     403, ("anonymous", "access", "POST /workers/{}/maintenance", "FOREIGN_FORM")),
    (form_of_nobody,             303, ("anonymous", "access", "POST /workers/{}/maintenance/end", "UNAUTHORIZED")),
    (login_that_others_can_read, 403, ("anonymous", "login", "", "NOT_PRIVATE")),
]
# fmt: on


@pytest.mark.parametrize(
    ("attempt", "status", "expected"), ATTEMPTS, ids=[attempt.__name__ for attempt, _, _ in ATTEMPTS]
)
async def test_what_is_refused_is_in_the_audit_log_with_its_peer_and_cause(
    api: Api, attempt: Attempt, status: int, expected: tuple[str, ...]
) -> None:
    worker = await api.register()
    answer = await attempt(api, worker)
    assert answer.status_code == status
    (entry,) = await refused(api)
    found = (entry["actor"], entry["action"], entry["subject"], entry["details"]["cause"])
    assert found == tuple(text.format(worker["workerId"]) for text in expected)
    assert (entry["peer"], entry["requestId"]) == (PEER, answer.headers["x-request-id"])
    assert entry["details"]["atMost"] == "10 per 1 minute"


async def test_who_looks_at_a_page_without_a_session_is_not_refused_but_led_to_the_login(api: Api) -> None:
    assert (await api.client.get("/fleet", headers=FORM)).status_code == 303
    assert await refused(api) == []


async def test_a_registration_that_a_limit_turns_away_is_in_the_log_once_a_minute(api: Api) -> None:
    wrong = registration(registrationToken="nope-nope-nope-nope")
    for _ in range(40):
        answer = await api.client.post("/api/workers/register", json=wrong)
    assert answer.status_code == 429
    entries = await refused(api)
    assert {(entry["action"], entry["subject"]) for entry in entries} == {("worker.register", "hostname:w1")}
    assert Counter((entry["details"]["cause"], entry["details"]["atMost"]) for entry in entries) == {
        ("invalid registration token: unknown", "10 per 1 minute"): 10,
        ("too many attempts", "1 per 1 minute"): 1,
    }


async def test_refused_registrations_of_the_same_name_do_not_flood_the_log(api: Api) -> None:
    await api.register(machineId="a" * 32)
    for _ in range(15):
        other = registration(machineId="b" * 32)
        assert (await api.client.post("/api/workers/register", json=other)).status_code == 409
    assert [entry["details"]["cause"] for entry in await refused(api)] == ["hostname taken"] * 10


async def test_a_dead_credential_that_asks_again_and_again_does_not_flood_the_log(api: Api) -> None:
    worker = await api.register()
    for _ in range(15):
        assert (await dead_goodbye(api, worker)).status_code == 401
    assert len(await refused(api)) == 10


async def test_the_addresses_of_one_network_are_one_source_of_refusals(
    database_url: str, clock: Clock
) -> None:
    async with running_api(make_settings(database_url), clock) as api:
        for number in range(15):
            headers = {"X-Forwarded-For": f"2001:db8::{number:x}"}
            assert (await api.client.get("/api/workers", headers=headers)).status_code == 401
        assert len(await refused(api)) == 10
