"""The JSON contract of logging in."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import Field, SecretStr

from control_api.envelope import Request, Wire
from control_api.identity.roles import Role

NO_CONTROL = r"^[^\x00-\x1f\x7f]*$"


class Login(Request):
    """Who logs in."""

    username: Annotated[str, Field(min_length=1, max_length=63, pattern=NO_CONTROL)]
    password: Annotated[SecretStr, Field(min_length=1, max_length=1024)]


class Refresh(Request):
    """The long token, to get a new short one."""

    refresh_token: Annotated[SecretStr, Field(max_length=4096)]


class LoggedIn(Wire):
    """The tokens of a login; expiresIn is in seconds."""

    access_token: str
    refresh_token: str
    expires_in: int


class Me(Wire):
    """Who is logged in."""

    id: UUID
    username: str
    role: Role
