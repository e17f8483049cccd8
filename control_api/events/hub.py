"""The stream of events in one process: one reader of the table, and many who each keep their own place."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from control_api.errors import DatabaseUnavailable, Overloaded
from control_api.events import event_store
from control_api.events.event_store import Event, Kind, place_of
from control_api.events.tail import News, Tail

if TYPE_CHECKING:
    from control_api.db import Database

RECENT = 2000  # events kept in memory, for all readers together
POLL = 1.0  # seconds between two looks at the table when nobody calls
READERS = 1000  # more are turned away
TAKEN = 100  # events that a reader is given at once: what a deaf one costs until it is dropped
log = structlog.get_logger()


class StreamEnded(Exception):  # noqa: N818 - how a stream ends, not a fault
    """The stream has ended."""

    def __init__(self, reason: str) -> None:
        """Take the reason, a word for programs."""
        super().__init__(reason)
        self.reason = reason


class Place:
    """A reader's place in the stream. It holds no events: whoever is slow costs no memory."""

    def __init__(
        self, events: Events, after: int | None, worker: UUID | None, kinds: frozenset[Kind]
    ) -> None:
        """Stand behind the event `after`; None waits for `begin`."""
        self._events = events
        self._asked = after
        self.position: int | None = None
        self.worker = worker
        self.kinds = kinds
        self.own = False
        self.woken = asyncio.Event()
        self._reason: str | None = None

    def end(self, reason: str) -> None:
        """Let the next `take` raise StreamEnded."""
        self._reason = self._reason or reason
        self.woken.set()

    def begin(self, settled: int) -> None:
        """Stand at the end of what is there, unless the reader has asked for a place of its own."""
        if self._asked is None:
            self.position = settled

    def wants(self, event: Event) -> bool:
        """Say whether the filters let the event through."""
        fits = self.worker is None or event.data.get("workerId") == str(self.worker)
        return fits and (not self.kinds or event.kind in self.kinds)

    async def take(self, patience: float) -> list[Event]:
        """Return the next events in order; none after `patience` seconds without any.

        Raises StreamEnded, DatabaseUnavailable.
        """
        deadline = asyncio.get_running_loop().time() + patience
        while True:
            self.woken.clear()
            if self._reason is not None:
                raise StreamEnded(self._reason)
            if found := await self._step():
                return found
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self.woken.wait()
                continue
            return []

    async def _step(self) -> list[Event]:
        """Go on by at most a page; skip what the filters keep back."""
        if self.position is None and (told := await self._stand()) is not None:
            return [told]
        while (page := await self._events.page(self)) is not None:
            found, self.position = page
            if found:
                return found
        return []

    async def _stand(self) -> Event | None:
        """Find the place that was asked for, once the stream is known; return what has to be told about it."""
        settled = self._events.settled
        if settled is None or self._asked is None:
            return None
        told = await self._events.missing(self._asked, settled)
        self.position = min(self._asked, settled)
        return told


