"""K3s' supervisor, which agents join through: /v1-k3s/… as in pkg/server/handlers of K3s."""

from __future__ import annotations

from dataclasses import dataclass

from . import errors, journal, node_password, pki
from .api import Answer, Call
from .cluster import NAME, Cluster
from .identity import AGENT_ROLE, BOOTSTRAPPERS, NODE_PREFIX, NODES, User
from .kinds import NODES as NODE_KIND
from .kinds import SECRETS, Object
from .version import VERSION

PREFIX = "/v1-k3s/"
MAY_JOIN = {AGENT_ROLE, NODES, BOOTSTRAPPERS}


@dataclass(frozen=True)
class Supervisor:
    """Hands certificates to nodes that prove themselves: by token or certificate, and by node password."""

    cluster: Cluster
    server_ca: pki.Authority
    client_ca: pki.Authority
    config: Object

    def handle(self, user: User, call: Call) -> Answer:
        """Answer an authenticated request below PREFIX; raises ApiError."""
        if not MAY_JOIN & user.groups:
            raise errors.forbidden("forbidden")
        if call.method != "GET":
            raise errors.ApiError(405, "MethodNotAllowed", "method not allowed")
        name = call.path.removeprefix(PREFIX)
        if name == "config":
            return Answer(self.config)
        if name == "readyz":
            return Answer(b"ok")
        if name == "server-ca.crt":
            return Answer(self.server_ca.pem())
        if name == "client-ca.crt":
            return Answer(self.client_ca.pem())
        if name in {"serving-kubelet.crt", "client-kubelet.crt"}:
            return Answer(self._certificate(name, self._proven_node(user, call), call))
        raise errors.no_such_path()

    def _certificate(self, which: str, node: str, call: Call) -> bytes:
        if which == "client-kubelet.crt":
            certificate, key = pki.issue_client(self.client_ca, NODE_PREFIX + node, NODES)
        else:
            addresses = [
                part for part in call.headers.get("k3s-node-ip", "").split(",") if pki.is_address(part)
            ]
            certificate, key = pki.issue_server(
                self.server_ca, node, [node, "localhost", "127.0.0.1", *addresses]
            )
        return certificate + key

    def _proven_node(self, user: User, call: Call) -> str:
        name = call.headers.get("k3s-node-name", "").lower()
        password = call.headers.get("k3s-node-password", "")
        if not NAME.fullmatch(name) or not password:
            raise errors.bad_request("node name and node password must be set")
        if user.node and user.node != name:
            raise errors.bad_request("header node name does not match auth node name")
        if user.node and self.cluster.store.get(NODE_KIND, "", name) is None:
            journal.error(f'unable to verify node identity: nodes "{name}" not found')
            raise errors.unauthorized()
        self._check_password(name, password)
        return name

    def _check_password(self, node: str, password: str) -> None:
        with self.cluster.store.transaction():
            kept = self.cluster.store.get(SECRETS, "kube-system", node_password.secret_name(node))
            if kept is None:
                self.cluster.create(SECRETS, "kube-system", node_password.secret(node, password))
                return
        if not node_password.verify(kept, password):
            journal.error(f"unable to verify hash for node '{node}': password does not match")
            raise errors.forbidden(f"unable to verify password for node {node}")


def node_config(cluster_dns: str = "10.43.0.10") -> Object:
    """What /v1-k3s/config tells an agent; the stand-in's agent only needs to be let in."""
    return {"ClusterDNS": cluster_dns, "ClusterDomain": "cluster.local", "Version": VERSION, "StandIn": True}
