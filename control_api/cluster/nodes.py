"""What K3s says of its nodes, read from its JSON, and when an old node must make way for a new machine. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any, NamedTuple

from control_api.workers.lifecycle import Node


class NodeReport(NamedTuple):
    """One node: its name, which is its machine's hostname, its state, and how many pods it takes.

    uid, version: what tells this very node, in this very state, from any other.
    """

    name: str
    state: Node
    pod_capacity: int | None
    created_at: datetime
    uid: str
    version: str


class Fate(Enum):
    """What becomes of a node that may belong to an earlier life of its machine."""

    KEEP = "it belongs to the machine that has the name now"
    WAIT = "it is ready, so its machine runs"
    REMOVE = "its machine is gone"


def report(node: Mapping[str, Any]) -> NodeReport:
    """Return what counts of a Node object."""
    meta, status = node["metadata"], node.get("status") or {}
    conditions = status.get("conditions") or ()
    ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
    return NodeReport(
        name=meta["name"],
        state=Node.READY if ready else Node.NOT_READY,
        pod_capacity=_count((status.get("allocatable") or {}).get("pods")),
        created_at=datetime.fromisoformat(meta["creationTimestamp"]),
        uid=meta["uid"],
        version=meta["resourceVersion"],
    )


def pods_by_node(table: Mapping[str, Any]) -> dict[str, int]:
    """Count the rows of the table of pods, as kubectl prints it, by the node that they name."""
    columns = [column["name"] for column in table["columnDefinitions"]]
    node = columns.index("Node")
    return dict(Counter(row["cells"][node] for row in table["rows"] or ()))


def fate(node: NodeReport | None, *, before: datetime, joined: bool) -> Fate:
    """Decide about the node of a name that a new machine has taken, or whose worker was removed.

    before: when that happened; a node that was made later is the new machine's own. joined: the worker that has
    the name now says that its kubelet is well, so the node is its own. A ready node is never removed.
    """
    if (
        node is None or joined or node.created_at >= before.replace(microsecond=0)
    ):  # Kubernetes counts seconds
        return Fate.KEEP
    return Fate.WAIT if node.state is Node.READY else Fate.REMOVE


def _count(quantity: Any) -> int | None:
    """Read a number of pods; Kubernetes might write 1000 as 1k, which nobody's kubelet does."""
    text = str(quantity)
    return int(text) if text.isascii() and text.isdigit() else None
