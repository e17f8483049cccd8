"""Handing out join tokens, and taking them back."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import structlog

from control_api.cluster import replacing, store, tokens
from control_api.cluster.kubernetes import Cluster
from control_api.db import Database
from control_api.errors import ClusterUnavailable
from control_api.events import audit

log = structlog.get_logger()


class Handout(NamedTuple):
    """A join token, or None with the reason why there is none."""

    token: str | None
    problem: str | None


def hand_out(
    cluster: Cluster | None,
    database: Database,
    worker_id: UUID,
    hostname: str,
    *,
    peer: str | None,
    fallback: str | None,
    now: datetime,
) -> Handout:
    """Mint a join token for the worker; without a cluster that answers, return the static agent token.

    An old node in the machine's way is deleted first. A cluster that does not answer never breaks a
    registration: the problem is told instead.
    """
    if cluster is None:
        return Handout(fallback, None if fallback else "no cluster is configured, so there is no join token")
    try:
        replacing.make_way(cluster, database, hostname, actor=f"worker:{worker_id}", now=now)
        return Handout(_mint(cluster, database, worker_id, peer, now), None)
    except ClusterUnavailable as exc:
        log.warning(
            "no join token minted: the cluster does not answer",
            worker=str(worker_id),
            reason=str(exc.__cause__),
            fallback=bool(fallback),
        )
    return Handout(
        fallback, None if fallback else "the cluster does not answer, so there is no join token yet"
    )


def take_back(cluster: Cluster, database: Database, token_id: str, worker_id: UUID, now: datetime) -> None:
    """Delete a join token that nobody needs any more. Raises ClusterUnavailable."""
    cluster.delete(token_id)
    with database.transaction() as session:
        store.forget_join_token(session, token_id)
        audit.record(
            session,
            actor="monitor",
            action="join_token.delete",
            subject=f"join-token:{token_id}",
            details={"worker": str(worker_id)},
            now=now,
        )
    log.info("join token deleted", worker=str(worker_id), token_id=token_id)


def _mint(cluster: Cluster, database: Database, worker_id: UUID, peer: str | None, now: datetime) -> str:
    """Make a token; its id is written down first, so that it is deleted whatever happens in between."""
    token = tokens.new_token()
    with database.transaction() as session:
        store.remember_join_token(session, token.id, worker_id, now + tokens.LIFETIME)
    value = cluster.mint(token, worker_id, now)
    with database.transaction() as session:
        audit.record(
            session,
            actor=f"worker:{worker_id}",
            action="join_token.create",
            subject=f"join-token:{token.id}",
            peer=peer,
            details={"worker": str(worker_id)},
            now=now,
        )
    log.info("join token minted", worker=str(worker_id), token_id=token.id)
    return value
