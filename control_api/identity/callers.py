"""Who asks: a person who is logged in, or a program with a key."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from control_api.identity.roles import Role, Scope, role_of


class Caller(NamedTuple):
    """Who asks. A program has no user_id and no login_id; a person has no scopes."""

    username: str
    role: Role | None
    user_id: UUID | None = None
    login_id: UUID | None = None
    scopes: frozenset[Scope] = frozenset()

    @property
    def actor(self) -> str:
        """The caller's name in the audit log and in transitions."""
        return f"{'user' if self.user_id else 'api-key'}:{self.username}"

    def may(self, role: Role, *scopes: Scope) -> bool:
        """Say whether the caller has that role, or one above it, or one of the scopes."""
        return (self.role is not None and self.role.covers(role)) or not self.scopes.isdisjoint(scopes)


def program(name: str, scopes: frozenset[Scope]) -> Caller:
    """Return the caller that holds the key of this name."""
    return Caller(name, role_of(scopes), scopes=scopes)
