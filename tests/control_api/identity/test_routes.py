"""Logging in: the first administrator, tokens, and what happens to those who guess."""

from __future__ import annotations

import json
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import delete, func, select

from control_api.identity import accounts
from control_api.identity.models import User
from control_api.identity.tokens import Claims, Tokens
from tests.control_api.world import PASSWORD, SETTINGS, START, Api, Clock, bearer

LOGIN = {"username": "admin", "password": PASSWORD}


@pytest.fixture
def api(api: Api) -> Api:
    """The API with its first administrator, on both databases."""
    return with_admin(api)


@pytest.fixture
def sqlite_api(sqlite_api: Api) -> Api:
    """The same where the database makes no difference."""
    return with_admin(sqlite_api)


def with_admin(api: Api) -> Api:
    with api.service.database.transaction() as session:
        assert accounts.ensure_first_admin(session, "admin", PASSWORD, START)
    return api


async def test_the_first_admin_logs_in(api: Api) -> None:
    answer = await api.client.post("/api/auth/login", json=LOGIN)
    assert answer.status_code == 200
    data = answer.json()["data"]
    assert (set(data), data["expiresIn"]) == ({"accessToken", "refreshToken", "expiresIn"}, 86400)
    me = await api.client.get("/api/auth/me", headers=bearer(data["accessToken"]))
    assert (me.json()["data"]["username"], me.json()["data"]["role"]) == ("admin", "admin")
    listed = await api.client.get("/api/workers", headers=bearer(data["accessToken"]))
    assert listed.status_code == 200


def test_the_first_admin_is_made_once(api: Api) -> None:
    with api.service.database.transaction() as session:
        assert not accounts.ensure_first_admin(session, "admin", "another-password", START)
        assert not accounts.ensure_first_admin(session, "another-name", "another-password", START)
        assert session.scalar(select(func.count()).select_from(User)) == 1


def test_a_password_is_stored_as_an_argon2_hash(sqlite_api: Api) -> None:
    with sqlite_api.service.database.reading() as session:
        stored = session.scalars(select(User.password_hash)).one()
    assert stored.startswith("$argon2id$")
    assert PASSWORD not in stored


@pytest.mark.parametrize(
    "attempt",
    [
        {"username": "admin", "password": "wrong"},
        {"username": "nobody", "password": PASSWORD},
        {"username": "ADMIN", "password": PASSWORD},
        {"username": "admin", "password": PASSWORD + " "},
    ],
)
async def test_a_wrong_name_and_a_wrong_password_get_the_same_answer(
    sqlite_api: Api, attempt: dict[str, str]
) -> None:
    answer = await sqlite_api.client.post("/api/auth/login", json=attempt)
    assert (answer.status_code, answer.json()) == (
        401,
        {
            "success": False,
            "message": "The username or the password is wrong.",
            "error": {"code": "INVALID_LOGIN", "details": []},
        },
    )


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"username": "admin"}, "password"),
        ({"username": "", "password": "x"}, "username"),
        ({"username": "a\x00b", "password": "x"}, "username"),
        ({"username": "admin", "password": ""}, "password"),
        ({"username": "admin", "password": "x" * 1025}, "password"),
        ({"username": "admin", "password": "\ud800"}, "password"),
        ({"username": "\ud800", "password": "x"}, "username"),
        ({"username": 7, "password": "x"}, "username"),
        ({**LOGIN, "role": "admin"}, "role"),
    ],
)
async def test_a_bad_login_names_its_field(sqlite_api: Api, body: dict[str, str], field: str) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await sqlite_api.client.post("/api/auth/login", content=json.dumps(body), headers=headers)
    assert answer.status_code == 422
    assert [detail["field"] for detail in answer.json()["error"]["details"]] == [field]


async def test_who_guesses_has_to_wait(sqlite_api: Api) -> None:
    guess = {"username": "nobody", "password": "x"}
    statuses = [(await sqlite_api.client.post("/api/auth/login", json=guess)).status_code for _ in range(11)]
    assert statuses == [401] * 10 + [429]
    blocked = await sqlite_api.client.post("/api/auth/login", json=LOGIN)
    assert blocked.status_code == 429
    assert 0 < int(blocked.headers["retry-after"]) <= 60


async def test_tokens_expire(sqlite_api: Api, clock: Clock) -> None:
    data = (await sqlite_api.client.post("/api/auth/login", json=LOGIN)).json()["data"]
    clock.advance(timedelta(hours=24).total_seconds() - 1)
    assert (
        await sqlite_api.client.get("/api/workers", headers=bearer(data["accessToken"]))
    ).status_code == 200
    clock.advance(1)
    assert (
        await sqlite_api.client.get("/api/workers", headers=bearer(data["accessToken"]))
    ).status_code == 401
    renewed = await sqlite_api.client.post("/api/auth/refresh", json={"refreshToken": data["refreshToken"]})
    fresh = renewed.json()["data"]["accessToken"]
    assert (await sqlite_api.client.get("/api/workers", headers=bearer(fresh))).status_code == 200
    clock.advance(timedelta(days=7).total_seconds())
    stale = await sqlite_api.client.post("/api/auth/refresh", json={"refreshToken": data["refreshToken"]})
    assert stale.status_code == 401


async def test_a_token_of_one_kind_is_not_one_of_the_other(sqlite_api: Api) -> None:
    data = (await sqlite_api.client.post("/api/auth/login", json=LOGIN)).json()["data"]
    wrong = await sqlite_api.client.post("/api/auth/refresh", json={"refreshToken": data["accessToken"]})
    assert wrong.status_code == 401
    assert (
        await sqlite_api.client.get("/api/workers", headers=bearer(data["refreshToken"]))
    ).status_code == 401


async def test_a_user_that_is_gone_is_nobody(api: Api) -> None:
    data = (await api.client.post("/api/auth/login", json=LOGIN)).json()["data"]
    with api.service.database.transaction() as session:
        session.execute(delete(User))
    assert (await api.client.get("/api/auth/me", headers=bearer(data["accessToken"]))).status_code == 401
    refresh = await api.client.post("/api/auth/refresh", json={"refreshToken": data["refreshToken"]})
    assert refresh.status_code == 401


async def test_forged_tokens_are_refused(sqlite_api: Api, clock: Clock) -> None:
    caller = Claims(uuid4(), uuid4(), uuid4())
    other_secret = Tokens("access", "x" * 32, timedelta(hours=1)).issue(caller, clock())
    other_kind = Tokens("refresh", SETTINGS["JWT_SECRET"], timedelta(hours=1)).issue(caller, clock())
    head, body, _ = (
        Tokens("access", SETTINGS["JWT_SECRET"], timedelta(hours=1)).issue(caller, clock()).split(".")
    )
    unsigned = f"eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{body}."
    for token in (other_secret, other_kind, unsigned, f"{head}.{body}.", f"{head}.{body}.AAAA", "..", "x"):
        assert (await sqlite_api.client.get("/api/workers", headers=bearer(token))).status_code == 401, token
