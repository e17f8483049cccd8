"""Which refused attempts the audit log gets: of one caller or address so few that nobody fills a disk with them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from limits import RateLimitItem, RateLimitItemPerMinute

from control_api import errors
from control_api.attempts import Counters, source
from control_api.errors import MusterError, TooManyAttempts
from control_api.events import audit

if TYPE_CHECKING:
    from control_api.db import Database

NOTED = RateLimitItemPerMinute(10, namespace="refusals")  # of one caller or address
# Who is turned away by a limit has used up those ten before; that it came to this is written too.
TURNED_AWAY = RateLimitItemPerMinute(1, namespace="refusals-by-limits")
IN_ALL = RateLimitItemPerMinute(300, namespace="all-refusals")


class Refusals:
    """Writes refused attempts, each with the limit that holds for its kind."""

    def __init__(self, database: Database, counters: Counters) -> None:
        """Write there; counters: what was written lately, by this process."""
        self._database = database
        self._counters = counters

    def note(
        self,
        exc: MusterError,
        *,
        actor: str,
        action: str,
        subject: str = "",
        peer: str | None,
        details: dict[str, Any] | None = None,
        now: datetime,
    ) -> None:
        """Write a refused attempt, unless there were too many: then the service's log has it alone."""
        limit = TURNED_AWAY if isinstance(exc, TooManyAttempts) else NOTED
        who = source(peer) if actor == audit.ANONYMOUS else actor
        if self.admits(who, limit, IN_ALL):
            audit.record_refusal(
                self._database,
                actor=actor,
                action=action,
                subject=subject,
                peer=peer,
                details=shown(exc, limit, details),
                now=now,
            )

    def admits(self, who: str, limit: RateLimitItem, in_all: RateLimitItem) -> bool:
        """Say whether another one of this caller or address may be written, and count it."""
        try:
            self._counters.check(in_all, "")  # first: so many callers are remembered, and not more
            self._counters.hit(limit, who)
            self._counters.hit(in_all, "")
        except TooManyAttempts:
            return False
        return True


def shown(exc: MusterError, limit: RateLimitItem, details: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the details of an entry: the cause, and how many such entries there are at most."""
    return {"cause": errors.code(type(exc)), **(details or {}), "atMost": str(limit)}