class Events:
    """Follows the table and wakes the readers; memory is bounded whatever they do."""

    def __init__(self, database: Database) -> None:
        """Prepare; nothing runs before `start`."""
        self._database = database
        self._tail = Tail()
        self._settled: int | None = None
        self._recent: list[Event] = []
        self._floor = 0  # everything after it, up to _settled, is in _recent
        self._places: set[Place] = set()
        self._called = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._ended = False
        self._answers = True
        self.dropped = 0  # readers that were too slow

    def start(self) -> None:
        """Begin to follow; call it in the event loop that serves the requests."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._follow(), name="events")

    def end(self) -> None:
        """End every stream and admit no more, since the service stops."""
        self._ended = True
        for place in self._places:
            place.end("shutdown")

    async def close(self) -> None:
        """End every stream, then stop following; a look that is under way is waited for."""
        self.end()
        self._called.set()
        if self._task is not None:
            await self._task

    def call(self) -> None:
        """Say, from any thread, that there may be something new."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._called.set)

    # ---- reading

    @property
    def settled(self) -> int | None:
        """The last id that is final: whatever comes later has a higher one. None before it is known."""
        return self._settled

    @property
    def readers(self) -> int:
        """How many clients read."""
        return sum(not place.own for place in self._places)

    async def subscribe(
        self, after: int | None = None, *, worker: UUID | None = None, kinds: Collection[Kind] = ()
    ) -> AsyncIterator[Event]:
        """Yield the events behind `after`, or from now on, until the service stops. Raises Overloaded."""
        with self.place(after, worker=worker, kinds=kinds) as place, suppress(StreamEnded):
            while True:
                for event in await place.take(60):
                    yield event

    @contextmanager
    def place(
        self,
        after: int | None = None,
        *,
        worker: UUID | None = None,
        kinds: Collection[Kind] = (),
        own: bool = False,
    ) -> Iterator[Place]:
        """Take a place behind the event `after`, or at the end. Raises Overloaded when too many read.

        own: for a part of this process, which neither counts as a reader nor is kept out by them.
        """
        if self._ended or (not own and self.readers >= READERS):
            raise Overloaded
        place = Place(self, after, worker, frozenset(kinds))
        place.own = own
        if self._settled is not None:
            place.begin(self._settled)
        self._places.add(place)
        try:
            yield place
        finally:
            self._places.discard(place)

    async def page(self, place: Place) -> tuple[list[Event], int] | None:
        """Return the next events for the place, and where it stands then; None when it stands at the end."""
        settled, position = self._settled, place.position
        if settled is None or position is None or position >= settled:
            return None
        if position < self._floor:
            return await asyncio.to_thread(self._stored, place, position, settled)
        begin = bisect_right(self._recent, position, key=place_of)
        some = self._recent[begin : begin + TAKEN]
        return [event for event in some if place.wants(event)], place_of(some[-1]) if some else settled

    async def missing(self, after: int, settled: int) -> Event | None:
        """Return the event that tells why the stream cannot go on behind `after`; None when it can."""
        first = 1 + await asyncio.to_thread(self._forgotten)
        if after > settled:
            said = f"There is no event {after} here; the stream goes on behind event {settled}."
        elif first > after + 1:
            said = f"History begins at event {first}; what was before is no longer kept."
        else:
            return None
        return Event(None, "stream.history", {"after": after, "beginsAt": first, "message": said})

    def _stored(self, place: Place, position: int, settled: int) -> tuple[list[Event], int]:
        with self._database.reading() as session:
            found = event_store.after(
                session, position, TAKEN, upto=settled, worker=place.worker, kinds=place.kinds
            )
        return found, place_of(found[-1]) if len(found) == TAKEN else settled

    def _forgotten(self) -> int:
        with self._database.reading() as session:
            return event_store.forgotten(session)

    # ---- following

    async def _follow(self) -> None:
        while not self._ended:
            self._called.clear()
            try:
                news = await asyncio.to_thread(self._look)
                self._publish(news)
                again = news.again
                self._tell(answers=True)
            except DatabaseUnavailable:
                again = False
                self._tell(answers=False)
            except Exception:  # the loop must outlive whatever it meets
                again = False
                log.exception("events: a look failed")
            if not again and not self._ended:
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL):
                        await self._called.wait()

    def _look(self) -> News:
        self._tail.settled = self._settled  # what a failed look has found was told to nobody
        with self._database.reading() as session:
            return self._tail.look(session)

    def _publish(self, news: News) -> None:
        if news.settled is None or news.settled == self._settled:
            return
        if self._settled is None:
            self._floor = news.settled
            for place in self._places:
                place.begin(news.settled)
        self._recent += news.events
        if len(self._recent) > RECENT:
            self._floor = place_of(self._recent[-RECENT - 1])
            del self._recent[:-RECENT]
        self._settled = news.settled
        for place in self._places:
            place.woken.set()

    def _tell(self, *, answers: bool) -> None:
        """Log only a change."""
        if answers != self._answers:
            log.warning("events: followed again" if answers else "events: the database does not answer")
        self._answers = answers
