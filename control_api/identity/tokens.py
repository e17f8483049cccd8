"""The JSON web tokens of people: a short one to act with, a long one to get the next."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID, uuid4

import jwt

from control_api.errors import Unauthorized
from control_api.identity.roles import Role

ALGORITHM = "HS256"


class Caller(NamedTuple):
    """Who asks."""

    user_id: UUID
    username: str
    role: Role

    @property
    def actor(self) -> str:
        """The caller's name in the audit log and in transitions."""
        return f"user:{self.username}"


class Tokens:
    """Makes and checks tokens of one kind; the kinds have secrets of their own."""

    def __init__(self, kind: str, secret: str, lifetime: timedelta) -> None:
        """Make tokens of this kind that live so long."""
        self._kind = kind
        self._secret = secret
        self.lifetime = lifetime

    def issue(self, caller: Caller, now: datetime) -> str:
        """Return a token for the caller."""
        claims = {
            "sub": str(caller.user_id),
            "name": caller.username,
            "role": caller.role.value,
            "kind": self._kind,
            "jti": uuid4().hex,
            "iat": now,
            "exp": now + self.lifetime,
        }
        return jwt.encode(claims, self._secret, algorithm=ALGORITHM)

    def check(self, token: str, now: datetime) -> Caller:
        """Return whose token it is. Raises Unauthorized."""
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                options={"require": ["sub", "exp", "iat"], "verify_exp": False, "verify_iat": False},
            )
            fits = claims["kind"] == self._kind and claims["exp"] > now.timestamp()
            caller = Caller(UUID(claims["sub"]), claims["name"], Role(claims["role"]))
        except (jwt.InvalidTokenError, ValueError, KeyError, TypeError):
            raise Unauthorized from None
        if not fits:
            raise Unauthorized
        return caller
