"""The one client of Redis, which carries what may be lost; everything works without it, as in one process."""

from __future__ import annotations

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from control_api.errors import BadSettings

PATIENCE = 0.3  # seconds; a request waits no longer for what it can do without


def connect(url: str | None) -> redis.Redis | None:
    """Return the client for `url`, at rest until it is first used; None without a URL. Raises BadSettings."""
    if url is None:
        return None
    try:
        return redis.Redis.from_url(
            url,
            socket_connect_timeout=PATIENCE,
            socket_timeout=PATIENCE,
            retry=Retry(NoBackoff(), 1),  # a kept connection may have died meanwhile
            max_connections=64,
        )
    except ValueError:
        msg = "REDIS_URL is not a URL such as redis://user:password@host:6379/0."
        raise BadSettings(msg) from None  # the cause would show the password
