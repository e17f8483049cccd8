"""What was delivered to the webhooks, and replays, over HTTP, for operators."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query

from control_api.envelope import Success
from control_api.errors import DatabaseUnavailable, DeliveryNotFound, WebhookNotFound
from control_api.events import webhook_store, webhook_wire, webhooks
from control_api.events.models import State
from control_api.events.webhooks import By
from control_api.http import Now, Operator, Peer, Wired, answers, success

MAX_PAGE = 500
router = APIRouter(prefix="/api/webhooks/{webhook_id}", tags=["webhooks"])


@router.get("/deliveries", responses=answers(WebhookNotFound))
def deliveries(
    *,
    webhook_id: UUID,
    _operator: Operator,
    service: Wired,
    state: State | None = None,
    cursor: Annotated[
        str | None, Query(pattern=r"^[0-9]{1,18}$", description="nextCursor of a page.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
) -> Success[webhook_wire.DeliveryPage]:
    """List what was delivered to a receiver or will be, the newest first, and how it ended."""
    before = int(cursor) if cursor else None
    with service.database.reading() as session:
        webhooks.get(session, webhook_id)
        rows = webhook_store.deliveries(session, webhook_id, limit=limit + 1, before=before, state=state)
    views = [webhook_wire.delivery_view(row) for row in rows[:limit]]
    following = str(views[-1].id) if len(rows) > limit else None
    page = webhook_wire.DeliveryPage(deliveries=views, next_cursor=following)
    return success(f"{len(views)} deliveries", page)


@router.post("/deliveries/{delivery_id}/replay", responses=answers(WebhookNotFound, DeliveryNotFound))
def replay_one(
    *,
    webhook_id: UUID,
    delivery_id: Annotated[int, Path(ge=1, le=webhook_wire.LARGEST)],
    operator: Operator,
    service: Wired,
    now: Now,
    peer: Peer,
) -> Success[webhook_wire.DeliveryView]:
    """Deliver one event again, whether it was taken or given up."""
    with service.database.transaction() as session:
        delivery = webhooks.replay_one(session, webhook_id, delivery_id, By(operator.actor, peer, now))
    return success("The event is delivered again", webhook_wire.delivery_view(delivery))


@router.post("/replay", responses=answers(WebhookNotFound))
def replay(
    *,
    webhook_id: UUID,
    wanted: webhook_wire.Replay,
    operator: Operator,
    service: Wired,
    now: Now,
    peer: Peer,
) -> Success[webhook_wire.WebhookView]:
    """Deliver a range of events again, in order, after whatever is new; it replaces a replay under way."""
    settled = service.events.settled
    if settled is None:  # nobody knows yet which event is the newest
        raise DatabaseUnavailable
    upto = settled if wanted.upto is None else min(wanted.upto, settled)
    with service.database.transaction() as session:
        webhook = webhooks.replay(
            session, webhook_id, min(wanted.after, upto), upto, By(operator.actor, peer, now)
        )
    return success("The events are delivered again", webhook_wire.view(webhook))
