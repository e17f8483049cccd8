"""The cluster through its Kubernetes API: join tokens and the readiness of nodes, nothing more."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol
from uuid import UUID

import httpx2

from control_api.cluster import tokens
from control_api.errors import BadSettings, ClusterUnavailable

if TYPE_CHECKING:
    from lightkube.config.kubeconfig import SingleConfig

TIMEOUT = 5.0
NAMESPACE = "kube-system"


class JoinToken(NamedTuple):
    """What a worker joins K3s with, and the id that it is deleted by."""

    id: str
    value: str


class Cluster(Protocol):
    """What the control API asks of a cluster. Everything raises ClusterUnavailable."""

    def mint(self, worker_id: UUID, now: datetime) -> JoinToken:
        """Make a join token for this worker that lives ten minutes."""

    def delete(self, token_id: str) -> None:
        """Delete a join token; one that is gone already is fine."""

    def nodes(self) -> dict[str, bool]:
        """Return for each node's name whether K3s says it is ready."""

    def close(self) -> None:
        """Close the connections."""


class Kubernetes:
    """A cluster that a kubeconfig names."""

    def __init__(self, kubeconfig: Path) -> None:
        """Read the kubeconfig; the cluster is asked only later. Raises BadSettings."""
        try:
            from lightkube import Client, KubeConfig  # noqa: PLC0415 - an extra that only clusters need
        except ImportError:
            msg = "MUSTER_KUBECONFIG is set but lightkube is missing; install muster-paas[kube]."
            raise BadSettings(msg) from None
        try:
            config = KubeConfig.from_file(kubeconfig).get()
            self._ca = _ca_of(config)
            self._client = Client(config=config, timeout=httpx2.Timeout(TIMEOUT), trust_env=False)
        except Exception as exc:
            msg = f"MUSTER_KUBECONFIG names {kubeconfig}, which is not usable ({type(exc).__name__}: {exc})."
            raise BadSettings(msg) from exc

    def mint(self, worker_id: UUID, now: datetime) -> JoinToken:
        """Create the Secret that makes a fresh token valid, and return the token in its secure form."""
        from lightkube.models.meta_v1 import ObjectMeta  # noqa: PLC0415
        from lightkube.resources.core_v1 import Secret  # noqa: PLC0415

        token = tokens.new_token()
        secret = Secret(
            metadata=ObjectMeta(name=tokens.secret_name(token.id), namespace=NAMESPACE),
            type="bootstrap.kubernetes.io/token",
            data=tokens.secret_data(token, worker_id, now),
        )
        with _unavailable():
            self._client.create(secret)
        return JoinToken(token.id, tokens.secure_form(token, self._ca))

    def delete(self, token_id: str) -> None:
        """Delete the token's Secret."""
        from lightkube.resources.core_v1 import Secret  # noqa: PLC0415

        with _unavailable(missing_is_fine=True):
            self._client.delete(Secret, tokens.secret_name(token_id), namespace=NAMESPACE)

    def nodes(self) -> dict[str, bool]:
        """List the nodes."""
        from lightkube.resources.core_v1 import Node  # noqa: PLC0415

        ready = {}
        with _unavailable():
            for node in self._client.list(Node, chunk_size=500):
                conditions = (node.status.conditions if node.status else None) or []
                if node.metadata and node.metadata.name:
                    ready[node.metadata.name] = any(
                        c.type == "Ready" and c.status == "True" for c in conditions
                    )
        return ready

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _ca_of(config: SingleConfig | None) -> bytes:
    if config is None:
        raise ValueError("no current context")
    if config.cluster.certificate_auth_data:
        return base64.b64decode(config.cluster.certificate_auth_data)
    if config.cluster.certificate_auth:
        return Path(config.abs_file(config.cluster.certificate_auth)).read_bytes()
    raise ValueError("no certificate authority")


@contextmanager
def _unavailable(*, missing_is_fine: bool = False) -> Iterator[None]:
    """Take whatever goes wrong for a cluster that does not answer; a proxy's answer may fail in any way."""
    from lightkube.core.exceptions import ApiError  # noqa: PLC0415

    try:
        yield
    except Exception as exc:
        if missing_is_fine and isinstance(exc, ApiError) and exc.status.code == 404:
            return
        raise ClusterUnavailable from exc
