"""API keys over HTTP, for administrators."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter

from control_api.envelope import Success
from control_api.errors import ApiKeyNotFound, KeyNameTaken
from control_api.http import AdminPerson, Now, Peer, Wired, answers, success
from control_api.identity import key_store, keys, wire

router = APIRouter(prefix="/api/api-keys", tags=["access"])


@router.get("", responses=answers())
def api_keys(_admin: AdminPerson, service: Wired) -> Success[wire.ApiKeyList]:
    """List the keys, also revoked ones, the newest first."""
    with service.database.reading() as session:
        views = [wire.key_view(key) for key in key_store.everything(session)]
    return success(f"{len(views)} API keys", wire.ApiKeyList(api_keys=views))


@router.post("", status_code=201, responses=answers(KeyNameTaken))
def create(
    request: wire.NewApiKey, admin: AdminPerson, service: Wired, now: Now, peer: Peer
) -> Success[wire.MadeApiKey]:
    """Make a key. The answer shows it, once."""
    key, stored = keys.create(
        service.database,
        request.name,
        frozenset(request.scopes),
        expires_at=request.expires_at,
        actor=admin.actor,
        peer=peer,
        now=now,
    )
    return success("API key made; it is not shown again", wire.made_key(key, stored))


@router.delete("/{key_id}", responses=answers(ApiKeyNotFound))
def revoke(
    key_id: UUID, admin: AdminPerson, service: Wired, now: Now, peer: Peer
) -> Success[wire.ApiKeyView]:
    """Revoke a key, at once."""
    revoked = keys.revoke(service.database, key_id, actor=admin.actor, peer=peer, now=now)
    return success("API key revoked", wire.key_view(revoked))
