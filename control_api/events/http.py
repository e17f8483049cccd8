"""A stream of events as an HTTP answer: server-sent events that end when they should."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection
from uuid import UUID

import structlog
from fastapi.sse import format_sse_event
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from control_api.errors import DatabaseUnavailable, MusterError
from control_api.events.event_store import Event, Kind
from control_api.events.hub import Events, Place, StreamEnded

KEEP_ALIVE = (
    15.0  # seconds of silence before a comment, and between two looks whether the reader may still listen
)
SLOW = 20.0  # seconds in which a reader takes nothing before it is dropped
RETRY = 3000  # milliseconds that a browser waits before it comes back
log = structlog.get_logger()


def as_json(event: Event) -> bytes:
    """Encode an event with its data as JSON."""
    text = json.dumps(event.data, ensure_ascii=False, separators=(",", ":"))
    return format_sse_event(event=event.kind, data_str=text, id=None if event.id is None else str(event.id))


class EventStream(Response):
    """Answers with events until the reader leaves, is too slow, may no longer read, or the service stops."""

    media_type = "text/event-stream"

    def __init__(
        self,
        events: Events,
        *,
        after: int | None,
        worker: UUID | None = None,
        kinds: Collection[Kind] = (),
        admit: Callable[[], object],
        encode: Callable[[Event], bytes] = as_json,
    ) -> None:
        """Stream the events behind `after`; None begins now.

        admit: raises Unauthorized or Forbidden when the reader may no longer listen; it is asked again and again.
        """
        self.status_code = 200
        self.background = None
        self._events = events
        self._after, self._worker, self._kinds = after, worker, kinds
        self._admit = admit
        self._encode = encode
        self.init_headers({"cache-control": "no-store", "x-accel-buffering": "no"})

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream. Raises Overloaded before anything is sent."""
        with self._events.place(self._after, worker=self._worker, kinds=self._kinds) as place:
            gone = asyncio.create_task(_until_gone(receive))
            gone.add_done_callback(lambda _: place.end("gone"))
            try:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await self._serve(place, send)
            except TimeoutError:
                self._events.dropped += 1
                log.warning("a reader of events was too slow and is dropped")
            finally:
                gone.cancel()

    async def _serve(self, place: Place, send: Send) -> None:
        reason = await self._until_ended(place, send)
        if reason == "gone":
            return
        last = Event(None, "stream.ends", {"reason": reason})
        await _put(send, as_json(last), more=False)

    async def _until_ended(self, place: Place, send: Send) -> str:
        """Send events until there is a reason not to; return it."""
        clock = asyncio.get_running_loop().time
        try:
            found = await place.take(0)
            first = b"".join(map(self._encode, found)) or _stands(place)
            await _put(send, format_sse_event(retry=RETRY) + first)
            admitted = clock()
            while True:
                found = await place.take(KEEP_ALIVE)
                await _put(send, b"".join(map(self._encode, found)) or _stands(place))
                if clock() - admitted >= KEEP_ALIVE:
                    await asyncio.to_thread(self._admit)
                    admitted = clock()
        except StreamEnded as exc:
            return exc.reason
        except DatabaseUnavailable:
            return "database"
        except MusterError:
            return "unauthorized"


async def _put(send: Send, chunk: bytes, *, more: bool = True) -> None:
    """Send; raise TimeoutError when the reader does not take it."""
    async with asyncio.timeout(SLOW):
        await send({"type": "http.response.body", "body": chunk, "more_body": more})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _stands(place: Place) -> bytes:
    """Say that nothing is new, and where the reader stands: one whose filters let nothing through moves on too."""
    return format_sse_event(comment="still here", id=None if place.position is None else str(place.position))
