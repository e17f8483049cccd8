"""Who the workers of a measurement are: everyone can work out their ids and make their credentials."""

from __future__ import annotations

import hashlib
from uuid import UUID

AUTH_SECRET = "worker-of-the-bench-0123456789-0123456789"  # noqa: S105 - of a database that lives for a minute


def worker_id(number: int) -> UUID:
    """Return the id of the worker with this number: as spread as random ones are."""
    return UUID(bytes=hashlib.sha256(str(number).encode()).digest()[:16], version=4)
