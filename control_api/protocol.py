"""uvicorn's HTTP with a short way for heartbeats, which are nearly all that a control API is asked."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from control_api import middleware
from control_api.workers.heartbeats import LARGEST_BODY, Answer, Heartbeats

PATH = re.compile(rb"/api/workers/([^/?%]+)/heartbeat\Z")


class Protocol(HttpToolsProtocol):
    """Hands a heartbeat to the application as it is; everything else, and what is rare, goes through ASGI.

    ASGI tells the application of a request in messages and takes the answer in messages; for a heartbeat that takes
    longer than all the rest. The answers are the same either way.
    """

    usual: ClassVar[tuple[object, dict[bytes, bytes]]] = (None, {})

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Prepare for a connection."""
        super().__init__(*args, **kwargs)
        self._idle_since: float | None = None  # on the loop's clock
        self._idle_timer: asyncio.TimerHandle | None = None

    def on_message_begin(self) -> None:
        """Forget the request before; its scope is made when it is known to be needed."""
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        """Begin an exchange, now that it is known what is asked."""
        found = PATH.match(self.url) if self.parser.get_method() == b"PATCH" else None
        if found is not None and self._is_plain():
            self.cycle = Exchange(self, found[1].decode("latin-1"))  # type: ignore[assignment]
            return
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers
        super().on_headers_complete()

    def written(self, answer: Answer, keep_alive: bool, request_id: bytes) -> bytes:
        """Return what the answer is on the wire; but for the id, nearly all are the same until the date changes."""
        status, body, headers = answer
        defaults = self.server_state.default_headers
        if status != 200 or not keep_alive:
            ending = () if keep_alive else ((b"connection", b"close"),)
            head = _head(status, (*defaults, *headers, *ending), body)
        else:
            if Protocol.usual[0] is not defaults:
                Protocol.usual = (defaults, {})
            known = Protocol.usual[1]
            head = known.get(body) or known.setdefault(body, _head(status, defaults, body))
        return b"".join((head, request_id, b"\r\n\r\n", body))

    def answered(self) -> None:
        """Note that an exchange has ended, as `on_response_complete` does for the rest."""
        if self.pipeline or self.flow.read_paused:
            self.on_response_complete()
            return
        self.server_state.total_requests += 1
        self._idle_since = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._end_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go."""
        super().connection_lost(exc)
        if self._idle_timer is not None:
            self._idle_timer.cancel()

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None
        if self.timeout_keep_alive_task is not None:
            super()._unset_keepalive_if_required()

    def _end_if_idle(self) -> None:
        """Look once in a while: a timer for every heartbeat, begun and cancelled, costs as much as its parsing."""
        self._idle_timer = None
        if self._idle_since is None:
            return  # a request is under way, and its answer begins the next wait
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._idle_timer = self.loop.call_later(left, self._end_if_idle)
        else:
            self.timeout_keep_alive_handler()

    def _is_plain(self) -> bool:
        """Say whether nothing is under way on this connection, and nothing but an answer is asked for."""
        idle = self.cycle is None or self.cycle.response_complete
        special = self.expect_100_continue or self.parser.should_upgrade()
        return idle and not special and self.parser.get_http_version() == "1.1"


class Exchange:
    """A heartbeat and its answer: what a RequestResponseCycle is to uvicorn's protocol, without messages."""

    __slots__ = (
        "_connection",
        "_taken",
        "body",
        "disconnected",
        "headers",
        "keep_alive",
        "more_body",
        "request_id",
        "response_complete",
        "worker",
    )

    def __init__(self, connection: Protocol, worker: str) -> None:
        """Wait for the body of a heartbeat of this worker."""
        self._connection = connection
        self.worker = worker
        self.headers = connection.headers  # the next request has its own
        self.request_id = middleware.request_id(self.headers)
        self._taken = False
        self.keep_alive = connection.parser.should_keep_alive()
        self.body = bytearray()
        self.more_body = True
        self.disconnected = self.response_complete = False

    @property
    def client(self) -> tuple[str, int] | None:
        """Return who holds the connection."""
        return self._connection.client

    @property
    def message_event(self) -> Exchange:
        """Return what the protocol sets when the body has grown or the client has gone."""
        return self

    def set(self) -> None:
        """Take the heartbeat once all of it is here, or too much."""
        if not self._taken and not (self.more_body and len(self.body) <= LARGEST_BODY):
            self._taken = True
            taker: Heartbeats = self._connection.config.loaded_app
            taker.take(self, bytes(self.body), self._finish)

    def _finish(self, answer: Answer) -> None:
        connection = self._connection
        if self.disconnected:
            return
        if connection.flow.write_paused:  # until then it is not complete, and nothing else is read
            tasks = connection.tasks  # a stop waits for them
            waiting = connection.loop.create_task(connection.flow.drain())
            tasks.add(waiting)
            waiting.add_done_callback(tasks.discard)
            waiting.add_done_callback(lambda _: self._finish(answer))
            return
        self.response_complete = True
        connection.transport.write(connection.written(answer, self.keep_alive, self.request_id))
        if self.keep_alive:
            connection.answered()
        else:
            connection.transport.close()
            connection.server_state.total_requests += 1


def _head(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
    """Return the head of an answer up to the request's id, which stands last."""
    parts: list[Any] = [STATUS_LINE[status]]
    for name, value in (*headers, *middleware.HEADERS):
        parts += (name, b": ", value, b"\r\n")
    parts.append(b"content-type: application/json\r\ncontent-length: %d\r\nx-request-id: " % len(body))
    return b"".join(parts)
