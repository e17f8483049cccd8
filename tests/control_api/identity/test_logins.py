"""Logins: they end at once, everywhere; a refresh token is used once."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import func, select

from control_api.db import Database
from control_api.events.models import AuditEntry
from control_api.identity import accounts, gate, store
from control_api.identity.models import Login
from control_api.identity.roles import Role
from tests.control_api.identity.world import add, is_known, log_in, refresh
from tests.control_api.world import PASSWORD, Api, Clock, bearer, make_settings, running_api


async def test_a_logout_ends_every_token_of_that_login_and_no_other(api: Api) -> None:
    add(api, "ann")
    here, there = await log_in(api, "ann"), await log_in(api, "ann")
    answer = await api.client.post("/api/auth/logout", headers=bearer(here["accessToken"]))
    assert (answer.status_code, answer.json()["data"]) == (200, {"loggedOut": True})
    assert not await is_known(api, here)
    assert (await refresh(api, here["refreshToken"])).status_code == 401
    assert await is_known(api, there)


async def test_a_logout_is_felt_in_every_process_at_once(database_url: str, clock: Clock) -> None:
    async with (
        running_api(make_settings(database_url), clock) as one,
        running_api(make_settings(database_url), clock) as other,
    ):
        add(one, "ann")
        tokens = await log_in(one, "ann")
        assert await is_known(other, tokens)
        await one.client.post("/api/auth/logout", headers=bearer(tokens["accessToken"]))
        assert not await is_known(other, tokens)


async def test_a_revocation_survives_a_restart(database_url: str, clock: Clock) -> None:
    async with running_api(make_settings(database_url), clock) as before:
        add(before, "ann")
        tokens = await log_in(before, "ann")
        await before.client.post("/api/auth/logout", headers=bearer(tokens["accessToken"]))
    async with running_api(make_settings(database_url), clock) as after:
        assert not await is_known(after, tokens)
        assert (await refresh(after, tokens["refreshToken"])).status_code == 401


async def test_a_refresh_token_is_used_once_and_gives_the_next(api: Api) -> None:
    add(api, "ann")
    first = await log_in(api, "ann")
    second = (await refresh(api, first["refreshToken"])).json()["data"]
    assert second["refreshToken"] != first["refreshToken"]
    third = await refresh(api, second["refreshToken"])
    assert third.status_code == 200
    assert await is_known(api, first)  # the access token lives on to its own end


async def test_a_refresh_token_that_comes_twice_ends_the_whole_login(api: Api) -> None:
    add(api, "ann")
    first, apart = await log_in(api, "ann"), await log_in(api, "ann")
    second = (await refresh(api, first["refreshToken"])).json()["data"]
    assert (await refresh(api, first["refreshToken"])).status_code == 401
    for tokens in (first, second):
        assert not await is_known(api, tokens)
    assert (await refresh(api, second["refreshToken"])).status_code == 401
    assert await is_known(api, apart)
    assert ("user:ann", "login.refresh", "refused") in audited(api.service.database)


async def test_of_simultaneous_refreshes_at_most_one_gets_tokens(api: Api) -> None:
    add(api, "ann")
    tokens = await log_in(api, "ann")
    answers = await asyncio.gather(*(refresh(api, tokens["refreshToken"]) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 7
    won = next(answer.json()["data"] for answer in answers if answer.status_code == 200)
    assert not await is_known(api, won)  # one of the eight may be a thief


@pytest.mark.parametrize(
    "change", [{"password": "another-horse-battery"}, {"role": "operator"}, {"disabled": True}]
)
async def test_a_new_password_role_or_disabling_ends_every_login_of_that_user(
    api: Api, change: dict[str, object]
) -> None:
    ann = add(api, "ann")
    add(api, "bob")
    hers, his = [await log_in(api, "ann"), await log_in(api, "ann")], await log_in(api, "bob")
    answer = await api.client.patch(f"/api/users/{ann.id}", json=change, headers=api.admin())
    assert answer.status_code == 200, answer.text
    for tokens in hers:
        assert not await is_known(api, tokens)
        assert (await refresh(api, tokens["refreshToken"])).status_code == 401
    assert await is_known(api, his)


async def test_a_change_that_changes_nothing_ends_no_login(sqlite_api: Api) -> None:
    ann = add(sqlite_api, "ann")
    tokens = await log_in(sqlite_api, "ann")
    same = {"role": "viewer", "disabled": False}
    await sqlite_api.client.patch(f"/api/users/{ann.id}", json=same, headers=sqlite_api.admin())
    assert await is_known(sqlite_api, tokens)


async def test_a_login_that_began_before_a_change_of_password_gets_no_tokens(api: Api) -> None:
    add(api, "ann")
    with api.service.database.reading() as session:
        read_before = store.by_name(session, "ann")
    assert read_before is not None
    accounts.change(
        api.service.database,
        read_before.id,
        password="another-horse-battery",
        actor="user:x",
        now=api.clock(),
    )
    with pytest.raises(accounts.InvalidLogin), api.service.database.transaction() as session:
        accounts.unchanged(session, read_before)


async def test_a_disabled_user_cannot_log_in_until_enabled(api: Api) -> None:
    ann = add(api, "ann")
    for disabled, status in ((True, 401), (False, 200)):
        await api.client.patch(f"/api/users/{ann.id}", json={"disabled": disabled}, headers=api.admin())
        answer = await api.client.post("/api/auth/login", json={"username": "ann", "password": PASSWORD})
        assert answer.status_code == status


async def test_logins_long_over_are_forgotten(api: Api, clock: Clock) -> None:
    add(api, "ann")
    await log_in(api, "ann")
    clock.advance(60 * 86400)
    await log_in(api, "ann")
    with api.service.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Login)) == 1


async def test_the_tokens_of_a_login_open_nothing_without_its_row(sqlite_api: Api) -> None:
    """A secret that leaked lets nobody make tokens of logins that never were."""
    user = add(sqlite_api, "ann", Role.ADMIN)
    with sqlite_api.service.database.transaction() as session:
        pair = sqlite_api.service.logins.begin(session, user, peer=None, now=sqlite_api.clock())
        session.rollback()
    assert not await is_known(sqlite_api, {"accessToken": pair.access})


def test_everybody_knows_themselves(sqlite_api: Api) -> None:
    token = sqlite_api.access_token(Role.OPERATOR)
    caller = gate.identify(sqlite_api.service, token, sqlite_api.clock())
    assert (caller.actor, caller.role) == ("user:some-operator", Role.OPERATOR)


def audited(database: Database) -> list[tuple[str, str, str]]:
    with database.reading() as session:
        return [
            (entry.actor, entry.action, entry.outcome.value) for entry in session.scalars(select(AuditEntry))
        ]
