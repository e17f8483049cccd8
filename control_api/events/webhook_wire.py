"""The JSON contract of webhooks."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import Field, StrictBool, model_validator

from control_api.envelope import Request, Wire
from control_api.events.event_store import Kind
from control_api.events.models import Delivery, State, Webhook
from control_api.workers.lifecycle import Status

LARGEST = 2**63 - 1
URL = r"^https?://[!-~]+$"
Url = Annotated[str, Field(max_length=2000, pattern=URL)]
Kinds = Annotated[
    list[Kind],
    Field(max_length=8, description="Only events of these kinds; none means all."),
]
Statuses = Annotated[
    list[Status],
    Field(
        max_length=8,
        description="Of the changes of status only those to one of these; none means all.",
    ),
]
EventId = Annotated[int, Field(strict=True, ge=0, le=LARGEST, examples=[41])]


class NewWebhook(Request):
    """A receiver to be."""

    url: Url
    kinds: Kinds = Field(default_factory=list)
    statuses: Statuses = Field(default_factory=list)
    enabled: StrictBool = True


class WebhookChange(Request):
    """What is to be different; fields that are left out stay."""

    url: Url | None = None
    kinds: Kinds | None = None
    statuses: Statuses | None = None
    enabled: StrictBool | None = None


class Replay(Request):
    """What is delivered again: the events behind `after`, up to and with `upto`; without it, up to now."""

    after: EventId
    upto: EventId | None = None

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.upto is not None and self.upto <= self.after:
            msg = "upto must be higher than after"
            raise ValueError(msg)
        return self


class Range(Wire):
    """What remains to be delivered again."""

    after: int
    upto: int


class WebhookView(Wire):
    """A receiver as it is seen.

    disabledReason: why the service gave it up. failingSince: the first failure since the last success. resumeAt:
    nothing is sent before. cursor: the last event that was looked at for it. previousSecretUntil: until then the
    secret before the last rotation signs too.
    """

    id: UUID
    url: str
    kinds: list[Kind]
    statuses: list[Status]
    enabled: bool
    disabled_reason: str | None
    failing_since: datetime | None
    resume_at: datetime | None
    cursor: int
    replay: Range | None
    previous_secret_until: datetime | None
    created_at: datetime
    updated_at: datetime


class WebhookWithSecret(WebhookView):
    """A receiver with its new secret, which is shown this once."""

    secret: str


class WebhookList(Wire):
    """The receivers, the oldest first."""

    webhooks: list[WebhookView]


class DeliveryView(Wire):
    """One event for one receiver. nextAt: of the next attempt, if there is one. answer: how the last one ended."""

    id: int
    event_id: int
    state: State
    attempts: int
    begun_at: datetime
    next_at: datetime | None
    tried_at: datetime | None
    answer: str | None


class DeliveryPage(Wire):
    """Deliveries of a receiver, the newest first; nextCursor is of the next page, null on the last one."""

    deliveries: list[DeliveryView]
    next_cursor: str | None


def view(webhook: Webhook) -> WebhookView:
    """Return what is shown of a receiver."""
    same = {name: getattr(webhook, name) for name in WebhookView.model_fields if hasattr(webhook, name)}
    after, upto = webhook.replay_after, webhook.replay_upto
    replay = None if after is None or upto is None else Range(after=after, upto=upto)
    return WebhookView(**same, replay=replay, previous_secret_until=webhook.previous_until)


def with_secret(webhook: Webhook) -> WebhookWithSecret:
    """Return what is shown of a receiver that has just got a secret."""
    return WebhookWithSecret(**view(webhook).model_dump(), secret=webhook.secret)


def delivery_view(delivery: Delivery) -> DeliveryView:
    """Return what is shown of a delivery."""
    shown = DeliveryView.model_validate(delivery, from_attributes=True)
    return shown if shown.state is State.PENDING else shown.model_copy(update={"next_at": None})
