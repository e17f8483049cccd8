"""The server: the API, the supervisor, the controllers, and the node that it is itself."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from . import agent, api, controllers, identity, journal, paths, server_files, supervisor, tokens
from .cluster import Cluster
from .errors import StandInError, UsageError
from .https_server import Application, HttpsServer
from .kinds import NODES, Object
from .settings import Settings
from .store import Store

ANY_ADDRESS = {"", "0.0.0.0", "::"}
ALWAYS_NAMED = (
    "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
    "localhost", "127.0.0.1", "10.43.0.1",
)  # fmt: skip
CONTROL_PLANE = {"node-role.kubernetes.io/control-plane": "true"}


def run(files: paths.Paths, settings: Settings, stop: threading.Event, ready: Callable[[], None]) -> None:
    """Serve until `stop`; `ready` is called once the API answers and the own node is registered."""
    if settings.text("server"):
        raise UsageError("The stand-in plays one server only: remove `server` from the configuration.")
    node = agent.from_settings(files, settings)
    files.manifests.mkdir(parents=True, exist_ok=True)
    files.server.chmod(0o700)
    trusted = server_files.authorities(files)
    passwords = server_files.passwords(files, settings, trusted.server.pem())
    key = server_files.signing_key(files)
    cluster = Cluster(Store(files.database), trusted.server.pem(), key)
    cluster.begin()
    authenticator = identity.Authenticator(cluster.store.get, passwords.server, passwords.agent, key)
    joins = supervisor.Supervisor(cluster, trusted.server, trusted.client, supervisor.node_config())
    context = server_files.tls_context(files, trusted, _names(settings, node))
    _listen(settings, context, _application(cluster, authenticator, joins))
    url = _url(settings)
    server_files.write_admin_kubeconfig(files, settings, url, trusted)
    _start_controllers(cluster, files, settings, stop)
    journal.info(f"Serving on {url}")

    def own_node_is_up() -> None:
        cluster.change(NODES, "", node.name, _as_control_plane)
        journal.info("k3s is up and running (stand-in, runs no containers)")
        ready()

    token = tokens.secure(f"node:{passwords.agent}", trusted.server.pem())
    agent.Agent(files, node, url, token, stop, own_node_is_up).run()


def _application(
    cluster: Cluster, authenticator: identity.Authenticator, joins: supervisor.Supervisor
) -> Application:
    def answer(certificate: Mapping[str, Any] | None, call: api.Call) -> api.Answer:
        if call.path == "/cacerts":
            return api.Answer(joins.server_ca.pem())
        if call.path == "/ping":
            return api.Answer(b"pong")
        user = authenticator.user(certificate, call.headers.get("authorization", ""), datetime.now(UTC))
        if call.path.startswith(supervisor.PREFIX):
            return joins.handle(user, call)
        return api.handle(cluster, user, call)

    return answer


def _names(settings: Settings, node: agent.Node) -> list[str]:
    """What the serving certificate is valid for."""
    bound = [settings.text("advertise-address"), settings.text("bind-address")]
    names = [*ALWAYS_NAMED, node.name, *node.addresses, *bound, *settings.items("tls-san")]
    return [name for name in dict.fromkeys(names) if name not in ANY_ADDRESS]


def _listen(settings: Settings, context: ssl.SSLContext, application: Application) -> None:
    address = (settings.text("bind-address", "0.0.0.0"), _port(settings))
    try:
        web = HttpsServer(address, context, application)
    except OSError as exc:
        raise StandInError(f"listen tcp {address[0]}:{address[1]}: {exc.strerror}") from exc
    web.serve_in_background()


def _port(settings: Settings) -> int:
    return settings.number("https-listen-port", "6443")


def _url(settings: Settings) -> str:
    bound = settings.text("bind-address")
    host = "127.0.0.1" if bound in ANY_ADDRESS else bound
    return f"https://{f'[{host}]' if ':' in host else host}:{_port(settings)}"


def _start_controllers(
    cluster: Cluster, files: paths.Paths, settings: Settings, stop: threading.Event
) -> None:
    def seconds(key: str, default: str) -> float:
        return tokens.seconds(settings.argument("kube-controller-manager-arg", key, default))

    monitor = controllers.NodeMonitor(cluster, seconds("node-monitor-grace-period", "40s"))
    manifests = controllers.Manifests(cluster, files.manifests)
    jobs: list[tuple[str, float, Callable[[], None]]] = [
        ("node-monitor", seconds("node-monitor-period", "5s"), lambda: monitor.tick(time.monotonic())),
        ("token-cleaner", controllers.TOKEN_SECONDS, lambda: controllers.drop_expired_tokens_now(cluster)),
        ("manifests", controllers.MANIFEST_SECONDS, manifests.tick),
    ]
    for name, period, act in jobs:
        controllers.every(stop, period, name, act)


def _as_control_plane(node: Object) -> Object:
    node["metadata"]["labels"] = (node["metadata"].get("labels") or {}) | CONTROL_PLANE
    return node
