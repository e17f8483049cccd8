"""The enrolment tokens over HTTP, for administrators."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from control_api.enrolment import issuing, store, wire
from control_api.envelope import Success
from control_api.errors import EnrolmentTokenNameTaken, EnrolmentTokenNotFound
from control_api.events import audit
from control_api.http import Enroller, Now, Peer, Wired, answers, success

MAX_PAGE = 500
LARGEST = 2**31 - 1
router = APIRouter(prefix="/api/enrolment-tokens", tags=["enrolment"])


@router.post("", status_code=201, responses=answers(EnrolmentTokenNameTaken))
def create(
    wanted: wire.NewEnrolmentToken, caller: Enroller, service: Wired, now: Now, peer: Peer
) -> Success[wire.CreatedEnrolmentToken]:
    """Make an enrolment token; the answer is the only place where its secret is ever shown."""
    with service.database.transaction() as session:
        row, secret = issuing.create(session, wanted, by=caller.actor, now=now)
        audit.record(
            session,
            actor=caller.actor,
            action="enrolment_token.create",
            subject=f"token:{row.name}",
            peer=peer,
            details={"id": str(row.id), **wanted.model_dump(mode="json", by_alias=True, exclude={"name"})},
            now=now,
        )
        seen = wire.view(row, now)
    created = wire.CreatedEnrolmentToken(**seen.model_dump(), token=secret)
    return success("Enrolment token created; its secret is shown this once", created)


@router.get("", responses=answers())
def listed(
    _admin: Enroller,
    service: Wired,
    now: Now,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
    offset: Annotated[int, Query(ge=0, le=LARGEST)] = 0,
) -> Success[wire.EnrolmentTokenPage]:
    """List the enrolment tokens, the newest first, revoked ones too."""
    with service.database.reading() as session:
        rows, total = store.page(session, limit=limit, offset=offset)
        views = [wire.view(row, now) for row in rows]
    page = wire.EnrolmentTokenPage(enrolment_tokens=views, total=total, limit=limit, offset=offset)
    return success(f"{total} enrolment tokens", page)


@router.get("/{token_id}", responses=answers(EnrolmentTokenNotFound))
def one(token_id: UUID, _admin: Enroller, service: Wired, now: Now) -> Success[wire.EnrolmentTokenView]:
    """Show one enrolment token."""
    with service.database.reading() as session:
        return success("Enrolment token found", wire.view(issuing.get(session, token_id), now))


@router.delete("/{token_id}", responses=answers(EnrolmentTokenNotFound))
def revoke(
    token_id: UUID, caller: Enroller, service: Wired, now: Now, peer: Peer
) -> Success[wire.EnrolmentTokenView]:
    """Revoke an enrolment token: it lets in nobody any more; the workers that it has let in stay."""
    with service.database.transaction() as session:
        row, changed = issuing.revoke(session, token_id, now)
        if changed:
            audit.record(
                session,
                actor=caller.actor,
                action="enrolment_token.revoke",
                subject=f"token:{row.name}",
                peer=peer,
                details={"id": str(row.id)},
                now=now,
            )
        seen = wire.view(row, now)
    said = "Enrolment token revoked" if changed else "This enrolment token was revoked already"
    return success(said, seen)
