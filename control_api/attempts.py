"""Attempts, counted within sliding windows: whoever tries or fails too often waits."""

from __future__ import annotations

import hashlib
import ipaddress
import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import redis
import structlog
from limits import RateLimitItem, RateLimitItemPerHour, RateLimitItemPerMinute
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter

from control_api.degraded import Degraded
from control_api.errors import TooManyAttempts

SHARED = "rateLimits"  # the name under which /readyz says that limits are counted per process only
PAUSE = 5.0  # seconds without Redis after a failure of it, so that its silence delays few requests
NETWORK = 64  # bits of an IPv6 address that one customer of a provider has in common
Answer = TypeVar("Answer")
log = structlog.get_logger()


class Counters:
    """Counts in this process always, and in Redis too while it answers, so that processes share what they saw."""

    def __init__(
        self, client: redis.Redis | None, degraded: Degraded, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Count here, and with the client there."""
        self._own = MovingWindowRateLimiter(MemoryStorage())
        self._shared = _shared(client) if client else None
        self._client = client
        self._degraded = degraded
        self._clock = clock
        self._pause_until = -math.inf

    def hit(self, limit: RateLimitItem, key: str) -> None:
        """Count an attempt. Raises TooManyAttempts when there were too many already."""
        if not self._own.hit(limit, key) or not self._ask(lambda shared: shared.hit(limit, key), True):
            raise self._refusal(limit, key)

    def check(self, limit: RateLimitItem, key: str) -> None:
        """Return when there were not too many. Raises TooManyAttempts."""
        if not self._own.test(limit, key) or not self._ask(lambda shared: shared.test(limit, key), True):
            raise self._refusal(limit, key)

    def probe(self) -> None:
        """Find out whether Redis answers, so that the degraded features are named before somebody needs them."""
        client = self._client
        if client is not None:
            self._ask(lambda _: bool(client.ping()), False)

    def _refusal(self, limit: RateLimitItem, key: str) -> TooManyAttempts:
        own = self._own.get_window_stats(limit, key).reset_time
        shared = self._ask(lambda shared: shared.get_window_stats(limit, key).reset_time, 0.0)
        return TooManyAttempts(retry_after=max(1, math.ceil(max(own, shared) - time.time())))

    def _ask(self, question: Callable[[MovingWindowRateLimiter], Answer], otherwise: Answer) -> Answer:
        if self._shared is None or self._clock() < self._pause_until:
            return otherwise
        try:
            answer = question(self._shared)
        except (redis.RedisError, OSError) as exc:
            self._pause_until = self._clock() + PAUSE
            if SHARED not in self._degraded.names():
                log.warning(
                    "redis does not answer, limits are counted per process", reason=type(exc).__name__
                )
            self._degraded.set(SHARED, True)
            return otherwise
        self._degraded.set(SHARED, False)
        return answer


class Attempts:
    """Failed attempts of one kind within a minute, per address."""

    def __init__(self, kind: str, per_minute: int, counters: Counters) -> None:
        """Allow so many failures a minute and address."""
        self._counters = counters
        self._limit = RateLimitItemPerMinute(per_minute, namespace=kind)

    def check(self, address: str | None) -> None:
        """Return when the address may try. Raises TooManyAttempts."""
        self._counters.check(self._limit, source(address))

    def failed(self, address: str | None) -> None:
        """Count a failure."""
        with suppress(TooManyAttempts):
            self._counters.hit(self._limit, source(address))


class LoginAttempts:
    """Attempts to log in: how many an address may make, how many may fail, and how many may fail for one name.

    A name's failures are counted apart, so that a botnet cannot guess one password from a thousand addresses.
    They never lock the user out: from an address where that user logged in before, they are not asked.
    """

    def __init__(self, counters: Counters, *, attempts: int, failures: int, failures_of_a_name: int) -> None:
        """Allow so many attempts and failures a minute and address, and so many failures an hour and name."""
        self._counters = counters
        self._attempts = RateLimitItemPerMinute(attempts, namespace="login")
        self._failures = RateLimitItemPerMinute(failures, namespace="login-failed")
        self._name = RateLimitItemPerHour(failures_of_a_name, namespace="login-name")

    def begin(self, address: str | None, username: str, *, comes_from_there: Callable[[], bool]) -> None:
        """Count an attempt, before the password is looked at. Raises TooManyAttempts."""
        self._counters.check(self._failures, source(address))
        self._counters.hit(self._attempts, source(address))
        try:
            self._counters.check(self._name, _digest(username))
        except TooManyAttempts:
            if not comes_from_there():
                raise

    def failed(self, address: str | None, username: str) -> None:
        """Count a failure."""
        for limit, key in ((self._failures, source(address)), (self._name, _digest(username))):
            with suppress(TooManyAttempts):
                self._counters.hit(limit, key)


def source(address: str | None) -> str:
    """Return what stands for whoever sits at the address: it, or the network of an IPv6 address."""
    parsed = ipaddress.ip_address(address) if address else None
    if parsed is None or parsed.version == 4:
        return address or "unknown"
    return str(ipaddress.ip_network((int(parsed), NETWORK), strict=False))


def _digest(name: str) -> str:
    """Make a key of a fixed size of whatever a client sent."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def _shared(client: redis.Redis) -> MovingWindowRateLimiter:
    storage = RedisStorage("redis://", connection_pool=client.connection_pool, key_prefix="muster:limits")
    return MovingWindowRateLimiter(storage)
