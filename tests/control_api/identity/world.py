"""People of the tests: they exist, log in, and speak with the tokens that they got."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import httpx2

from control_api.identity import passwords, store
from control_api.identity.models import User
from control_api.identity.roles import Role
from tests.control_api.world import PASSWORD, Api, bearer


@lru_cache(maxsize=1)
def password_hash() -> str:
    return passwords.hash_password(PASSWORD)


def add(api: Api, username: str, role: Role = Role.VIEWER) -> User:
    """Add a user with the password of the tests."""
    with api.service.database.transaction() as session:
        user = store.add_once(session, username, password_hash(), role, api.clock())
    assert user is not None
    return user


async def log_in(api: Api, username: str, password: str = PASSWORD) -> dict[str, Any]:
    """Return the tokens of a new login."""
    answer = await api.client.post("/api/auth/login", json={"username": username, "password": password})
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["data"])


async def refresh(api: Api, token: str) -> httpx2.Response:
    return await api.client.post("/api/auth/refresh", json={"refreshToken": token})


async def is_known(api: Api, tokens: dict[str, Any]) -> bool:
    """Say whether the access token opens something."""
    answer = await api.client.get("/api/auth/me", headers=bearer(tokens["accessToken"]))
    assert answer.status_code in {200, 401}
    return answer.status_code == 200
