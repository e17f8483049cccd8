"""uvicorn's HTTP with a short way for heartbeats, which are nearly all that a control API is asked."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from control_api.workers.heartbeats import LARGEST_BODY, Heartbeats

PATH = re.compile(rb"/api/workers/([^/?%]+)/heartbeat\Z")


class Protocol(HttpToolsProtocol):
    """Hands a heartbeat to the application as it is; everything else, and what is rare, goes through ASGI.

    ASGI tells the application of a request in messages and takes the answer in messages; for a heartbeat that takes
    longer than all the rest. The answers are the same either way.
    """

    def on_headers_complete(self) -> None:
        """Begin an exchange, now that it is known what is asked."""
        found = PATH.match(self.url) if self.parser.get_method() == b"PATCH" else None
        if found is None or not self._is_plain():
            super().on_headers_complete()
        else:
            self.cycle = Exchange(self, found[1].decode("latin-1"))  # type: ignore[assignment]

    def _is_plain(self) -> bool:
        """Say whether nothing is under way on this connection, and nothing but an answer is asked for."""
        idle = self.cycle is None or self.cycle.response_complete
        special = self.expect_100_continue or self.parser.should_upgrade()
        return idle and not special and self.parser.get_http_version() == "1.1"


class Exchange:
    """A heartbeat and its answer: what a RequestResponseCycle is to uvicorn's protocol, without messages."""

    __slots__ = (
        "_connection",
        "_headers",
        "_task",
        "_worker",
        "body",
        "disconnected",
        "keep_alive",
        "more_body",
        "response_complete",
    )

    def __init__(self, connection: Protocol, worker: str) -> None:
        """Wait for the body of a heartbeat of this worker."""
        self._connection = connection
        self._worker = worker
        self._headers = connection.headers  # the next request has its own
        self._task: asyncio.Task[None] | None = None
        self.keep_alive = connection.parser.should_keep_alive()
        self.body = bytearray()
        self.more_body = True
        self.disconnected = self.response_complete = False

    @property
    def message_event(self) -> Exchange:
        """Return what the protocol sets when the body has grown or the client has gone."""
        return self

    def set(self) -> None:
        """Take the heartbeat once all of it is here, or too much."""
        if self._task is None and not (self.more_body and len(self.body) <= LARGEST_BODY):
            tasks = self._connection.tasks  # a stop waits for them
            self._task = self._connection.loop.create_task(self._answer())
            tasks.add(self._task)
            self._task.add_done_callback(tasks.discard)

    async def _answer(self) -> None:
        connection = self._connection
        taker: Heartbeats = connection.config.loaded_app
        status, body, headers = await taker.answer(self._worker, self._headers, bytes(self.body))
        if connection.flow.write_paused:
            await connection.flow.drain()
        if not self.disconnected:
            self.response_complete = True
            connection.transport.write(self._written(status, body, headers))
            if not self.keep_alive:
                connection.transport.close()
            connection.on_response_complete()

    def _written(self, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
        parts: list[Any] = [STATUS_LINE[status]]
        for name, value in (*self._connection.server_state.default_headers, *headers):
            parts += (name, b": ", value, b"\r\n")
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body))
        parts.append(body)
        return b"".join(parts)
