"""What is to be delivered to whom, and what follows from how an attempt ended.

It is in the tables before it is sent, so a restart loses nothing and may send something twice.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import structlog

from control_api.events import event_store, webhook_store, webhooks
from control_api.events.event_store import Event, Kind, place_of
from control_api.events.models import Delivery, State, Webhook
from control_api.events.sending import Answer, Verdict
from control_api.events.tail import PAGE

if TYPE_CHECKING:
    from sqlalchemy.orm import Session  # opaque here: the queries are in the stores

    from control_api.db import Database

LONGEST_PAUSE = timedelta(minutes=10)
GIVE_UP = timedelta(hours=24)  # after which a delivery that fails is not tried again
DISABLE = timedelta(days=3)  # after which a receiver that took nothing is not tried again
WINDOW = 100  # deliveries of one receiver that have begun and not ended
log = structlog.get_logger()


class Due(NamedTuple):
    """A delivery that is to be tried now. event: None when it is no longer kept."""

    webhook: Webhook
    delivery: Delivery
    event: Event | None


def pause(attempts: int, share: float) -> timedelta:
    """Return how long to wait after so many failed attempts; share: chance, from 0 to 1."""
    longest = min(LONGEST_PAUSE, timedelta(seconds=2 ** min(attempts, 16)))
    return longest * (0.5 + share / 2)


def wants(webhook: Webhook, event: Event) -> bool:
    """Say whether the webhook asked for the event; its statuses choose among the changes of status."""
    if webhook.kinds and event.kind not in webhook.kinds:
        return False
    moves = event.kind in {Kind.TRANSITION, Kind.REGISTERED}
    return not webhook.statuses or not moves or event.data["to"] in webhook.statuses


def choose(webhook: Webhook, page: Sequence[Event], upto: int, room: int) -> tuple[list[int], int]:
    """Return the wanted events of a page, at most `room`, and the last event that was looked at.

    A page that is not full is the last one up to the event `upto`.
    """
    wanted: list[int] = []
    for event in page:
        if wants(webhook, event):
            wanted.append(place_of(event))
        if len(wanted) == room:
            return wanted, place_of(event)
    return wanted, place_of(page[-1]) if len(page) == PAGE else upto


def body_of(event: Event) -> bytes:
    """Return what is sent: the event as the stream tells it, in the frame of Standard Webhooks."""
    framed = {"type": event.kind, "timestamp": event.data["at"], "data": event.data}
    return json.dumps(framed, separators=(",", ":")).encode()


def hopeless(due: Due, answer: Answer, now: datetime) -> str | None:
    """Return why the receiver is not tried again after this failure; None when it is."""
    if answer.verdict is Verdict.GONE:
        return "The receiver answered 410 Gone: it wants no more."
    since = due.webhook.failing_since
    if since is None or now - since < DISABLE:
        return None
    return (
        f"It has taken nothing since {since:%Y-%m-%dT%H:%M:%SZ}; the last attempt ended with: {answer.text}"
    )


class Outbox:
    """The deliveries in the database."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        """Keep them there, with the times of that clock."""
        self._database = database
        self._clock = clock

    def busy(self, settled: int) -> list[UUID]:
        """Return the webhooks for which there may be something to do, with the events up to `settled`."""
        with self._database.reading() as session:
            return list(webhook_store.busy(session, settled, self._clock()))

    def following(self, webhook_id: UUID, settled: int) -> Due | None:
        """Return the delivery to try now, begun if need be; None when there is none."""
        while True:
            with self._database.reading() as session:
                due = self._due(session, webhook_id)
            if due is not None or not self._begin(webhook_id, settled):
                return due

    def note(self, due: Due, answer: Answer) -> None:
        """Write how the attempt ended, and what follows from it."""
        now = self._clock()
        with self._database.transaction() as session:
            if answer.verdict is Verdict.TAKEN:
                _note_success(session, due, answer, now)
            else:
                _note_failure(session, due, answer, now)

    def _due(self, session: Session, webhook_id: UUID) -> Due | None:
        now = self._clock()
        webhook = webhook_store.speaking(session, webhook_id, now)
        delivery = webhook_store.due(session, webhook_id, now) if webhook else None
        if webhook is None or delivery is None:
            return None
        found = event_store.after(session, delivery.event_id - 1, 1, upto=delivery.event_id)
        return Due(webhook, delivery, found[0] if found else None)

    def _begin(self, webhook_id: UUID, settled: int) -> bool:
        """Begin deliveries of what is new, else of what is replayed; say whether to look again."""
        now = self._clock()
        with self._database.transaction() as session:
            webhook = webhook_store.speaking(session, webhook_id, now)
            room = WINDOW - webhook_store.pending(session, webhook_id)
            if webhook is None or room <= 0:
                return False
            if webhook.cursor < settled:
                _begin_new(session, webhook, settled, room, now)
            elif webhook.replay_after is not None and webhook.replay_upto is not None:
                _begin_again(session, webhook, webhook.replay_after, webhook.replay_upto, room, now)
            else:
                return False
        return True


def _begin_new(session: Session, webhook: Webhook, settled: int, room: int, now: datetime) -> None:
    wanted, place = _scan(session, webhook, webhook.cursor, settled, room)
    if webhook_store.move(session, webhook.id, "cursor", webhook.cursor, cursor=place):
        webhook_store.begin(session, webhook.id, wanted, now)


def _begin_again(session: Session, webhook: Webhook, after: int, upto: int, room: int, now: datetime) -> None:
    wanted, place = _scan(session, webhook, after, upto, room)
    rest = {"replay_after": place} if place < upto else {"replay_after": None, "replay_upto": None}
    if webhook_store.move(session, webhook.id, "replay_after", after, **rest):
        webhook_store.begin(session, webhook.id, wanted, now)


def _scan(session: Session, webhook: Webhook, after: int, upto: int, room: int) -> tuple[list[int], int]:
    return choose(webhook, event_store.after(session, after, PAGE, upto=upto), upto, room)


def _note_success(session: Session, due: Due, answer: Answer, now: datetime) -> None:
    ended = {"state": State.DELIVERED, "next_at": now, "tried_at": now, "answer": answer.text}
    webhook_store.note(session, due.delivery, **ended)
    if due.webhook.failing_since or due.webhook.resume_at:
        webhook_store.change_unless_changed(session, due.webhook, failing_since=None, resume_at=None)
        log.info("webhooks: a receiver takes events again", webhook=str(due.webhook.id))


def _note_failure(session: Session, due: Due, answer: Answer, now: datetime) -> None:
    delivery, webhook = due.delivery, due.webhook
    over = due.event is None or now - delivery.begun_at >= GIVE_UP
    next_at = now + pause(delivery.attempts + 1, random.random())  # noqa: S311 - it spreads load, it guards nothing
    ended = {"state": State.FAILED if over else State.PENDING, "next_at": next_at, "tried_at": now}
    webhook_store.note(session, delivery, **ended, answer=answer.text)
    if over:
        log.warning("webhooks: given up", webhook=str(webhook.id), event_id=delivery.event_id)
    if due.event is None:
        return  # nothing was said to the receiver
    if (reason := hopeless(due, answer, now)) is not None:
        webhooks.disable(session, webhook, reason, now)
        return
    if webhook.failing_since is None:
        log.warning("webhooks: a receiver fails", webhook=str(webhook.id), answer=answer.text)
    resume_at = next_at if answer.verdict is Verdict.AWAY else None
    since = webhook.failing_since or now
    webhook_store.change_unless_changed(session, webhook, failing_since=since, resume_at=resume_at)
