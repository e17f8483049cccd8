"""The server: the API, the supervisor, the controllers, and the node that it is itself."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import (
    agent,
    api,
    client,
    controllers,
    etcd,
    identity,
    journal,
    kubeconfig,
    paths,
    server_files,
    supervisor,
    tokens,
)
from .cluster import Cluster
from .errors import StandInError
from .https_server import Application, HttpsServer
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
    node = agent.from_settings(files, settings)
    files.manifests.mkdir(parents=True, exist_ok=True)
    files.server.chmod(0o700)
    first = settings.text("server")
    if first:
        etcd.join(files, settings, node.name)
    trusted = server_files.authorities(files)
    passwords = server_files.passwords(files, settings, trusted.server.pem())
    url = _url(settings)
    kubeconfig_file = server_files.write_admin_kubeconfig(files, settings, url, trusted)
    is_member = bool(first) or etcd.begin(files, settings)
    application = (
        _relay(first, trusted, kubeconfig_file)
        if first
        else _first_server(files, settings, stop, trusted, passwords)
    )
    context = server_files.tls_context(files, trusted, _names(settings, node))
    _listen(settings, context, application)
    journal.info(f"Serving on {url}")

    def own_node_is_up() -> None:
        admin, _ = kubeconfig.client_of(kubeconfig_file)
        etcd.mark(admin, node.name, CONTROL_PLANE, member=is_member)
        journal.info("k3s is up and running (stand-in, runs no containers)")
        ready()

    token = tokens.secure(f"node:{passwords.agent}", trusted.server.pem())
    agent.Agent(files, node, url, token, stop, own_node_is_up).run()


def _first_server(
    files: paths.Paths,
    settings: Settings,
    stop: threading.Event,
    trusted: server_files.Authorities,
    passwords: server_files.Passwords,
) -> Application:
    """The server that keeps the state."""
    key = server_files.signing_key(files)
    cluster = Cluster(Store(_kept(files, settings)), trusted.server.pem(), key)
    cluster.begin()
    authenticator = identity.Authenticator(cluster.store.get, passwords.server, passwords.agent, key)
    joins = supervisor.Supervisor(cluster, trusted.server, trusted.client, supervisor.node_config())
    _start_controllers(cluster, files, settings, stop)

    def answer(certificate: Mapping[str, Any] | None, call: api.Call) -> api.Answer:
        user = authenticator.user(certificate, call.headers.get("authorization", ""), datetime.now(UTC))
        user = etcd.passed_on(user, call.headers)
        if call.path in {etcd.BOOTSTRAP, etcd.INFO}:
            return etcd.serve_members(files, cluster, user, call)
        if call.path.startswith(supervisor.PREFIX):
            return joins.handle(user, call)
        return api.handle(cluster, user, call)

    return _open_to_strangers(trusted, answer)


def _kept(files: paths.Paths, settings: Settings) -> Path:
    """The file of the state. Of one in another database, K3s leaves no trace where it keeps SQLite's."""
    if files.etcd.exists():
        return files.etcd / "state.db"
    return files.external if settings.text("datastore-endpoint") else files.database


def _relay(first: str, trusted: server_files.Authorities, kubeconfig_file: Path) -> Application:
    """A server that has joined another."""
    admin, ca = kubeconfig.client_of(kubeconfig_file)
    anyone = client.Client(first, client.trusting(ca))
    return _open_to_strangers(trusted, etcd.Relay(first, replace(admin, url=first), anyone).answer)


def _open_to_strangers(trusted: server_files.Authorities, inner: Application) -> Application:
    def answer(certificate: Mapping[str, Any] | None, call: api.Call) -> api.Answer:
        if call.path == "/cacerts":
            return api.Answer(trusted.server.pem())
        if call.path == "/ping":
            return api.Answer(b"pong")
        return inner(certificate, call)

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
