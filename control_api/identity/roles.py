"""The roles of people, each of which may do what the one before it may, and the scopes of API keys."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What a person may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, needed: Role) -> bool:
        """Say whether this role may do what `needed` may."""
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(needed)


class Scope(StrEnum):
    """What an API key may do: all that a role may, or one thing and nothing else."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"
    INVENTORY = "inventory"
    METRICS = "metrics"
    ENROLMENT = "enrolment"
    AUDIT = "audit"


def role_of(scopes: frozenset[Scope]) -> Role | None:
    """Return the highest role among the scopes."""
    held = [role for role in Role if role.value in scopes]
    return held[-1] if held else None
