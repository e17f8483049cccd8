"""The cluster through its Kubernetes API: join tokens, nodes, and how many pods run on each; nothing more."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast
from uuid import UUID

import httpx2

from control_api.cluster import nodes, tokens
from control_api.cluster.nodes import NodeReport
from control_api.cluster.tokens import BootstrapToken
from control_api.errors import BadSettings, ClusterUnavailable

if TYPE_CHECKING:
    from lightkube.config.kubeconfig import SingleConfig

TIMEOUT = 5.0
CHUNK = "500"  # nodes an answer: a Node is some 10 KB, most of it the list of its images
NODES = "/api/v1/nodes"
SECRETS = "/api/v1/namespaces/kube-system/secrets"
# What kubectl prints: 200 bytes a pod instead of 5 KB, and it names the node. Served from the API server's memory.
PODS = "/api/v1/pods"
AS_TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
RUNNING = {
    "fieldSelector": "status.phase!=Succeeded,status.phase!=Failed,spec.nodeName!=",
    "includeObject": "None",
    "resourceVersion": "0",
}


class Cluster(Protocol):
    """What the control API asks of a cluster. Everything raises ClusterUnavailable."""

    def mint(self, token: BootstrapToken, worker_id: UUID, now: datetime) -> str:
        """Let machines join with this token for ten minutes; return it in the form that K3s takes."""

    def delete(self, token_id: str) -> None:
        """Delete a join token; one that is gone already is fine."""

    def nodes(self) -> list[NodeReport]:
        """List the nodes."""

    def pods(self) -> dict[str, int]:
        """Return for each node's name how many pods run on it; a node without any is left out."""

    def node(self, name: str) -> NodeReport | None:
        """Return the node of this name, None when there is none."""

    def remove_node(self, seen: NodeReport) -> bool:
        """Delete the node if it still is as it was seen, and return whether it is gone."""

    def close(self) -> None:
        """Close the connections."""


class Kubernetes:
    """A cluster that a kubeconfig names."""

    def __init__(self, kubeconfig: Path) -> None:
        """Read the kubeconfig; the cluster is asked only later. Raises BadSettings."""
        try:
            from lightkube import KubeConfig  # noqa: PLC0415 - an extra that only clusters need
            from lightkube.config import client_adapter  # noqa: PLC0415
        except ImportError:
            msg = "MUSTER_KUBECONFIG is set but lightkube is missing; install muster-paas[kube]."
            raise BadSettings(msg) from None
        try:
            config = KubeConfig.from_file(kubeconfig).get()
            self._ca = _ca_of(config)
            connecting = client_adapter.ConnectionParams(timeout=httpx2.Timeout(TIMEOUT), trust_env=False)
            self._client = client_adapter.Client(cast("SingleConfig", config), connecting)
        except Exception as exc:
            msg = f"MUSTER_KUBECONFIG names {kubeconfig}, which is not usable ({type(exc).__name__}: {exc})."
            raise BadSettings(msg) from exc

    def mint(self, token: BootstrapToken, worker_id: UUID, now: datetime) -> str:
        """Create the Secret that makes the token valid."""
        with _unavailable():
            secret = tokens.secret(token, worker_id, now)
            self._client.post(SECRETS, json=secret).raise_for_status()
        return tokens.secure_form(token, self._ca)

    def delete(self, token_id: str) -> None:
        """Delete the token's Secret."""
        with _unavailable():
            _deleted(self._client.delete(f"{SECRETS}/{tokens.secret_name(token_id)}"))

    def nodes(self) -> list[NodeReport]:
        """List the nodes, as they are stored and not as some cache has them."""
        found: list[NodeReport] = []
        query: dict[str, str] = {"limit": CHUNK}
        with _unavailable():
            while True:
                page = self._get(NODES, query)
                found += [nodes.report(item) for item in page["items"]]
                following = page["metadata"].get("continue")
                if not following:
                    return found
                query["continue"] = following

    def pods(self) -> dict[str, int]:
        """Count the pods that are not finished."""
        with _unavailable():
            return nodes.pods_by_node(self._get(PODS, RUNNING, headers=AS_TABLE))

    def node(self, name: str) -> NodeReport | None:
        """Read one node."""
        with _unavailable():
            answer = self._client.get(f"{NODES}/{name}")
            return None if answer.status_code == 404 else nodes.report(answer.raise_for_status().json())

    def remove_node(self, seen: NodeReport) -> bool:
        """Delete the node; K3s deletes its password with it. A node that has changed since is left alone."""
        preconditions = {"uid": seen.uid, "resourceVersion": seen.version}
        with _unavailable():
            answer = self._client.request(
                "DELETE", f"{NODES}/{seen.name}", json={"preconditions": preconditions}
            )
            return answer.status_code != 409 and _deleted(answer)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _get(self, path: str, query: dict[str, str], headers: dict[str, str] | None = None) -> dict[str, Any]:
        answer = self._client.get(path, params=query, headers=headers).raise_for_status().json()
        return dict(answer)


def _deleted(answer: httpx2.Response) -> bool:
    """Take what is gone already for deleted."""
    if answer.status_code != 404:
        answer.raise_for_status()
    return True


def _ca_of(config: SingleConfig | None) -> bytes:
    if config is None:
        raise ValueError("no current context")
    if config.cluster.certificate_auth_data:
        return base64.b64decode(config.cluster.certificate_auth_data)
    if config.cluster.certificate_auth:
        return Path(config.abs_file(config.cluster.certificate_auth)).read_bytes()
    raise ValueError("no certificate authority")


@contextmanager
def _unavailable() -> Iterator[None]:
    """Take whatever goes wrong for a cluster that does not answer; a proxy's answer may fail in any way."""
    try:
        yield
    except Exception as exc:
        raise ClusterUnavailable from exc
