"""Making way for a machine: deleting the node of its name that a machine before it has left behind."""

from __future__ import annotations

from datetime import datetime

import structlog

from control_api.cluster import nodes, stale_store
from control_api.cluster.kubernetes import Cluster
from control_api.cluster.nodes import Fate, NodeReport
from control_api.cluster.stale_store import Doubt
from control_api.db import Database
from control_api.events import audit

log = structlog.get_logger()


def make_way(cluster: Cluster, database: Database, hostname: str, *, actor: str, now: datetime) -> None:
    """Delete the node of this name if it is in doubt and its machine is gone. Raises ClusterUnavailable."""
    with database.reading() as session:
        doubts = stale_store.doubts(session, hostname)
    for doubt in doubts:
        settle(cluster, database, doubt, cluster.node(hostname), actor=actor, now=now)


def settle(
    cluster: Cluster, database: Database, doubt: Doubt, node: NodeReport | None, *, actor: str, now: datetime
) -> None:
    """Do what has to become of a node in doubt. Raises ClusterUnavailable.

    K3s refuses a machine under a known name until the node of that name is deleted, and its password with it.
    A node that has changed since it was read is left alone: the next look judges it again.
    """
    fate = nodes.fate(node, before=doubt.before, joined=doubt.joined)
    if fate is Fate.WAIT:
        return
    removed = node if fate is Fate.REMOVE else None
    if removed is not None and not cluster.remove_node(removed):
        return
    with database.transaction() as session:
        stale_store.trust_node(session, doubt)
        if removed is not None:
            audit.record(
                session,
                actor=actor,
                action="node.delete",
                subject=f"node:{doubt.name}",
                details={"uid": removed.uid, "createdAt": removed.created_at.isoformat()},
                now=now,
            )
    if removed is not None:
        log.info("node deleted: its machine is gone", node=doubt.name)
