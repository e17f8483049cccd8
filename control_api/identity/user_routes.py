"""The users over HTTP, for administrators."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter

from control_api.envelope import Success
from control_api.errors import LastAdmin, Overloaded, UsernameTaken, UserNotFound
from control_api.http import AdminPerson, Now, Peer, Wired, answers, success
from control_api.identity import accounts, store, wire

router = APIRouter(prefix="/api/users", tags=["access"])


@router.get("", responses=answers())
def users(_admin: AdminPerson, service: Wired) -> Success[wire.UserList]:
    """List the users, by name."""
    with service.database.reading() as session:
        views = [wire.user_view(user) for user in store.everyone(session)]
    return success(f"{len(views)} users", wire.UserList(users=views))


@router.post("", status_code=201, responses=answers(UsernameTaken, Overloaded))
def create(
    request: wire.NewUser, admin: AdminPerson, service: Wired, now: Now, peer: Peer
) -> Success[wire.UserView]:
    """Add a user."""
    password = request.password.get_secret_value()
    user = accounts.create(
        service.database, request.username, password, request.role, actor=admin.actor, peer=peer, now=now
    )
    return success("User created", wire.user_view(user))


@router.get("/{user_id}", responses=answers(UserNotFound))
def user(user_id: UUID, _admin: AdminPerson, service: Wired) -> Success[wire.UserView]:
    """Show one user."""
    with service.database.reading() as session:
        return success("User found", wire.user_view(accounts.find(session, user_id)))


@router.patch("/{user_id}", responses=answers(UserNotFound, LastAdmin, Overloaded))
def change(
    user_id: UUID, request: wire.UserChange, admin: AdminPerson, service: Wired, now: Now, peer: Peer
) -> Success[wire.UserView]:
    """Change role, password, or whether the user may log in; every login of that user ends at once."""
    user = accounts.change(
        service.database,
        user_id,
        role=request.role,
        disabled=request.disabled,
        password=request.password.get_secret_value() if request.password else None,
        actor=admin.actor,
        peer=peer,
        now=now,
    )
    return success("User changed", wire.user_view(user))


@router.delete("/{user_id}", responses=answers(UserNotFound, LastAdmin))
def remove(user_id: UUID, admin: AdminPerson, service: Wired, now: Now, peer: Peer) -> Success[wire.UserView]:
    """Remove a user; every login of that user ends at once."""
    user = accounts.remove(service.database, user_id, actor=admin.actor, peer=peer, now=now)
    return success("User removed", wire.user_view(user))
