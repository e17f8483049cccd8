"""What the server does by itself: judges silent nodes, drops expired tokens, applies manifests."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import yaml

from . import identity, journal, node_object, patches
from .cluster import Cluster, timestamp
from .errors import StandInError
from .kinds import LEASES, NODES, SECRETS, Object, of_object

MANIFEST_SECONDS, TOKEN_SECONDS = 1.0, 5.0


def every(stop: threading.Event, seconds: float, name: str, act: Callable[[], None]) -> threading.Thread:
    """Call `act` now and every so many seconds until `stop`; a failure is journalled and does not end it."""

    def loop() -> None:
        while True:
            try:
                act()
            except Exception as exc:
                journal.error(f"{name}: {type(exc).__name__}: {exc}")
            if stop.wait(seconds):
                return

    thread = threading.Thread(target=loop, name=name, daemon=True)
    thread.start()
    return thread


class NodeMonitor:
    """Marks a node's conditions Unknown when its lease has not moved for `grace` seconds.

    As Kubernetes' node lifecycle controller: what counts is when this server saw the lease move.
    """

    def __init__(self, cluster: Cluster, grace: float) -> None:
        self._cluster = cluster
        self._grace = grace
        self._seen: dict[str, tuple[str, float]] = {}

    def tick(self, now: float) -> None:
        """`now`: seconds of a monotonic clock."""
        nodes = {node["metadata"]["name"]: node for node in self._cluster.store.list(NODES)}
        leases = self._cluster.store.list(LEASES, "kube-node-lease")
        renewed = {lease["metadata"]["name"]: lease["spec"].get("renewTime", "") for lease in leases}
        self._seen = {name: self._seen[name] for name in self._seen if name in nodes}
        for name, node in nodes.items():
            moved = renewed.get(name, "")
            if self._seen.get(name, ("", 0.0))[0] != moved or name not in self._seen:
                self._seen[name] = (moved, now)
            elif now - self._seen[name][1] > self._grace and not _is_unknown(node):
                journal.warning(
                    f"Node {name} has not renewed its lease for {self._grace:g} s: marking it Unknown"
                )
                self._cluster.change(NODES, "", name, _unknown, part="status")


def _is_unknown(node: Object) -> bool:
    return all(condition.get("status") == "Unknown" for condition in _of_kubelet(node))


def _of_kubelet(node: Object) -> list[Object]:
    """Its conditions that a kubelet reports; K3s itself says who votes in etcd."""
    conditions = node.get("status", {}).get("conditions", [])
    return [condition for condition in conditions if condition["type"] in node_object.CONDITIONS]


def _unknown(node: Object) -> Object:
    for condition in _of_kubelet(node):
        condition |= {
            "status": "Unknown",
            "reason": "NodeStatusUnknown",
            "message": "Kubelet stopped posting node status.",
            "lastTransitionTime": timestamp(),
        }
    return node


def drop_expired_tokens(cluster: Cluster, now: datetime) -> None:
    for secret in cluster.store.list(SECRETS, "kube-system"):
        if secret.get("type") == identity.BOOTSTRAP_TOKEN and identity.has_expired(secret, now):
            cluster.delete(SECRETS, "kube-system", secret["metadata"]["name"])
            journal.info(f"Deleted expired bootstrap token {secret['metadata']['name']}")


def drop_expired_tokens_now(cluster: Cluster) -> None:
    drop_expired_tokens(cluster, datetime.now(UTC))


class Manifests:
    """Applies server/manifests/*.yaml when they appear or change; a removed file removes nothing (as K3s)."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self._cluster = cluster
        self._directory = directory
        self._applied: dict[Path, str] = {}

    def tick(self) -> None:
        for file in sorted(self._directory.glob("*.y*ml")):
            content = file.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            if self._applied.get(file) != digest:
                self._applied[file] = digest
                self._apply(file, content)

    def _apply(self, file: Path, content: bytes) -> None:
        try:
            documents = [document for document in yaml.safe_load_all(content) if document]
        except yaml.YAMLError as exc:
            journal.error(f"Failed to process config: failed to process {file}: {exc}")
            return
        for document in documents:
            try:
                apply_manifest(self._cluster, document)
            except StandInError as exc:
                journal.error(f"Failed to process config: failed to process {file}: {exc}")
        journal.info(f"Applied manifest {file} ({len(documents)} objects)")


def apply_manifest(cluster: Cluster, manifest: object) -> None:
    """Create or update one object; raises StandInError."""
    kind = of_object(manifest)
    given: Object = manifest if isinstance(manifest, dict) else {}
    namespace = given["metadata"].get("namespace") or "default" if kind.namespaced else ""
    cluster.apply(kind, namespace, given, lambda old: patches.apply(patches.APPLY, old, given))
