"""The streams that keep pages current."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends
from fastapi.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from control_api.dashboard import live, reading, session
from control_api.dashboard.http import Asked, Visitor, pages
from control_api.errors import DatabaseUnavailable
from control_api.events.hub import Place, StreamEnded
from control_api.http import Wired
from control_api.service import Service

SLOW = 10  # seconds that a browser may take to read what it was sent
Follow = Callable[..., AsyncIterator[str]]
router = pages()


class Stream(StreamingResponse):
    """Server-sent events of a page, until the browser leaves or does not read, or what they tell of ends."""

    media_type = "text/event-stream"

    def __init__(self, service: Service, follow: Follow, worker: UUID | None = None) -> None:
        """Stream what `follow` yields; it is woken by events, those of one worker when one is given."""
        super().__init__((), headers={"X-Accel-Buffering": "no"})
        self._service = service
        self._follow = follow
        self._worker = worker

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream."""
        with self._service.streams.place(), self._service.events.place(worker=self._worker) as place:
            self.body_iterator = self._follow(pause=partial(_pause, place))
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        """Send what there is, in time."""

        async def in_time(message: Message) -> None:
            try:
                async with asyncio.timeout(SLOW):
                    await send(message)
            except TimeoutError:
                self._service.events.dropped += 1
                raise

        await super().stream_response(in_time)


def with_room(service: Wired) -> Service:
    """Return the wired parts when one more may watch. Raises TooManyStreams."""
    service.streams.check()
    return service


Roomy = Annotated[Service, Depends(with_room)]


@router.get("/fleet/live")
def live_fleet(asked: Asked, visit: Visitor, service: Roomy) -> Response:
    """Stream what changes on a fleet page."""

    def look(now: Any) -> Any:
        with service.database.snapshot() as opened:
            session.caller(opened, service, visit, now)
            return reading.fleet(opened, service, asked, now)

    return Stream(service, partial(live.follow, look, live.fleet_changes, clock=service.clock))


@router.get("/workers/{worker_id}/live")
def live_worker(worker_id: UUID, visit: Visitor, service: Roomy) -> Response:
    """Stream what changes on a worker's page."""

    def look(now: Any) -> Any:
        with service.database.reading() as opened:
            caller = session.caller(opened, service, visit, now)
            return reading.worker(opened, service, worker_id, caller, now)

    return Stream(service, partial(live.follow, look, live.worker_changes, clock=service.clock), worker_id)


async def _pause(place: Place) -> bool:
    """Wait for an event, but not for long and not too short; say whether the service goes on."""
    await asyncio.sleep(live.PAUSE)
    try:
        await place.take(live.EVERY - live.PAUSE)
    except StreamEnded:
        return False
    except DatabaseUnavailable:
        await asyncio.sleep(live.EVERY)
    return True
