"""Group commit: what arrives while a batch is written becomes the next; all are answered after the commit."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import suppress
from functools import partial
from typing import Generic, TypeAlias, TypeVar

import structlog

from control_api.errors import DatabaseUnavailable, Overloaded

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Told: TypeAlias = Callable[[Answer | Exception], None]
Waiting: TypeAlias = tuple[Item, Told[Answer], float]  # float: when it arrived, on the loop's clock

FULL = 64  # from this size on, a batch is worth its statement and does not wait for more
LARGEST = 1000
PATIENCE = (
    0.005  # seconds that the first of a small batch waits: a lone heartbeat costs ten times one of a batch
)
WAITING = 20_000  # more than this many waiting requests are turned away at once
log = structlog.get_logger()


class GroupCommit(Generic[Item, Answer]):
    """One writer task with one batch in flight."""

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        key: Callable[[Item], Hashable],
        *,
        patience: float = PATIENCE,
        committed: Callable[[Sequence[Answer], float], None] = lambda *_: None,
    ) -> None:
        """Write batches with `write`, which answers in the order of the items; their keys differ.

        committed: told the answers of a batch, and the seconds since its oldest item arrived.
        """
        self._write = write
        self._key = key
        self._patience = patience
        self._committed = committed
        self._waiting: deque[Waiting[Item, Answer]] = deque()
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def start(self) -> None:
        """Begin to write; call it in the event loop that serves the requests."""
        self._loop = asyncio.get_running_loop()  # to ask for it costs a system call, and every item would
        self._task = self._loop.create_task(self._run(), name="group commit")

    async def submit(self, item: Item) -> Answer:
        """Return the answer once the item is committed; raise what `add` raises and what `write` raises."""
        future: asyncio.Future[Answer] = self._loop.create_future()
        self.add(item, partial(_settle, future))
        return await future

    def add(self, item: Item, told: Told[Answer]) -> None:
        """Take an item; `told` gets the answer once it is committed, or what `write` raised, and raises nothing.

        Raises Overloaded when too many wait, DatabaseUnavailable after `close`.
        """
        if self._closing:
            raise DatabaseUnavailable
        if len(self._waiting) >= WAITING:
            raise Overloaded
        self._waiting.append((item, told, self._loop.time()))
        self._arrived.set()
        if len(self._waiting) >= FULL:
            self._full.set()

    async def close(self) -> None:
        """Write what is waiting, then stop; whatever cannot be written is refused."""
        self._closing = True
        self._arrived.set()
        self._full.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        while self._waiting or not self._closing:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            if len(self._waiting) < FULL and not self._closing:
                await self._wait_for_more()
            await self._flush(self._take())

    async def _wait_for_more(self) -> None:
        """Wait until the batch is full or its first item has waited long enough, in the write before too."""
        left = self._waiting[0][2] + self._patience - self._loop.time()
        if left <= 0:
            return
        self._full.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._full.wait(), left)

    def _take(self) -> list[Waiting[Item, Answer]]:
        """Take the next batch; the second item of one key waits for the batch after it."""
        batch: dict[Hashable, Waiting[Item, Answer]] = {}
        later = []
        while self._waiting and len(batch) < LARGEST:
            waiting = self._waiting.popleft()
            if batch.setdefault(self._key(waiting[0]), waiting) is not waiting:
                later.append(waiting)
        self._waiting.extendleft(reversed(later))
        return list(batch.values())

    async def _flush(self, batch: list[Waiting[Item, Answer]]) -> None:
        try:
            answers = await self._write([item for item, _, _ in batch])
        except Exception as exc:
            if isinstance(exc, DatabaseUnavailable):  # whoever waits would only wait for the same answer
                batch, self._waiting = [*batch, *self._waiting], deque()
            for _, told, _ in batch:
                _deliver(told, exc)
            return
        for (_, told, _), answer in zip(batch, answers, strict=True):
            _deliver(told, answer)
        self._committed(answers, self._loop.time() - batch[0][2])


def _deliver(told: Told[Answer], answer: Answer | Exception) -> None:
    try:
        told(answer)
    except Exception:  # one that cannot be told must not end the writer, and with it everybody's heartbeats
        log.exception("an answer was not delivered")


def _settle(future: asyncio.Future[Answer], answer: Answer | Exception) -> None:
    if future.done():  # whoever waited has gone
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
