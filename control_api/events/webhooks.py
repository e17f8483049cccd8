"""What administrators and operators do with webhooks; every change stands together with its audit entry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import structlog

from control_api.errors import DeliveryNotFound, TooManyWebhooks, WebhookNotFound
from control_api.events import audit, signing, webhook_store
from control_api.events.models import Delivery, Webhook

if TYPE_CHECKING:
    from sqlalchemy.orm import Session  # opaque here: the queries are in webhook_store

MOST = 50
OVERLAP = timedelta(hours=24)  # in which the secret before still signs too
ANEW = {"failing_since": None, "resume_at": None}
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class By:
    """Who changes something, from where and when."""

    actor: str
    peer: str | None
    now: datetime


class Health(StrEnum):
    """How a receiver does. off: an administrator switched it off; disabled: the service gave it up."""

    WELL = "well"
    FAILING = "failing"
    OFF = "off"
    DISABLED = "disabled"


def health(webhook: Webhook) -> Health:
    """Return how a receiver does."""
    if not webhook.enabled:
        return Health.DISABLED if webhook.disabled_reason else Health.OFF
    return Health.FAILING if webhook.failing_since else Health.WELL


def tally(webhooks: Sequence[Webhook]) -> dict[Health, int]:
    """Return how many receivers do how."""
    found = Counter(map(health, webhooks))
    return {one: found[one] for one in Health}


def create(session: Session, values: dict[str, Any], *, after: int, by: By) -> Webhook:
    """Add a receiver of the events behind `after`. Raises TooManyWebhooks."""
    if webhook_store.count(session) >= MOST:
        raise TooManyWebhooks
    times = {"created_at": by.now, "updated_at": by.now}
    webhook = webhook_store.add(
        session, id=uuid4(), secret=signing.new_secret(), cursor=after, **values, **times
    )
    _trail(session, "create", webhook.id, values, by)
    return webhook


def get(session: Session, webhook_id: UUID) -> Webhook:
    """Return the webhook. Raises WebhookNotFound."""
    webhook = webhook_store.one(session, webhook_id)
    if webhook is None:
        raise WebhookNotFound
    return webhook


def change(session: Session, webhook_id: UUID, values: dict[str, Any], by: By) -> Webhook:
    """Change a receiver; whatever waits for it is tried at once. Raises WebhookNotFound."""
    decided = {"disabled_reason": None} if "enabled" in values else {}
    webhook = _change(session, webhook_id, {**values, **ANEW, **decided, "updated_at": by.now})
    webhook_store.hurry(session, webhook_id, by.now)
    _trail(session, "update", webhook_id, values, by)
    return webhook


def rotate(session: Session, webhook_id: UUID, by: By) -> Webhook:
    """Give the receiver a new secret; for a day both sign. Raises WebhookNotFound."""
    until = by.now + OVERLAP
    new = {"secret": signing.new_secret(), "previous_secret": get(session, webhook_id).secret}
    webhook = _change(session, webhook_id, {**new, "previous_until": until, "updated_at": by.now})
    _trail(session, "rotate", webhook_id, {}, by)
    return webhook


def remove(session: Session, webhook_id: UUID, by: By) -> Webhook:
    """Remove a receiver and the record of its deliveries. Raises WebhookNotFound."""
    webhook = get(session, webhook_id)
    webhook_store.remove(session, webhook_id)
    _trail(session, "remove", webhook_id, {"url": webhook.url}, by)
    return webhook


def disable(session: Session, webhook: Webhook, reason: str, now: datetime) -> None:
    """Give a receiver up, unless an administrator has just changed it."""
    values = {"enabled": False, "disabled_reason": reason, "updated_at": now}
    if webhook_store.change_unless_changed(session, webhook, **values):
        _trail(session, "disable", webhook.id, {"reason": reason}, By("webhooks", None, now))
        log.warning("webhooks: disabled", webhook=str(webhook.id), reason=reason)


def replay_one(session: Session, webhook_id: UUID, delivery_id: int, by: By) -> Delivery:
    """Deliver one event again. Raises WebhookNotFound, DeliveryNotFound."""
    get(session, webhook_id)
    delivery = webhook_store.again(session, webhook_id, delivery_id, by.now)
    if delivery is None:
        raise DeliveryNotFound
    _trail(session, "replay", webhook_id, {"delivery": delivery_id, "event": delivery.event_id}, by)
    return delivery


def replay(session: Session, webhook_id: UUID, after: int, upto: int, by: By) -> Webhook:
    """Deliver the events behind `after` again, up to and with `upto`; if there are any. Raises WebhookNotFound."""
    bounds = (after, upto) if after < upto else (None, None)
    webhook = _change(session, webhook_id, dict(zip(("replay_after", "replay_upto"), bounds, strict=True)))
    _trail(session, "replay", webhook_id, {"after": after, "upto": upto}, by)
    return webhook


def _change(session: Session, webhook_id: UUID, values: dict[str, Any]) -> Webhook:
    webhook = webhook_store.change(session, webhook_id, **values)
    if webhook is None:
        raise WebhookNotFound
    return webhook


def _trail(session: Session, verb: str, webhook_id: UUID, details: dict[str, Any], by: By) -> None:
    audit.record(
        session,
        actor=by.actor,
        action=f"webhook.{verb}",
        subject=f"webhook:{webhook_id}",
        peer=by.peer,
        details=details,
        now=by.now,
    )
