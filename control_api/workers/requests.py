"""What a heartbeat came with, but for its body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol


class Asked(Protocol):
    """A request to store a heartbeat."""

    @property
    def worker(self) -> str:
        """The id in its path, whatever that is."""

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """Its headers, with their names in lower case."""

    @property
    def client(self) -> Sequence[Any] | None:
        """Address and port of whoever holds the connection."""

    @property
    def request_id(self) -> bytes:
        """The id that its answer carries."""


class Request(NamedTuple):
    """One that came over ASGI."""

    worker: str
    headers: Sequence[tuple[bytes, bytes]]
    client: Sequence[Any] | None
    request_id: bytes
