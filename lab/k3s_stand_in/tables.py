"""Tables as kubectl prints them; pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from .kinds import NODES, PODS, SECRETS, Kind, Object

ROLE_LABEL = "node-role.kubernetes.io/"


def render(rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width, three spaces apart."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    lines = ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "".join(line.rstrip() + "\n" for line in lines)


def rows_of(
    kind: Kind, items: Sequence[Object], now: datetime, *, wide: bool, namespaces: bool
) -> list[list[str]]:
    """A heading and a row for each object."""
    heading, cells = _columns(kind, wide=wide)
    first = ["NAMESPACE"] if namespaces and kind.namespaced else []
    rows = [[*first, *heading, "AGE"] if kind is not NODES else [*first, *heading]]
    for item in items:
        place = [item["metadata"].get("namespace", "")] if first else []
        age = [] if kind is NODES else [age_of(item, now)]
        rows.append([*place, *cells(item, now), *age])
    return rows


def age_of(item: Object, now: datetime) -> str:
    created = datetime.fromisoformat(item["metadata"]["creationTimestamp"])
    return duration((now - created.astimezone(UTC)).total_seconds())


def duration(seconds: float) -> str:
    """A short human duration such as 45s, 12m, 3h20m or 5d."""
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole}s"
    if whole < 3 * 3600:
        return f"{whole // 60}m"
    return f"{whole // 3600}h" if whole < 2 * 86400 else f"{whole // 86400}d"


def node_status(node: Object) -> str:
    conditions = {entry["type"]: entry["status"] for entry in node.get("status", {}).get("conditions", [])}
    ready = {"True": "Ready", "False": "NotReady"}.get(conditions.get("Ready", ""), "NotReady")
    return ready + (",SchedulingDisabled" if node.get("spec", {}).get("unschedulable") else "")


def _columns(kind: Kind, *, wide: bool) -> tuple[list[str], Callable[[Object, datetime], list[str]]]:
    if kind is NODES and wide:
        more = ["INTERNAL-IP", "EXTERNAL-IP", "OS-IMAGE", "KERNEL-VERSION", "CONTAINER-RUNTIME"]
        return ["NAME", "STATUS", "ROLES", "AGE", "VERSION", *more], _wide_node
    if kind is NODES:
        return ["NAME", "STATUS", "ROLES", "AGE", "VERSION"], _node
    if kind is SECRETS:
        return ["NAME", "TYPE", "DATA"], lambda item, _: [
            _name(item),
            item["type"],
            str(len(item.get("data") or {})),
        ]
    if kind is PODS:
        return ["NAME", "READY", "STATUS", "RESTARTS"], lambda item, _: [_name(item), "0/0", "Unknown", "0"]
    return ["NAME"], lambda item, _: [_name(item)]


def _name(item: Object) -> str:
    return str(item["metadata"]["name"])


def _node(node: Object, now: datetime) -> list[str]:
    labels = node["metadata"].get("labels") or {}
    roles = sorted(label.removeprefix(ROLE_LABEL) for label in labels if label.startswith(ROLE_LABEL))
    version = node["status"]["nodeInfo"]["kubeletVersion"]
    return [_name(node), node_status(node), ",".join(roles) or "<none>", age_of(node, now), version]


def _wide_node(node: Object, now: datetime) -> list[str]:
    addresses = {entry["type"]: entry["address"] for entry in reversed(node["status"].get("addresses", []))}
    info = node["status"]["nodeInfo"]
    inner, outer = (addresses.get(kind, "<none>") for kind in ("InternalIP", "ExternalIP"))
    return [
        *_node(node, now),
        inner,
        outer,
        info["osImage"],
        info["kernelVersion"],
        info["containerRuntimeVersion"],
    ]
