"""The JSON contract of logging in, of users, and of API keys."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field, SecretStr, StrictBool

from control_api.envelope import Moment, Request, Wire
from control_api.identity import passwords
from control_api.identity.models import ApiKey, User
from control_api.identity.roles import Role, Scope

NO_CONTROL = r"^[^\x00-\x1f\x7f]*$"
NAME = r"^[a-z0-9][a-z0-9._-]{0,62}$"
Name = Annotated[str, Field(pattern=NAME)]
KeyName = Annotated[str, Field(examples=["provisioning"])]


def encodable(secret: SecretStr) -> SecretStr:
    """Refuse lone surrogates, which no bytes stand for."""
    try:
        secret.get_secret_value().encode()
    except UnicodeEncodeError:
        msg = "is not Unicode text"
        raise ValueError(msg) from None
    return secret


Password = Annotated[SecretStr, Field(min_length=1, max_length=1024), AfterValidator(encodable)]
NewPassword = Annotated[
    SecretStr,
    Field(
        max_length=1024,
        json_schema_extra={"minLength": passwords.SHORTEST},  # refused with a better sentence than pydantic's
        description="At least 12 characters, 5 different ones, and not the username.",
    ),
    AfterValidator(encodable),
]


class Login(Request):
    """Who logs in."""

    username: Annotated[str, Field(min_length=1, max_length=63, pattern=NO_CONTROL)]
    password: Password


class Refresh(Request):
    """The long token, to get new ones; it is used once."""

    refresh_token: Annotated[SecretStr, Field(max_length=4096), AfterValidator(encodable)]


class LoggedIn(Wire):
    """The tokens of a login; expiresIn is in seconds."""

    access_token: str
    refresh_token: str
    expires_in: int


class LoggedOut(Wire):
    """The login is over."""

    logged_out: bool = True


class PasswordChange(Request):
    """A new password of one's own."""

    current_password: Password
    new_password: NewPassword


class Me(Wire):
    """Who asks: a user, or an API key, which has no id here but scopes."""

    id: UUID | None
    username: str
    role: Role | None
    scopes: list[Scope] = Field(examples=[[]])


class NewUser(Request):
    """A user to be."""

    username: Name
    password: NewPassword
    role: Role = Role.VIEWER


class UserChange(Request):
    """What is given is changed; each change ends the user's logins at once."""

    role: Role | None = None
    disabled: StrictBool | None = None
    password: NewPassword | None = None


class UserView(Wire):
    """A user, without the password."""

    id: UUID
    username: str
    role: Role
    disabled: bool
    created_at: datetime


class UserList(Wire):
    """All users, by name."""

    users: list[UserView]


class NewApiKey(Request):
    """A key to be; without expiresAt it is good until it is revoked."""

    name: Annotated[KeyName, Field(pattern=NAME)]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(Scope))]
    expires_at: Moment | None = None


class ApiKeyView(Wire):
    """A key, without what authenticates; lastUsedAt is exact to a minute."""

    id: UUID
    name: KeyName
    scopes: list[Scope]
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class MadeApiKey(ApiKeyView):
    """A new key; `key` is shown this once and stored nowhere."""

    key: str


class ApiKeyList(Wire):
    """All keys, also revoked ones, the newest first."""

    api_keys: list[ApiKeyView]


def user_view(user: User) -> UserView:
    """Return what is shown of a user."""
    return UserView(
        id=user.id,
        username=user.username,
        role=user.role,
        disabled=user.disabled,
        created_at=user.created_at,
    )


def key_view(key: ApiKey) -> ApiKeyView:
    """Return what is shown of a key."""
    return ApiKeyView.model_validate({name: getattr(key, name) for name in ApiKeyView.model_fields})


def made_key(key: str, stored: ApiKey) -> MadeApiKey:
    """Return what is shown of a new key, once."""
    return MadeApiKey(key=key, **key_view(stored).model_dump())
