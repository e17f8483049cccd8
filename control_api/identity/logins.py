"""Logins: two tokens begin one, a refresh token is used once, and the end of a login ends all its tokens."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from control_api.errors import Unauthorized
from control_api.identity import store
from control_api.identity.callers import Caller
from control_api.identity.tokens import Claims, Tokens

if TYPE_CHECKING:
    from sqlalchemy.orm import Session  # opaque here: the queries are in store

    from control_api.identity.models import User


class Pair(NamedTuple):
    """What somebody who logs in is given; expires_in: seconds that the access token lives."""

    access: str
    refresh: str
    expires_in: int


class Logins:
    """Begins, continues, checks and ends logins. The database says which stand: an end is felt at once, everywhere."""

    def __init__(self, access: Tokens, refresh: Tokens) -> None:
        """Make tokens of these two kinds."""
        self._access = access
        self._refresh = refresh

    def begin(self, session: Session, user: User, *, peer: str | None, now: datetime) -> Pair:
        """Log the user in."""
        refresh_id = uuid4()
        until = now + self._refresh.lifetime
        login_id = store.add_login(session, user, refresh_id, peer=peer, now=now, until=until)
        return self._pair(Claims(user.id, login_id, refresh_id), now)

    def caller(self, session: Session, token: str, now: datetime) -> Caller:
        """Return who holds the access token, with the role of this moment. Raises Unauthorized."""
        return self._holder(session, self._access.check(token, now))

    def renew(self, session: Session, token: str, now: datetime) -> tuple[Caller, Pair | None]:
        """Exchange a refresh token for new tokens, once. Raises Unauthorized.

        No tokens: it was used before, so somebody has a copy; this transaction revokes the whole login.
        """
        claims = self._refresh.check(token, now)
        caller = self._holder(session, claims)
        fresh = claims._replace(token_id=uuid4())
        until = now + self._refresh.lifetime
        if store.exchange(session, claims.login_id, claims.token_id, fresh.token_id, until=until):
            return caller, self._pair(fresh, now)
        store.end_login(session, claims.login_id, now)
        return caller, None

    def end(self, session: Session, caller: Caller, now: datetime) -> None:
        """Log the caller out."""
        if caller.login_id is not None:
            store.end_login(session, caller.login_id, now)

    def _holder(self, session: Session, claims: Claims) -> Caller:
        user = store.holder(session, claims.login_id)
        if user is None or user.id != claims.user_id:
            raise Unauthorized
        return Caller(user.username, user.role, user.id, claims.login_id)

    def _pair(self, claims: Claims, now: datetime) -> Pair:
        return Pair(
            self._access.issue(claims._replace(token_id=uuid4()), now),
            self._refresh.issue(claims, now),
            int(self._access.lifetime.total_seconds()),
        )
