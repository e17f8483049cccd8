"""Users: administrators make, change and remove them, and an administrator always remains."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from control_api.errors import LastAdmin
from control_api.events.models import AuditEntry
from control_api.identity import accounts
from control_api.identity.models import User
from control_api.identity.roles import Role
from tests.control_api.identity.world import add, is_known, log_in
from tests.control_api.world import PASSWORD, Api, bearer

NEW = {"username": "ann", "password": PASSWORD, "role": "operator"}


async def test_an_admin_makes_lists_changes_and_removes_users(api: Api) -> None:
    admin = api.admin()
    made = await api.client.post("/api/users", json=NEW, headers=admin)
    assert made.status_code == 201
    ann = made.json()["data"]
    assert (ann["username"], ann["role"], ann["disabled"]) == ("ann", "operator", False)
    assert set(ann) == {"id", "username", "role", "disabled", "createdAt"}
    path = f"/api/users/{ann['id']}"
    assert (await api.client.get(path, headers=admin)).json()["data"] == ann
    listed = (await api.client.get("/api/users", headers=admin)).json()["data"]["users"]
    assert [user["username"] for user in listed] == ["ann", "some-admin"]
    changed = await api.client.patch(path, json={"role": "viewer", "disabled": True}, headers=admin)
    assert (changed.json()["data"]["role"], changed.json()["data"]["disabled"]) == ("viewer", True)
    assert (await api.client.delete(path, headers=admin)).json()["data"]["username"] == "ann"
    assert (await api.client.get(path, headers=admin)).status_code == 404
    with api.service.database.reading() as session:
        entries = session.scalars(select(AuditEntry).order_by(AuditEntry.id)).all()
    assert [(entry.actor, entry.action, entry.subject) for entry in entries] == [
        ("user:some-admin", "user.create", "user:ann"),
        ("user:some-admin", "user.update", "user:ann"),
        ("user:some-admin", "user.remove", "user:ann"),
    ]
    assert entries[1].details == {"role": "viewer", "disabled": True}


async def test_a_removed_user_is_nobody_at_once(api: Api) -> None:
    ann = add(api, "ann")
    tokens = await log_in(api, "ann")
    await api.client.delete(f"/api/users/{ann.id}", headers=api.admin())
    assert not await is_known(api, tokens)


async def test_a_name_is_taken_once(api: Api) -> None:
    statuses = [
        (await api.client.post("/api/users", json=NEW, headers=api.admin())).status_code for _ in range(2)
    ]
    assert statuses == [201, 409]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"password": "short"}, "password"),
        ({"password": "a" * 20}, "password"),
        ({"username": "ann-the-first", "password": "Ann-The-First1"}, "password"),
        ({"username": "Ann"}, "username"),
        ({"username": "a\x00b"}, "username"),
        ({"username": "a" * 64}, "username"),
        ({"role": "root"}, "role"),
        ({"rank": 1}, "rank"),
        ({"password": "a\ud800bcdefghijklmn"}, "password"),
    ],
)
async def test_a_bad_user_is_refused_by_the_field(
    sqlite_api: Api, change: dict[str, str], field: str
) -> None:
    headers = {**sqlite_api.admin(), "Content-Type": "application/json"}
    answer = await sqlite_api.client.post(
        "/api/users", content=json.dumps({**NEW, **change}), headers=headers
    )
    assert answer.status_code == 422, answer.text
    assert [detail["field"] for detail in answer.json()["error"]["details"]] == [field]


async def test_what_does_not_exist_is_not_found(sqlite_api: Api) -> None:
    path, admin = f"/api/users/{uuid4()}", sqlite_api.admin()
    answers = [
        await sqlite_api.client.get(path, headers=admin),
        await sqlite_api.client.patch(path, json={"role": "viewer"}, headers=admin),
        await sqlite_api.client.patch(path, json={"password": PASSWORD}, headers=admin),
        await sqlite_api.client.delete(path, headers=admin),
    ]
    assert {(answer.status_code, answer.json()["error"]["code"]) for answer in answers} == {
        (404, "USER_NOT_FOUND")
    }


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
async def test_only_admins_see_users(sqlite_api: Api, role: Role) -> None:
    headers = sqlite_api.as_role(role)
    for method, path in (
        ("GET", "/api/users"),
        ("POST", "/api/users"),
        ("GET", "/api/api-keys"),
        ("GET", "/api/audit"),
    ):
        answer = await sqlite_api.client.request(
            method, path, headers=headers, json=NEW if method == "POST" else None
        )
        assert answer.status_code == 403, path


# ---- the last administrator


@pytest.mark.parametrize("change", [{"role": "viewer"}, {"disabled": True}, None])
async def test_the_last_admin_stays(api: Api, change: dict[str, object] | None) -> None:
    admin = api.admin()
    users = (await api.client.get("/api/users", headers=admin)).json()["data"]["users"]
    path = f"/api/users/{users[0]['id']}"
    refused = (
        await api.client.patch(path, json=change, headers=admin)
        if change
        else await api.client.delete(path, headers=admin)
    )
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "LAST_ADMIN")
    assert (await api.client.get(path, headers=admin)).json()["data"] == users[0]


async def test_an_admin_who_is_disabled_does_not_count(api: Api) -> None:
    other = add(api, "other", Role.ADMIN)
    admin = api.admin()
    await api.client.patch(f"/api/users/{other.id}", json={"disabled": True}, headers=admin)
    me = (await api.client.get("/api/auth/me", headers=admin)).json()["data"]
    assert (await api.client.delete(f"/api/users/{me['id']}", headers=admin)).status_code == 409
    assert (await api.client.delete(f"/api/users/{other.id}", headers=admin)).status_code == 200


def test_admins_who_demote_each_other_at_once_leave_one(api: Api) -> None:
    for _ in range(5):
        admins = [add(api, f"admin-{uuid4().hex[:8]}", Role.ADMIN).id for _ in range(4)]
        barrier = threading.Barrier(4)

        def demote(user_id: UUID, barrier: threading.Barrier = barrier) -> bool:
            barrier.wait()
            try:
                accounts.change(
                    api.service.database, user_id, role=Role.VIEWER, actor="user:x", now=api.clock()
                )
            except LastAdmin:
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            assert sorted(pool.map(demote, admins)) == [False, True, True, True]
        with api.service.database.transaction() as session:
            left = session.scalars(select(User).where(User.role == Role.ADMIN)).all()
            assert len(left) == 1
            left[0].role = Role.VIEWER  # for the next round


# ---- one's own password


async def test_a_user_changes_the_own_password_and_every_other_login_ends(api: Api) -> None:
    add(api, "ann")
    here, there = await log_in(api, "ann"), await log_in(api, "ann")
    change = {"currentPassword": PASSWORD, "newPassword": "a-new-horse-battery"}
    answer = await api.client.post("/api/auth/password", json=change, headers=bearer(here["accessToken"]))
    assert answer.status_code == 200, answer.text
    assert [await is_known(api, tokens) for tokens in (here, there, answer.json()["data"])] == [
        False,
        False,
        True,
    ]
    await log_in(api, "ann", "a-new-horse-battery")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"currentPassword": "wrong", "newPassword": "a-new-horse-battery"}, "currentPassword"),
        ({"currentPassword": PASSWORD, "newPassword": "short"}, "newPassword"),
        ({"currentPassword": PASSWORD, "newPassword": "aaaaaaaaaaaaaaaa"}, "newPassword"),
    ],
)
async def test_a_refused_change_of_password_changes_nothing(
    sqlite_api: Api, change: dict[str, str], field: str
) -> None:
    add(sqlite_api, "ann")
    tokens = await log_in(sqlite_api, "ann")
    answer = await sqlite_api.client.post(
        "/api/auth/password", json=change, headers=bearer(tokens["accessToken"])
    )
    assert (answer.status_code, [d["field"] for d in answer.json()["error"]["details"]]) == (422, [field])
    assert await is_known(sqlite_api, tokens)
    await log_in(sqlite_api, "ann")


async def test_a_stolen_access_token_does_not_help_to_guess_the_password(sqlite_api: Api) -> None:
    add(sqlite_api, "ann")
    headers = bearer((await log_in(sqlite_api, "ann"))["accessToken"])
    guess = {"currentPassword": "wrong", "newPassword": "a-new-horse-battery"}
    statuses = [
        (await sqlite_api.client.post("/api/auth/password", json=guess, headers=headers)).status_code
        for _ in range(11)
    ]
    assert statuses == [422] * 10 + [429]
