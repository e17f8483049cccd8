"""Following a table whose ids are handed out in order but committed in any: no gap, and nothing twice.

A reader that goes by ids alone loses the row whose transaction commits after one with a higher id. So a missing id is
waited for until the transactions that may own it have ended. Writers pay nothing for that, and other databases of the
same server do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from control_api.events import event_store
from control_api.events.event_store import Event, place_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session  # opaque here: the queries are in event_store

PAGE = 500  # events read at once


@dataclass(frozen=True, slots=True)
class Gap:
    """Ids are missing below `upto`, or may be; `writers` are the transactions that can still fill them."""

    upto: int
    writers: frozenset[str]


class News(NamedTuple):
    """What a look has found. settled: the last final id; again: there is more to see at once."""

    settled: int | None
    events: list[Event]
    again: bool


def settle(settled: int, ids: list[int], gap: Gap | None, writers: frozenset[str], *, page: int) -> int:
    """Return the last id that is final: nothing at or below it will appear any more.

    settled: the same before this look. ids: the visible ids after it, at most `page`.
    writers: those at work before this look; when none of the gap's is left, what is still missing was rolled back.
    """
    if gap is not None and not gap.writers & writers:
        settled = max(settled, min(gap.upto, ids[-1]) if len(ids) == page else gap.upto)
    for number in ids:
        if number > settled + 1:
            break
        settled = max(settled, number)
    return settled


class Tail:
    """Remembers from one look to the next; it begins at the end of what is there."""

    def __init__(self, page: int = PAGE) -> None:
        """Read so many events at once."""
        self.settled: int | None = None
        self._gap: Gap | None = None
        self._page = page

    def look(self, session: Session) -> News:
        """Look once; the session must see every commit of others between its statements (READ COMMITTED)."""
        writers = event_store.writers(session) if self._gap else frozenset()
        if self.settled is None:
            return self._begin(session, writers)
        found = event_store.after(session, self.settled, self._page)
        ids = [place_of(event) for event in found]
        self.settled = settle(self.settled, ids, self._gap, writers, page=self._page)
        if not ids or ids[-1] == self.settled:
            self._gap = None if self._gap and self._gap.upto <= self.settled else self._gap
            again = len(ids) == self._page
        else:
            if self._gap is None or self._gap.upto <= self.settled:
                self._gap = Gap(ids[-1], event_store.writers(session))
            again = not self._gap.writers
        return News(self.settled, [event for event in found if place_of(event) <= self.settled], again)

    def _begin(self, session: Session, writers: frozenset[str]) -> News:
        if self._gap is None:
            self._gap = Gap(event_store.newest(session), event_store.writers(session))
        elif not self._gap.writers & writers:
            self.settled, self._gap = self._gap.upto, None
        waits = self._gap is not None and bool(self._gap.writers)
        return News(self.settled, [], again=not waits)
