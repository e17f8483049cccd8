"""Servers of an etcd cluster: how a second one joins the first, and what it does then.

Of etcd itself only the membership is played. The state stays with the first server, and the others pass on to it what
they are asked: so the cluster outlives any of them but the first, while K3s' own outlives that one too.
"""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from . import agent, client, errors, identity, journal, patches, paths, tokens
from .api import Answer, Call
from .cluster import Cluster, timestamp
from .errors import StandInError, Unreachable
from .identity import SERVER_ROLE, User
from .kinds import NODES, Object
from .settings import Settings

ROLE = "node-role.kubernetes.io/etcd"
VOTER = "EtcdIsVoter"
BOOTSTRAP = "/v1-k3s/server-bootstrap"
INFO = "/db/info"
SHARED = ("server-ca.crt", "server-ca.key", "client-ca.crt", "client-ca.key", "service.key")
REMOTE_USER, REMOTE_GROUPS = (
    "x-remote-user",
    "x-remote-group",
)  # Kubernetes' own, of its authenticating proxies
PASSED_ON = ("accept", "content-type", "k3s-node-name", "k3s-node-password", "k3s-node-ip")


def begin(files: paths.Paths, settings: Settings) -> bool:
    """Whether this server has its state in etcd; what it had in SQLite before is taken along."""
    if files.etcd.exists():
        return True  # the files decide, whatever the configuration says
    if not settings.switch("cluster-init"):
        return False
    files.etcd.mkdir(parents=True, mode=0o700)
    if files.database.exists():
        journal.info("Migrating content from sqlite to etcd")
        with sqlite3.connect(files.database) as database:
            database.execute("VACUUM INTO ?", (str(files.etcd / "state.db"),))
        database.close()
        files.database.rename(files.database.with_name("state.db.migrated"))
    return True


def join(files: paths.Paths, settings: Settings, node: str) -> None:
    """Become a member of the cluster of `server`, once; raises StandInError."""
    if files.etcd.exists():
        return
    url = agent.given_server(settings)
    token = tokens.parse(agent.given_token(settings, files))
    ca = agent.fetch_ca(url)
    agent.check_hash(token, ca)
    first = client.Client(url, client.trusting(ca), client.basic("server", token.password))
    try:
        shared = json.loads(first.text(BOOTSTRAP))
        members = json.loads(first.text(INFO))["members"]
    except StandInError as exc:
        raise StandInError(
            f"starting kubernetes: preparing server: failed to bootstrap cluster data: {exc}"
        ) from exc
    if node in members:
        raise StandInError(
            "etcd cluster join failed: duplicate node name found, please use a unique name for this node"
        )
    for name in SHARED:
        paths.write(files.tls / name, base64.b64decode(shared[name]))
    files.etcd.mkdir(parents=True, mode=0o700)
    journal.info(f"Adding member {node} to etcd cluster of {', '.join(members)}")


def serve_members(files: paths.Paths, cluster: Cluster, user: User, call: Call) -> Answer:
    """What only a server may ask for, by the server token: the CAs, and who the members are."""
    if SERVER_ROLE not in user.groups:
        raise errors.forbidden("forbidden")
    if call.path == BOOTSTRAP:
        shared = {name: base64.b64encode((files.tls / name).read_bytes()).decode() for name in SHARED}
        return Answer(shared)
    if not files.etcd.exists():
        raise errors.no_such_path()
    nodes = cluster.store.list(NODES)
    return Answer(
        {"members": [body["metadata"]["name"] for body in nodes if ROLE in body["metadata"]["labels"]]}
    )


def mark(admin: client.Client, node: str, labels: Mapping[str, str], *, member: bool) -> None:
    """Say on the own node what this server is."""
    path = NODES.path(None, node)
    roles = dict(labels) | ({ROLE: "true"} if member else {})
    admin.api("PATCH", path, {"metadata": {"labels": roles}}, patch=patches.MERGE)
    if member:
        admin.api("PATCH", f"{path}/status", {"status": {"conditions": [_voter()]}}, patch=patches.STRATEGIC)


def _voter() -> Object:
    return {
        "type": VOTER,
        "status": "True",
        "reason": "MemberNotLearner",
        "message": "Node is a voting member of the etcd cluster (stand-in: the first server keeps the state)",
        "lastHeartbeatTime": timestamp(),
    }


def passed_on(user: User, headers: Mapping[str, str]) -> User:
    """The user whom another server asks for; only a server may say so."""
    if identity.MASTERS not in user.groups or REMOTE_USER not in headers:
        return user
    groups = frozenset(headers.get(REMOTE_GROUPS, "").split(","))
    return User(headers[REMOTE_USER], groups | {"system:authenticated"})


@dataclass(frozen=True)
class Relay:
    """Passes on to the first server what this one is asked; `admin` is a client of the first with this one's rights."""

    first: str
    admin: client.Client
    anyone: client.Client

    def answer(self, certificate: Mapping[str, Any] | None, call: Call) -> Answer:
        headers = {name: call.headers[name] for name in PASSED_ON if name in call.headers}
        user = identity.of_certificate(certificate)
        chosen = self.admin if user else self.anyone
        if user:
            headers |= {REMOTE_USER: user.name, REMOTE_GROUPS: ",".join(sorted(user.groups))}
        elif "authorization" in call.headers:
            headers["authorization"] = call.headers["authorization"]
        path = call.path + (f"?{urlencode(call.query)}" if call.query else "")
        try:
            status, _, content = chosen.raw(call.method, path, call.body or None, headers)
        except Unreachable as exc:
            raise errors.ApiError(503, "ServiceUnavailable", self._lost()) from exc
        return Answer(json.loads(content) if content.startswith(b"{") else content, status)

    def _lost(self) -> str:
        return (
            f"etcdserver: no leader (the stand-in keeps the state on the first server, and {self.first} does not "
            "answer; a real etcd would choose another one)"
        )
