"""Who reads the metrics: they are wanted most while the database is away, and with it everybody's key."""

from __future__ import annotations

from datetime import datetime, timedelta

from control_api.identity import keys

KEPT = timedelta(hours=1)


class Scrapers:
    """Remembers, by their hashes, the tokens that have lately been let in."""

    def __init__(self) -> None:
        """Begin without any."""
        self._seen: dict[str, datetime] = {}

    def remember(self, token: str, now: datetime) -> None:
        """Note that the token was let in."""
        lately = {digest: at for digest, at in self._seen.items() if now - at < KEPT}
        self._seen = {**lately, keys.digest(token): now}

    def forget(self, token: str) -> None:
        """Note that the token was refused."""
        self._seen = {digest: at for digest, at in self._seen.items() if digest != keys.digest(token)}

    def knows(self, token: str, now: datetime) -> bool:
        """Say whether the token was let in within the last hour, and not refused since."""
        at = self._seen.get(keys.digest(token))
        return at is not None and now - at < KEPT
