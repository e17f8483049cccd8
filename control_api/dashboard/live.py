"""The stream of a page: as long as somebody looks, whatever changed on it, as HTML, and the time it was true."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TypeVar

from control_api.dashboard.fleet_view import Fleet
from control_api.dashboard.render import render
from control_api.dashboard.view import Row
from control_api.dashboard.words import when
from control_api.dashboard.worker_view import Worker
from control_api.errors import DatabaseUnavailable, MusterError, TooManyStreams, Unauthorized

EVERY = 3.0  # seconds between two looks, when nothing happens
PAUSE = 0.5  # seconds between two looks at least, whatever happens
MOST = 64  # streams of one process
ENDED = "Your session has ended; log in again."
Page = TypeVar("Page", Fleet, Worker)


class Streams:
    """The open streams of this process, which are bounded in number."""

    def __init__(self, most: int = MOST) -> None:
        """Allow so many at once."""
        self._most = most
        self.open = 0

    def check(self) -> None:
        """Return when there is a place for one more. Raises TooManyStreams."""
        if self.open >= self._most:
            raise TooManyStreams

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place."""
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1


async def follow(
    look: Callable[[datetime], Page],
    changes: Callable[[Page | None, Page], Iterator[str]],
    *,
    clock: Callable[[], datetime],
    pause: Callable[[], Awaitable[bool]],
) -> AsyncIterator[str]:
    """Yield the stream of a page, until its session, its worker or the service ends.

    look: returns the page as it is then; it is called in a thread. changes: returns the events that make the second
    page of the first one. pause: waits until it is worth looking again, and says whether to go on.
    """
    last: Page | None = None
    goes_on = True
    while goes_on:
        now = clock()
        try:
            page = await asyncio.to_thread(look, now)
        except DatabaseUnavailable as exc:
            yield event("trouble", str(exc))
        except Unauthorized:
            yield event("end", ENDED)
            return
        except MusterError as exc:  # the worker was removed, or the list is none that can be shown
            yield event("end", str(exc))
            return
        else:
            yield "".join(changes(last, page)) + event("current", when(now, now).iso)
            last = page
        goes_on = await pause()


def fleet_changes(old: Fleet | None, new: Fleet) -> Iterator[str]:
    """Yield the events that bring a fleet page up to date; all of it when there is no old one."""
    for part in ("notices", "tiles", "totals"):
        if old is None or getattr(old, part) != getattr(new, part):
            yield event("put", render(f"{part}.html", page=new))
    if old is None or _frame(old) != _frame(new):
        yield event("put", render("list.html", page=new))
    else:
        for row, before in zip(new.rows, old.rows, strict=True):
            if row != before:
                yield event("put", render("row.html", row=row))
    if old is not None and (said := _said(old.rows, new.rows)):
        yield event("say", said)


def worker_changes(old: Worker | None, new: Worker) -> Iterator[str]:
    """Yield the events that bring a worker's page up to date; all of it when there is no old one."""
    for part, seen in WORKER_PARTS.items():
        if old is None or seen(old) != seen(new):
            yield event("put", render(f"{part}.html", page=new))
    if old is not None and (said := _said((old.row,), (new.row,))):
        yield event("say", said)


WORKER_PARTS: dict[str, Callable[[Worker], object]] = {
    "notices": lambda page: page.notices,
    "now": lambda page: (page.row, page.load),
    "maintenance": lambda page: page.maintenance,
    "facts": lambda page: (page.facts, page.times, page.labels),
    "history": lambda page: page.changes,
}


def event(name: str, data: str) -> str:
    """Return a server-sent event."""
    lines = "".join(f"data: {line}\n" for line in data.splitlines() or [""])
    return f"event: {name}\n{lines}\n"


def _frame(page: Fleet) -> tuple[object, ...]:
    return ([row.id for row in page.rows], page.found, page.next_href, page.is_empty)


def _said(old: tuple[Row, ...], new: tuple[Row, ...]) -> str:
    """Return what a screen reader says of the changes: each of up to three, the number of more."""
    before = {row.id: row.badge for row in old}
    changed = [row for row in new if before.get(row.id, row.badge) != row.badge]
    if len(changed) > 3:
        return f"{len(changed)} workers on this page changed their status"
    return ", ".join(f"{row.name} is now {row.badge.text}" for row in changed)
