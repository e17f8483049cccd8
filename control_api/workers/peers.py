"""The machines of the cluster as their firewalls know them, remembered for a moment: every node asks all the time."""

from __future__ import annotations

import hashlib
import ipaddress
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from control_api.errors import InvalidCredential, NotApproved
from control_api.workers.credentials import Claim

if TYPE_CHECKING:
    from control_api.workers.peer_store import Row

REMEMBERED = timedelta(seconds=1)


@dataclass(frozen=True)
class Peers:
    """The addresses of the approved workers, in order; an entity tag of them; and who may ask for them."""

    addresses: tuple[str, ...]
    tag: str
    epochs: Mapping[UUID, int]
    waiting: frozenset[UUID]  # for an operator's approval

    def check(self, claim: Claim) -> None:
        """Let a worker in. Raises InvalidCredential for one that is gone, NotApproved for one that waits."""
        if self.epochs.get(claim.worker_id) != claim.epoch:
            raise InvalidCredential
        if claim.worker_id in self.waiting:
            raise NotApproved


def of_rows(rows: Iterable[Row]) -> Peers:
    """Sum up the worker table. A worker may send from the address that it named and from that it was seen from."""
    standing = list(rows)
    named = (
        address for row in standing if row.approved for address in (row.ip_address, row.observed_address)
    )
    addresses = tuple(map(str, sorted({found for address in named if (found := _node_address(address))})))
    return Peers(
        addresses=addresses,
        tag=f'W/"{hashlib.sha256(" ".join(addresses).encode()).hexdigest()[:16]}"',
        epochs={row.id: row.epoch for row in standing},
        waiting=frozenset(row.id for row in standing if not row.approved),
    )


def _node_address(address: str | None) -> ipaddress.IPv4Address | None:
    """Return the address if a node of an IPv4 cluster can have it."""
    try:
        found = ipaddress.IPv4Address(address or "")
    except ValueError:
        return None
    usable = not (found.is_loopback or found.is_unspecified or found.is_multicast or found.is_reserved)
    return found if usable else None


class PeerBook:
    """Remembers the peers for a second; one reads them, the others wait for what it finds."""

    def __init__(self, load: Callable[[], Peers]) -> None:
        """Begin without any; `load` reads them."""
        self._load = load
        self._lock = threading.Lock()
        self._known: Peers | None = None
        self._read_at: datetime | None = None

    def get(self, now: datetime) -> Peers:
        """Return the peers of now, or of less than a second ago."""
        with self._lock:
            if self._known is None or not self._is_recent(now):
                self._known, self._read_at = self._load(), now
            return self._known

    def get_for(self, claim: Claim, now: datetime) -> Peers:
        """Return the peers for this worker, which may have come a moment ago. Raises InvalidCredential, NotApproved."""
        peers = self.get(now)
        try:
            peers.check(claim)
        except (InvalidCredential, NotApproved):
            with self._lock:
                self._read_at = None
            peers = self.get(now)
            peers.check(claim)
        return peers

    def _is_recent(self, now: datetime) -> bool:
        """Say whether what is remembered is good; never for longer when the clock is set back."""
        return self._read_at is not None and self._read_at <= now < self._read_at + REMEMBERED
