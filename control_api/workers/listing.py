"""What a reader asks of the list of workers: which ones, in which order, from where on. Pure values."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from control_api.errors import InvalidRequest
from control_api.workers.lifecycle import Intent, Status

LONGEST = 1000  # characters of a cursor


class Sort(StrEnum):
    """What the list can be sorted by: only what an index is kept for, and no heartbeat ever changes."""

    HOSTNAME = "hostname"
    NAME = "name"
    STATUS = "status"
    CREATED_AT = "createdAt"
    CPU_CORES = "cpuCores"
    TOTAL_MEMORY_BYTES = "totalMemoryBytes"
    TOTAL_STORAGE_BYTES = "totalStorageBytes"


class Order(StrEnum):
    """Which way."""

    ASC = "asc"
    DESC = "desc"


class NodeState(StrEnum):
    """What K3s says of a worker's node; UNKNOWN: nothing, or nothing lately."""

    READY = "Ready"
    NOT_READY = "NotReady"
    MISSING = "Missing"
    UNKNOWN = "Unknown"


class Label(NamedTuple):
    """A worker must have this label; with value None, whatever its value."""

    key: str
    value: str | None


class Position(NamedTuple):
    """The last worker of a page: what it is sorted by, and its id. For the status, keys are status and hostname."""

    key: str | int | datetime | None
    worker_id: UUID


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of the list.

    statuses: any of these; none given means all. labels: all of these. search: text in name, hostname or
    address, in lower case. after: only what comes after this position.
    """

    statuses: tuple[Status, ...] = ()
    intent: Intent | None = None
    architecture: str | None = None
    node_state: NodeState | None = None
    labels: tuple[Label, ...] = ()
    search: str = ""
    sort: Sort = Sort.HOSTNAME
    order: Order = Order.ASC
    limit: int = 100
    after: Position | None = None


def label(selector: str) -> Label:
    """Return what a selector asks for: `key=value`, or `key` for whatever value."""
    key, equals, value = selector.partition("=")
    return Label(key, value if equals else None)


def cursor(sort: Sort, order: Order, position: Position) -> str:
    """Return the text that stands for a position; it means something to this service only."""
    key = position.key.isoformat() if isinstance(position.key, datetime) else position.key
    text = json.dumps([sort, order, key, str(position.worker_id)], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def position(text: str, sort: Sort, order: Order) -> Position:
    """Return the position that a cursor stands for. Raises InvalidRequest."""
    try:
        padded = text + "=" * (-len(text) % 4)
        found = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        of_sort, of_order, key, worker_id = found
        if (of_sort, of_order) != (sort, order):
            raise _refused("belongs to a list in another order")
        return Position(_key(sort, key), UUID(worker_id))
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        raise _refused("is not one that this service has given out") from None


def _key(sort: Sort, value: Any) -> str | int | datetime | None:
    if value is None and sort in NULLABLE:
        return None
    return PARSERS[sort](value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable():  # a lone surrogate is not printable
        raise ValueError(value)
    return value


def _status_and_hostname(value: Any) -> str:
    status, _, hostname = _text(value).partition(" ")
    return f"{Status(status)} {hostname}"


def _number(largest: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if type(value) is not int or not 0 <= value <= largest:
            raise ValueError(value)
        return value

    return parse


def _moment(value: Any) -> datetime:
    moment = datetime.fromisoformat(_text(value))
    if moment.tzinfo is None:
        raise ValueError(value)
    return moment.astimezone(UTC)


def _refused(what: str) -> InvalidRequest:
    return InvalidRequest(details=(("cursor", what),))


NULLABLE = (Sort.TOTAL_MEMORY_BYTES, Sort.TOTAL_STORAGE_BYTES)
PARSERS: dict[Sort, Callable[[Any], str | int | datetime]] = {
    Sort.HOSTNAME: _text,
    Sort.NAME: _text,
    Sort.STATUS: _status_and_hostname,
    Sort.CREATED_AT: _moment,
    Sort.CPU_CORES: _number(2**31 - 1),
    Sort.TOTAL_MEMORY_BYTES: _number(2**63 - 1),
    Sort.TOTAL_STORAGE_BYTES: _number(2**63 - 1),
}
