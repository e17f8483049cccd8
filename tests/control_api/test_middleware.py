"""Around every request: headers that trust a browser with nothing, and one line in the log without a secret."""

from __future__ import annotations

import json
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from control_api.identity.roles import Role
from tests.control_api.identity.world import add, log_in, refresh
from tests.control_api.world import INVENTORY_KEY, PASSWORD, SETTINGS, TOKEN, Api, bearer, registration

CSP = "default-src 'none'; frame-ancestors 'none'"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/workers", 200),
        ("/api/users", 200),
        ("/api/openapi.json", 200),
        ("/api/nowhere", 404),
        ("/healthz", 200),
        ("/api/workers/7034f966-b7f4-4394-b22d-0c8180282204", 404),
        ("/api/workers?limit=x", 422),
    ],
)
async def test_every_answer_has_the_headers(sqlite_api: Api, path: str, status: int) -> None:
    answer = await sqlite_api.client.get(
        path, headers={**sqlite_api.admin(), "Origin": "https://evil.example"}
    )
    assert answer.status_code == status
    assert answer.headers["content-security-policy"] == CSP
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_another_origin_is_allowed_nothing(sqlite_api: Api) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "DELETE"}
    answer = await sqlite_api.client.options("/api/workers", headers=asked)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_a_fault_of_ours_has_the_headers_and_a_line(
    sqlite_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("control_api.identity.store.everyone", broken)
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        answer = await sqlite_api.client.get("/api/users", headers=sqlite_api.admin())
    assert answer.status_code == 500
    assert answer.headers["content-security-policy"] == CSP
    (fault,) = [line for line in lines if line["event"] == "unexpected error"]
    assert fault["request_id"] == answer.headers["x-request-id"]
    assert [(line["status"], line["path"]) for line in lines if line["event"] == "request"] == [
        (500, "/api/users")
    ]


async def test_a_request_is_one_line_that_says_who_did_what(sqlite_api: Api) -> None:
    headers = {**sqlite_api.as_role(Role.OPERATOR), "X-Request-Id": "abc-123"}
    processors = [structlog.contextvars.merge_contextvars]
    with capture_logs(processors=processors) as lines:
        await sqlite_api.client.get("/api/workers?search=hunter2", headers=headers)
        await sqlite_api.client.get("/api/workers")
    shown = [line for line in lines if line["event"] == "request"]
    assert [
        {name: line[name] for name in ("method", "path", "status", "actor", "peer")} for line in shown
    ] == [
        {
            "method": "GET",
            "path": "/api/workers",
            "status": status,
            "actor": actor,
            "peer": "127.0.0.1",
        }
        for status, actor in ((200, "user:some-operator"), (401, "anonymous"))
    ]
    assert shown[0]["request_id"] == "abc-123"
    assert all(line["ms"] > 0 for line in shown)
    assert "hunter2" not in json.dumps(lines, default=str)


async def test_no_secret_of_any_request_is_ever_in_the_log(sqlite_api: Api) -> None:
    """Every secret goes in, in right and wrong requests, in the field where it belongs and in others."""
    add(sqlite_api, "ann", Role.ADMIN)
    with capture_logs(processors=[structlog.processors.format_exc_info]) as lines:
        tokens = await log_in(sqlite_api, "ann")
        auth = bearer(tokens["accessToken"])
        made = await sqlite_api.client.post(
            "/api/api-keys", json={"name": "k", "scopes": ["viewer"]}, headers=auth
        )
        key = made.json()["data"]["key"]
        worker = await sqlite_api.register()
        secrets = [
            PASSWORD,
            TOKEN,
            INVENTORY_KEY,
            key,
            worker["credential"],
            *tokens_of(tokens),
            *SETTINGS_SECRETS,
        ]
        for secret in secrets:
            await everywhere(sqlite_api, secret)
    said = json.dumps(lines, default=str)
    assert len([line for line in lines if line["event"] == "request"]) > 50
    assert [secret for secret in secrets if secret in said] == []


SETTINGS_SECRETS = [value for name, value in SETTINGS.items() if "SECRET" in name]


def tokens_of(tokens: dict[str, Any]) -> list[str]:
    return [tokens["accessToken"], tokens["refreshToken"]]


async def everywhere(api: Api, secret: str) -> None:
    """Send the secret in every place that takes text, so that most of the requests are refused."""
    await api.client.get(f"/api/workers?search={secret}&token={secret}", headers=bearer(secret))
    await api.client.post("/api/auth/login", json={"username": secret[:63], "password": secret})
    await api.client.post("/api/auth/login", json={"username": ["x", secret], secret: secret})
    await refresh(api, secret)
    await api.client.post("/api/users", json={"username": secret, "password": secret}, headers=api.admin())
    await api.client.post("/api/workers/register", json=registration(registrationToken=secret + "x"))
    await api.client.post("/api/workers/register", json=registration(hostname=secret, machineId=secret))
    await api.client.post("/api/workers/register", content=secret.encode())
