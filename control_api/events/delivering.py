"""Telling the receivers: the leader delivers each of them the events it asked for, until it took them.

Each receiver has a task of its own, so that none waits for another.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

import httpx2
import structlog

from control_api.errors import DatabaseUnavailable
from control_api.events import sending, signing, webhooks
from control_api.events.hub import Events, Place
from control_api.events.outbox import Due, Outbox, body_of
from control_api.events.sending import Answer, Verdict

if TYPE_CHECKING:
    from control_api.db import Database

LOOK = 1.0  # seconds between two looks for what is due
LAST_WORDS = 3.0  # seconds that a stop waits for attempts under way
log = structlog.get_logger()
Result = TypeVar("Result")


class Delivering:
    """The tasks that deliver."""

    def __init__(
        self,
        database: Database,
        events: Events,
        *,
        leads: Callable[[], bool],
        clock: Callable[[], datetime],
        local: bool,
    ) -> None:
        """Prepare. leads: says whether this process delivers. local: receivers on this machine are allowed."""
        self._outbox = Outbox(database, clock)
        self._events = events
        self._leads = leads
        self._clock = clock
        self._local = local
        self._trusted = ssl.create_default_context()
        # Threads of its own: a resolver or a database that hangs must hold up nothing else.
        self._names = ThreadPoolExecutor(webhooks.MOST, "webhook-names")
        self._store = ThreadPoolExecutor(2, "webhook-store")
        self._receivers: dict[UUID, asyncio.Task[None]] = {}
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    def start(self) -> None:
        """Begin to deliver; call it in the event loop."""
        self._task = asyncio.create_task(self._run(), name="webhooks")

    async def close(self) -> None:
        """Stop; attempts under way may end for a moment, whoever leads next makes the others again."""
        self._stopping.set()
        tasks = [task for task in (self._task, *self._receivers.values()) if task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=LAST_WORDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._names.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._store.shutdown)

    async def _run(self) -> None:
        with self._events.place(own=True) as place:
            while not self._stopping.is_set():
                place.woken.clear()
                try:
                    await self._look()
                except DatabaseUnavailable:
                    log.warning("webhooks: the database does not answer")
                except Exception:  # the loop must outlive whatever it meets
                    log.exception("webhooks: a look failed")
                await self._until_woken(place)

    async def _until_woken(self, place: Place) -> None:
        """Wait for news, for the stop, or for the time of the next look."""
        waiting = {asyncio.ensure_future(one.wait()) for one in (place.woken, self._stopping)}
        await asyncio.wait(waiting, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED)
        for one in waiting:
            one.cancel()

    async def _look(self) -> None:
        self._receivers = {key: task for key, task in self._receivers.items() if not task.done()}
        settled = self._events.settled
        if settled is None or not self._leads():
            return
        for webhook_id in await self._in_store(self._outbox.busy, settled):
            if webhook_id not in self._receivers:
                self._receivers[webhook_id] = asyncio.create_task(self._tell(webhook_id, settled))

    async def _tell(self, webhook_id: UUID, settled: int) -> None:
        """Deliver to one receiver whatever is due, with the events up to `settled`."""
        try:
            async with sending.client(self._trusted) as client:
                while not self._stopping.is_set() and self._leads():
                    due = await self._in_store(self._outbox.following, webhook_id, settled)
                    if due is None:
                        return
                    answer = await self._attempt(client, due)
                    await self._in_store(self._outbox.note, due, answer)
        except DatabaseUnavailable:
            log.warning("webhooks: the database does not answer", webhook=str(webhook_id))
        except Exception:  # the other receivers must outlive whatever this one meets
            log.exception("webhooks: a delivery failed", webhook=str(webhook_id))

    async def _attempt(self, client: httpx2.AsyncClient, due: Due) -> Answer:
        webhook, now = due.webhook, self._clock()
        if due.event is None:
            return Answer(Verdict.REFUSED, "not sent: the event is no longer kept")
        keys = [webhook.secret]
        if webhook.previous_secret and webhook.previous_until and now < webhook.previous_until:
            keys.append(webhook.previous_secret)
        # The same id for every attempt and every replay of one event: the receiver may drop what it knows.
        body = body_of(due.event)
        headers = signing.headers(keys, f"event_{due.delivery.event_id}", body, now)
        return await sending.post(
            client, webhook.url, body, headers, resolve=self._resolve, local=self._local
        )

    async def _resolve(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._names, sending.addresses, host, port)

    async def _in_store(self, work: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._store, work, *arguments)
