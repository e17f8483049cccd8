"""The JSON web tokens of people: a short one to act with, a long one to get the next."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import jwt

from control_api.errors import Unauthorized

ALGORITHM = "HS256"


class Claims(NamedTuple):
    """What a token says. Whether its login still stands, only the database knows."""

    user_id: UUID
    login_id: UUID
    token_id: UUID


class Tokens:
    """Makes and checks tokens of one kind; the kinds have secrets of their own."""

    def __init__(self, kind: str, secret: str, lifetime: timedelta) -> None:
        """Make tokens of this kind that live so long."""
        self._kind = kind
        self._secret = secret
        self.lifetime = lifetime

    def issue(self, claims: Claims, now: datetime) -> str:
        """Return a token that says this."""
        said = {
            "sub": str(claims.user_id),
            "sid": str(claims.login_id),
            "jti": str(claims.token_id),
            "kind": self._kind,
            "iat": now,
            "exp": now + self.lifetime,
        }
        return jwt.encode(said, self._secret, algorithm=ALGORITHM)

    def check(self, token: str, now: datetime) -> Claims:
        """Return what the token says. Raises Unauthorized when it is not ours, not of this kind, or too old."""
        try:
            said = jwt.decode(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                options={"require": ["sub", "exp", "iat"], "verify_exp": False, "verify_iat": False},
            )
            fits = said["kind"] == self._kind and said["exp"] > now.timestamp()
            claims = Claims(UUID(said["sub"]), UUID(said["sid"]), UUID(said["jti"]))
        except (jwt.InvalidTokenError, ValueError, KeyError, TypeError, AttributeError):
            raise Unauthorized from None
        if not fits:
            raise Unauthorized
        return claims
