"""What an enrolment token is: `met_<id>_<secret>`, known by its hash; pure functions, no query."""

from __future__ import annotations

import hashlib
import ipaddress
import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID, uuid4

SHAPE = re.compile(r"met_([0-9a-f]{32})_[0-9a-f]{48}\Z")
NOBODY = UUID(int=0)  # asked for in place of an id, so that a text of any shape costs the same query


class TokenStatus(StrEnum):
    """Whether a token still lets machines in, and why not."""

    ACTIVE = "ACTIVE"
    EXPIRED = "EXPIRED"
    USED_UP = "USED_UP"
    REVOKED = "REVOKED"


class Minted(NamedTuple):
    """A new token. `value` is shown once; only the digest is kept."""

    id: UUID
    value: str
    digest: bytes


def mint() -> Minted:
    """Return a new token with 192 random bits, so that a plain hash of it is as good as a slow one."""
    token_id = uuid4()
    value = f"met_{token_id.hex}_{secrets.token_hex(24)}"
    return Minted(token_id, value, digest(value))


def id_of(value: str) -> UUID:
    """Return the id in the token, NOBODY when it is not of our shape."""
    found = SHAPE.match(value)
    return UUID(found[1]) if found else NOBODY


def digest(value: str) -> bytes:
    """Return what is stored and compared instead of the token."""
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest()


def status(
    *,
    revoked_at: datetime | None,
    expires_at: datetime | None,
    uses: int,
    max_uses: int | None,
    now: datetime,
) -> TokenStatus:
    """Return the status of a token at this moment. expires_at, max_uses: None is no limit."""
    if revoked_at is not None:
        return TokenStatus.REVOKED
    if expires_at is not None and now >= expires_at:
        return TokenStatus.EXPIRED
    if max_uses is not None and uses >= max_uses:
        return TokenStatus.USED_UP
    return TokenStatus.ACTIVE


def covers(cidrs: Sequence[str], peer: str | None) -> bool:
    """Say whether a request from this address may use a token of these networks; none given means all.

    peer: the observed address, None when it is not known. An IPv4 address in IPv6's clothes counts as IPv4.
    """
    if not cidrs:
        return True
    if peer is None:
        return False
    address = ipaddress.ip_address(peer)
    plain = getattr(address, "ipv4_mapped", None) or address
    return any(plain in ipaddress.ip_network(cidr) for cidr in cidrs)
