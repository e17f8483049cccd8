"""API keys: shown once, stored as a hash, good for their scopes until they expire or are revoked."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select

from control_api.events.models import AuditEntry
from control_api.identity.models import ApiKey
from control_api.identity.roles import Role, Scope
from tests.control_api.world import INVENTORY_KEY, START, Api, Clock, bearer

# Which scope opens what; everything else is closed to it.
DOORS = {
    ("GET", "/api/workers"): {"viewer", "operator", "admin"},
    ("GET", "/api/workers/stats"): {"viewer", "operator", "admin"},
    ("GET", "/api/inventory"): {"viewer", "operator", "admin", "inventory"},
    ("GET", "/metrics"): {"viewer", "operator", "admin", "metrics"},
    ("DELETE", f"/api/workers/{uuid4()}/maintenance"): {"operator", "admin"},
    ("GET", "/api/enrolment-tokens"): {"admin", "enrolment"},
    ("GET", "/api/audit"): {"admin", "audit"},
    ("GET", "/api/audit/export"): {"admin", "audit"},
    ("GET", "/api/users"): set(),
    ("GET", "/api/api-keys"): set(),
    ("POST", "/api/auth/logout"): set(),
}


async def make(api: Api, *scopes: str, name: str = "prog", **more: Any) -> dict[str, Any]:
    body = {"name": name, "scopes": scopes, **more}
    answer = await api.client.post("/api/api-keys", json=body, headers=api.admin())
    assert answer.status_code == 201, answer.text
    return dict(answer.json()["data"])


async def status(api: Api, key: str, path: str = "/api/inventory") -> int:
    return (await api.client.get(path, headers=bearer(key))).status_code


async def listed(api: Api) -> list[dict[str, Any]]:
    return list((await api.get("/api/api-keys"))["apiKeys"])


@pytest.mark.parametrize("scope", list(Scope))
async def test_a_key_opens_what_its_scope_names_and_nothing_else(sqlite_api: Api, scope: Scope) -> None:
    key = (await make(sqlite_api, scope.value))["key"]
    for (method, path), scopes in DOORS.items():
        answer = await sqlite_api.client.request(method, path, headers=bearer(key))
        assert (answer.status_code != 403) == (scope.value in scopes), (path, answer.text)
        assert answer.status_code != 401


async def test_a_key_is_shown_once_and_stored_as_a_hash(api: Api) -> None:
    made = await make(api, "inventory", "audit")
    assert made["key"].startswith("muster_")
    (shown,) = await listed(api)
    assert shown == {name: value for name, value in made.items() if name != "key"}
    assert shown["scopes"] == ["audit", "inventory"]
    with api.service.database.reading() as session:
        (stored,) = session.scalars(select(ApiKey))
        values = " ".join(str(value) for value in vars(stored).values())
        audited = " ".join(str(vars(entry)) for entry in session.scalars(select(AuditEntry)))
    assert made["key"] not in values + audited
    assert made["key"].removeprefix("muster_") not in values + audited


async def test_a_revoked_key_opens_nothing_at_once(api: Api) -> None:
    made = await make(api, "inventory")
    assert await status(api, made["key"]) == 200
    path = f"/api/api-keys/{made['id']}"
    assert (await api.client.delete(path, headers=api.admin())).status_code == 200
    assert await status(api, made["key"]) == 401
    again = await api.client.delete(path, headers=api.admin())
    assert (again.status_code, again.json()["error"]["code"]) == (404, "API_KEY_NOT_FOUND")
    assert (await listed(api))[0]["revokedAt"] is not None


async def test_a_name_is_free_again_after_its_key_was_revoked(api: Api) -> None:
    first = await make(api, "inventory")
    body = {"name": "prog", "scopes": ["viewer"]}
    taken = await api.client.post("/api/api-keys", json=body, headers=api.admin())
    assert (taken.status_code, taken.json()["error"]["code"]) == (409, "KEY_NAME_TAKEN")
    await api.client.delete(f"/api/api-keys/{first['id']}", headers=api.admin())
    await make(api, "viewer")


async def test_a_key_expires(api: Api, clock: Clock) -> None:
    made = await make(api, "inventory", expiresAt=(START + timedelta(hours=1)).isoformat())
    clock.advance(3599)
    assert await status(api, made["key"]) == 200
    clock.advance(1)
    assert await status(api, made["key"]) == 401


async def test_the_last_use_is_known_to_a_minute(api: Api, clock: Clock) -> None:
    key = (await make(api, "inventory"))["key"]
    assert (await listed(api))[0]["lastUsedAt"] is None
    seen = []
    for seconds in (0, 30, 61):
        clock.advance(seconds)
        await status(api, key)
        seen.append(datetime.fromisoformat((await listed(api))[0]["lastUsedAt"]) - START)
    assert seen == [timedelta(0), timedelta(0), timedelta(seconds=91)]


async def test_the_key_of_the_environment_still_opens_the_inventory(sqlite_api: Api) -> None:
    assert await status(sqlite_api, INVENTORY_KEY) == 200
    assert await status(sqlite_api, INVENTORY_KEY, "/api/workers") == 403
    me = (await sqlite_api.client.get("/api/auth/me", headers=bearer(INVENTORY_KEY))).json()["data"]
    assert me == {"id": None, "username": "MUSTER_INVENTORY_KEY", "role": None, "scopes": ["inventory"]}


@pytest.mark.parametrize("key", ["muster_", "muster_guess", "muster_" + "x" * 5000, INVENTORY_KEY + "x"])
async def test_a_wrong_key_opens_nothing(sqlite_api: Api, key: str) -> None:
    assert await status(sqlite_api, key) == 401


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"scopes": []}, "scopes"),
        ({"scopes": ["root"]}, "scopes.0"),
        ({"name": "A b"}, "name"),
        ({"expiresAt": "2020-01-01T00:00:00Z"}, "expiresAt"),
        ({"expiresAt": "0001-01-01T00:00:00+14:00"}, "expiresAt"),
        ({"expiresAt": "9999-12-31T23:59:59-14:00"}, "expiresAt"),
        ({"expiresAt": "2027-01-01T00:00:00"}, "expiresAt"),
        ({"expiresAt": 1893456000}, "expiresAt"),
    ],
)
async def test_a_bad_key_is_refused_by_the_field(sqlite_api: Api, change: dict[str, Any], field: str) -> None:
    body = {"name": "prog", "scopes": ["viewer"], **change}
    answer = await sqlite_api.client.post("/api/api-keys", json=body, headers=sqlite_api.admin())
    assert (answer.status_code, [d["field"] for d in answer.json()["error"]["details"]]) == (422, [field])
    assert await listed(sqlite_api) == []


async def test_only_admins_who_are_people_make_keys(sqlite_api: Api) -> None:
    body = {"name": "more", "scopes": ["viewer"]}
    admin_key = (await make(sqlite_api, "admin"))["key"]
    for headers in (bearer(admin_key), sqlite_api.as_role(Role.OPERATOR)):
        answer = await sqlite_api.client.post("/api/api-keys", json=body, headers=headers)
        assert answer.status_code == 403


async def test_making_and_revoking_keys_is_audited(api: Api) -> None:
    made = await make(api, "inventory")
    await api.client.delete(f"/api/api-keys/{made['id']}", headers=api.admin())
    entries = (await api.get("/api/audit"))["entries"]
    assert [(entry["actor"], entry["action"], entry["subject"], entry["peer"]) for entry in entries] == [
        ("user:some-admin", "api_key.revoke", "api-key:prog", "127.0.0.1"),
        ("user:some-admin", "api_key.create", "api-key:prog", "127.0.0.1"),
    ]
