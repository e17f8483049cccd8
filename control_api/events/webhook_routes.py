"""The webhooks over HTTP: administrators change them, operators see them."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter

from control_api.envelope import Success
from control_api.errors import DatabaseUnavailable, InvalidRequest, TooManyWebhooks, WebhookNotFound
from control_api.events import sending, webhook_store, webhook_wire, webhooks
from control_api.events.webhooks import By
from control_api.http import Admin, Now, Operator, Peer, Wired, answers, success
from control_api.service import Service

router = APIRouter(prefix="/api/webhooks", tags=["webhooks"])


@router.post("", status_code=201, responses=answers(TooManyWebhooks))
def create(
    wanted: webhook_wire.NewWebhook, admin: Admin, service: Wired, now: Now, peer: Peer
) -> Success[webhook_wire.WebhookWithSecret]:
    """Add a receiver of events, from now on; the answer is the only place where its secret is shown."""
    _check(service, wanted.url)
    settled = service.events.settled
    if settled is None:  # nobody knows yet where now is
        raise DatabaseUnavailable
    with service.database.transaction() as session:
        by = By(admin.actor, peer, now)
        webhook = webhooks.create(session, wanted.model_dump(mode="json"), after=settled, by=by)
    return success("Webhook created; its secret is shown this once", webhook_wire.with_secret(webhook))


@router.get("", responses=answers())
def listed(_operator: Operator, service: Wired) -> Success[webhook_wire.WebhookList]:
    """List the receivers, without their secrets."""
    with service.database.reading() as session:
        views = [webhook_wire.view(webhook) for webhook in webhook_store.every(session)]
    return success(f"{len(views)} webhooks", webhook_wire.WebhookList(webhooks=views))


@router.get("/{webhook_id}", responses=answers(WebhookNotFound))
def one(webhook_id: UUID, _operator: Operator, service: Wired) -> Success[webhook_wire.WebhookView]:
    """Show one receiver."""
    with service.database.reading() as session:
        return success("Webhook found", webhook_wire.view(webhooks.get(session, webhook_id)))


@router.patch("/{webhook_id}", responses=answers(WebhookNotFound))
def change(
    webhook_id: UUID, wanted: webhook_wire.WebhookChange, admin: Admin, service: Wired, now: Now, peer: Peer
) -> Success[webhook_wire.WebhookView]:
    """Change a receiver; one that is switched on again catches up, and what waits is tried at once."""
    if wanted.url is not None:
        _check(service, wanted.url)
    values = wanted.model_dump(mode="json", exclude_none=True)
    with service.database.transaction() as session:
        webhook = webhooks.change(session, webhook_id, values, By(admin.actor, peer, now))
    return success("Webhook changed", webhook_wire.view(webhook))


@router.post("/{webhook_id}/rotate", responses=answers(WebhookNotFound))
def rotate(
    webhook_id: UUID, admin: Admin, service: Wired, now: Now, peer: Peer
) -> Success[webhook_wire.WebhookWithSecret]:
    """Give a receiver a new secret, shown this once; for 24 hours the one before signs too."""
    with service.database.transaction() as session:
        webhook = webhooks.rotate(session, webhook_id, By(admin.actor, peer, now))
    return success("The new secret is shown this once", webhook_wire.with_secret(webhook))


@router.delete("/{webhook_id}", responses=answers(WebhookNotFound))
def remove(
    webhook_id: UUID, admin: Admin, service: Wired, now: Now, peer: Peer
) -> Success[webhook_wire.WebhookView]:
    """Remove a receiver and the record of its deliveries."""
    with service.database.transaction() as session:
        webhook = webhooks.remove(session, webhook_id, By(admin.actor, peer, now))
    return success("Webhook removed", webhook_wire.view(webhook))


def _check(service: Service, url: str) -> None:
    if (wrong := sending.refuse_url(url, local=service.settings.webhook_local)) is not None:
        raise InvalidRequest(details=(("url", wrong),))
