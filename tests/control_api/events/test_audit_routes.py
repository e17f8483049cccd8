"""The audit log over HTTP: filtered, paged, exported; refusals are in it without flooding it."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from control_api.db import Database
from control_api.events import audit, audit_store
from control_api.events.keeping import Ages, forget
from control_api.events.models import AuditEntry
from control_api.identity.roles import Role
from tests.control_api.identity.world import add, log_in
from tests.control_api.world import PASSWORD, START, Api, bearer


def fill(database: Database, count: int, **values: Any) -> None:
    with database.transaction() as session:
        for number in range(count):
            entry = {
                "actor": "user:ann",
                "action": "worker.maintenance",
                "subject": f"worker:{number}",
                **values,
            }
            audit.record(session, now=START + timedelta(seconds=number), **entry)


async def page(api: Api, **query: Any) -> dict[str, Any]:
    answer = await api.client.get("/api/audit", params=query, headers=api.admin())
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["data"])


async def test_pages_hold_every_entry_once_the_newest_first(api: Api) -> None:
    fill(api.service.database, 25)
    seen, query = [], {"limit": 10}
    while True:
        data = await page(api, **query)
        seen += [entry["subject"] for entry in data["entries"]]
        if data["nextCursor"] is None:
            break
        query["cursor"] = data["nextCursor"]
        fill(api.service.database, 1)  # what comes meanwhile moves nothing
    assert seen == [f"worker:{number}" for number in reversed(range(25))]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"actor": "user:bob"}, 1),
        ({"action": "worker.maintenance"}, 3),
        ({"subject": "worker:2"}, 1),
        ({"outcome": "refused"}, 1),
        ({"since": (START + timedelta(seconds=1)).isoformat()}, 2),
        ({"until": (START + timedelta(seconds=1)).isoformat()}, 3),
        ({"actor": "user:ann", "outcome": "refused"}, 0),
        ({}, 5),
    ],
)
async def test_entries_are_found_by_what_they_say(api: Api, query: dict[str, str], found: int) -> None:
    fill(api.service.database, 3)
    fill(api.service.database, 1, actor="user:bob", action="login", outcome="refused")
    fill(api.service.database, 1, actor="monitor", action="worker.expire")
    assert len((await page(api, **query))["entries"]) == found


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "9" * 19}, "cursor"),
        ({"limit": "0"}, "limit"),
        ({"limit": "501"}, "limit"),
        ({"since": "2026-01-01T00:00:00"}, "since"),
        ({"since": "0001-01-01T00:00:00+14:00"}, "since"),
        ({"until": "0.5"}, "until"),
        ({"until": "1893456000"}, "until"),
        ({"until": "9999-12-31T23:59:59-14:00"}, "until"),
        ({"outcome": "maybe"}, "outcome"),
        ({"actor": "a\x00b"}, "actor"),
        ({"subject": "x" * 301}, "subject"),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused_by_its_field(
    sqlite_api: Api, query: dict[str, str], field: str
) -> None:
    for path in ("/api/audit", "/api/audit/export"):
        if path.endswith("export") and field in {"cursor", "limit"}:
            continue
        answer = await sqlite_api.client.get(path, params=query, headers=sqlite_api.admin())
        assert (answer.status_code, [d["field"] for d in answer.json()["error"]["details"]]) == (422, [field])


async def test_the_export_as_json_lines_is_complete_and_in_order(api: Api) -> None:
    fill(api.service.database, audit_store.EXPORT_PAGE + 5, details={"reason": "disk"})
    answer = await api.client.get("/api/audit/export", headers=api.admin())
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert "attachment" in answer.headers["content-disposition"]
    expected = [f"worker:{number}" for number in range(audit_store.EXPORT_PAGE + 5)]
    assert [line["subject"] for line in lines if line["action"] == "worker.maintenance"] == expected
    assert lines[0]["details"] == {"reason": "disk"}
    assert (lines[-1]["actor"], lines[-1]["action"]) == ("user:some-admin", "audit.export")


async def test_the_export_as_csv_cannot_run_in_a_spreadsheet(sqlite_api: Api) -> None:
    fill(sqlite_api.service.database, 1, subject='=HYPERLINK("x")', details={"reason": "a,b\nc"})
    query = {"format": "csv", "action": "worker.maintenance"}
    answer = await sqlite_api.client.get("/api/audit/export", params=query, headers=sqlite_api.admin())
    assert answer.headers["content-type"].startswith("text/csv")
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert list(row) == ["id", "at", "actor", "action", "subject", "outcome", "peer", "requestId", "details"]
    assert row["subject"] == '\'=HYPERLINK("x")'
    assert json.loads(row["details"]) == {"reason": "a,b\nc"}


async def test_nothing_over_http_changes_the_log(sqlite_api: Api) -> None:
    fill(sqlite_api.service.database, 1)
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = await sqlite_api.client.request(method, "/api/audit", headers=sqlite_api.admin())
        assert answer.status_code == 405
    assert len((await page(sqlite_api))["entries"]) == 1


def test_entries_older_than_the_retention_are_deleted_and_no_others(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_store, "DELETED_AT_ONCE", 4)
    fill(database, 10)
    ages = Ages(audit=timedelta(days=30), history=None)
    gone = list(forget(database, ages, START + timedelta(days=30, seconds=7)))
    assert gone == [("audit", 4), ("audit", 3), ("deliveries", 0)]
    with database.reading() as session:
        assert [entry.subject for entry in session.scalars(select(AuditEntry))] == [
            "worker:7",
            "worker:8",
            "worker:9",
        ]


# ---- what is in it by itself


async def test_logins_and_refused_logins_are_in_the_log(api: Api) -> None:
    add(api, "ann")
    tokens = await log_in(api, "ann")
    await api.client.post("/api/auth/logout", headers=bearer(tokens["accessToken"]))
    for name in ("ann", "hunter2-my-password"):
        await api.client.post("/api/auth/login", json={"username": name, "password": "wrong"})
    entries = (await page(api))["entries"]
    assert [(e["actor"], e["action"], e["subject"], e["outcome"]) for e in entries] == [
        ("anonymous", "login", "", "refused"),  # a password in the wrong field is not written down
        ("anonymous", "login", "user:ann", "refused"),
        ("user:ann", "logout", "user:ann", "done"),
        ("user:ann", "login", "user:ann", "done"),
    ]
    assert {entry["peer"] for entry in entries} == {"127.0.0.1"}
    assert all(len(entry["requestId"]) == 32 for entry in entries)


async def test_refusals_for_want_of_a_role_are_in_the_log(api: Api) -> None:
    await api.client.get("/api/users", headers=api.as_role(Role.VIEWER))
    await api.client.get("/api/users")
    await api.client.get("/api/workers", headers=bearer("muster_guess"))
    entries = (await page(api, outcome="refused"))["entries"]
    assert [(entry["actor"], entry["action"], entry["subject"]) for entry in entries] == [
        ("anonymous", "access", "GET /api/workers"),
        ("anonymous", "access", "GET /api/users"),
        ("user:some-viewer", "access", "GET /api/users"),
    ]


async def test_refusals_do_not_flood_the_log(sqlite_api: Api) -> None:
    for _ in range(50):
        assert (await sqlite_api.client.get("/api/workers")).status_code == 401
    with sqlite_api.service.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(AuditEntry)) == 10


async def test_the_first_admin_and_users_are_in_the_log_without_their_passwords(api: Api) -> None:
    ann = add(api, "ann")
    change = {"password": "another-horse-battery"}
    await api.client.patch(f"/api/users/{ann.id}", json=change, headers=api.admin())
    (entry,) = (await page(api, action="user.update"))["entries"]
    assert entry["details"] == {"password": "[redacted]"}
    assert PASSWORD not in json.dumps(entry)


async def test_changes_of_users_are_in_the_log_with_the_address_that_they_came_from(sqlite_api: Api) -> None:
    admin, new = (
        sqlite_api.admin(),
        {"username": "zed", "password": "another-horse-battery", "role": "viewer"},
    )
    made = await sqlite_api.client.post("/api/users", json=new, headers=admin)
    path = f"/api/users/{made.json()['data']['id']}"
    own = {"currentPassword": new["password"], "newPassword": "a-third-horse-battery"}
    tokens = await log_in(sqlite_api, "zed", new["password"])
    auth = bearer(tokens["accessToken"])
    assert (await sqlite_api.client.post("/api/auth/password", json=own, headers=auth)).status_code == 200
    await sqlite_api.client.patch(path, json={"role": "operator"}, headers=admin)
    await sqlite_api.client.delete(path, headers=admin)
    entries = (await page(sqlite_api, subject="user:zed"))["entries"]
    assert [(entry["action"], entry["peer"]) for entry in entries] == [
        (action, "127.0.0.1")
        for action in ("user.remove", "user.update", "user.update", "login", "user.create")
    ]
