"""What a registered worker authenticates with: `<workerId>.<epoch>.<mac>`, checked without a query."""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

SHAPE = re.compile(
    r"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\.([0-9]{1,9})\.([0-9a-f]{64})\Z"
)
LONGEST = 36 + 1 + 9 + 1 + 64
REMEMBERED = 2**17  # half a kilobyte each


class Claim(NamedTuple):
    """A credential whose mac is right. The epoch is still to be compared with the stored one.

    outdated: it was made with the old secret; hand out a new credential.
    """

    worker_id: UUID
    epoch: int
    outdated: bool


class Credentials:
    """Makes and checks credentials."""

    def __init__(self, secrets: Sequence[str]) -> None:
        """Make credentials with the first secret, accept those made with any."""
        self._keys = [secret.encode() for secret in secrets]
        self._known = lru_cache(REMEMBERED)(self._check)  # a worker shows the same one every half minute

    def issue(self, worker_id: UUID, epoch: int) -> str:
        """Return the credential of the worker for this epoch."""
        return f"{worker_id}.{epoch}.{_mac(self._keys[0], f'{worker_id}.{epoch}')}"

    def check(self, credential: str) -> Claim | None:
        """Return what the credential claims, None when it is not one of ours."""
        return self._known(credential) if len(credential) <= LONGEST else None

    def _check(self, credential: str) -> Claim | None:
        found = SHAPE.match(credential)
        if not found:
            return None
        worker_id, epoch, mac = found.groups()
        for age, key in enumerate(self._keys):
            if hmac.compare_digest(_mac(key, f"{worker_id}.{epoch}"), mac):
                return Claim(UUID(worker_id), int(epoch), outdated=age > 0)
        return None


def _mac(key: bytes, text: str) -> str:
    return hmac.digest(key, text.encode(), "sha256").hex()
