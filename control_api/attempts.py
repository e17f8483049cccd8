"""Failed attempts to authenticate, counted per address: whoever fails too often waits."""

from __future__ import annotations

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from control_api.errors import TooManyAttempts


class Attempts:
    """Counts failures of one kind within the last minute, in this process."""

    def __init__(self, kind: str, per_minute: int) -> None:
        """Allow so many failures a minute and address."""
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._limit = RateLimitItemPerMinute(per_minute, namespace=kind)

    def check(self, address: str | None) -> None:
        """Return when the address may try. Raises TooManyAttempts."""
        if not self._limiter.test(self._limit, address or "unknown"):
            raise TooManyAttempts

    def failed(self, address: str | None) -> None:
        """Count a failure."""
        self._limiter.hit(self._limit, address or "unknown")
